"""One photo, from its bytes to what a page shows of the faces in it."""

from __future__ import annotations

import base64
import io
import threading
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import tensorflow as tf
from PIL import Image

from fer.convert.readers import image_reader
from fer.convert.readers.image_folder import Picture
from fer.errors import UserError
from fer.evaluation import inference
from fer.models.loading import Run
from fer.predict import face_detection
from fer.viz import gradcam

BATCH = 16  # faces computed at once; one is as fast as the network alone would be at this size
MOST_FACES = 32  # shown of a photo, the largest
SHOWN = 192  # pixels a side of the pictures of a face: four for one that the network sees


class Face(NamedTuple):
    """A face of a photo."""

    box: face_detection.Box
    probabilities: np.ndarray  # [7] float32
    seen: bytes  # PNG, the face as the network sees it
    looked_at: bytes | None  # PNG, the same under its Grad-CAM map; None where the network cannot be looked into


class PhotoResult(NamedTuple):
    """A photo, read."""

    width: int
    height: int
    faces: list[Face]  # from left to right


class FacePredictor:
    """A network made ready. One photo at a time: neither OpenCV's detector nor the memory is made for several."""

    def __init__(self, run: Run):
        self._lock = threading.Lock()
        self._predict = inference.predictor([run.model], BATCH)
        # An export has no layers to look into.
        self._look = gradcam.make_heatmap_fn(run.model) if isinstance(run.model, tf.keras.Model) else None

    def __call__(self, content: bytes) -> PhotoResult:
        """Finds the faces in a picture and classifies them.

        Args:
          content: the bytes of a picture, of `image_reader.NAMES`.

        Raises:
          UserError: it is no such picture, is damaged or too large (which its header tells, before anything is
            unpacked), or no face is found; the text is meant for the person before the page.
        """
        if not image_reader.is_picture("", content[:4096]):
            raise UserError(f"This file is no picture that is read ({image_reader.NAMES} are).")
        with self._lock:
            try:
                image = face_detection.open_image(Picture("This file", "", content))
            except image_reader.PictureError as error:
                raise UserError(f"This file is no picture that can be read ({error}).") from error
            boxes = face_detection.find(image)
            if not boxes:
                raise UserError(
                    "No face was found in this picture. Try one in which a face is turned to the camera, not too small "
                    "and not cut off by the edge."
                )
            largest = sorted(sorted(boxes, key=lambda box: -box.width)[:MOST_FACES])
            return PhotoResult(*image.size, self._faces(image, largest))

    def _faces(self, image: Image.Image, boxes: list[face_detection.Box]) -> list[Face]:
        cuts = np.stack([face_detection.crop(image, box) for box in boxes])
        probabilities = self._predict(cuts, lambda _: None)
        maps = self._look(cuts, probabilities.argmax(axis=1)) if self._look else [None] * len(cuts)
        return [
            Face(box, row, _png(_enlarged(cut[..., 0])), None if heat is None else _png(under_heat(cut[..., 0], heat)))
            for box, row, cut, heat in zip(boxes, probabilities, cuts, maps)
        ]


def under_heat(face: np.ndarray, heat: np.ndarray) -> Image.Image:
    """A face under its map, enlarged: the more a place speaks for the class, the brighter and the less transparent.

    Args:
      face: [48, 48] uint8.
      heat: [48, 48] float32 in [0, 1].
    """
    smooth = np.asarray(Image.fromarray(heat).resize((SHOWN, SHOWN), Image.Resampling.BICUBIC)).clip(0, 1)
    colours = matplotlib.colormaps[gradcam.COLOUR_MAP](smooth)[..., :3]
    cover = (0.25 + 0.45 * smooth)[..., np.newaxis]
    grey = np.asarray(_enlarged(face), np.float32)[..., np.newaxis] / 255
    return Image.fromarray(np.rint(255 * (cover * colours + (1 - cover) * grey)).astype(np.uint8))


def as_json(found: PhotoResult) -> dict[str, Any]:
    """What the page reads: the photo's size, and of each face box, probabilities and pictures (data URIs)."""
    return {
        "width": found.width,
        "height": found.height,
        "faces": [
            {
                "box": list(face.box),
                "probabilities": [float(value) for value in face.probabilities],
                "seen": _uri(face.seen),
                "looked_at": None if face.looked_at is None else _uri(face.looked_at),
            }
            for face in found.faces
        ],
    }


def _enlarged(face: np.ndarray) -> Image.Image:
    """Each pixel a square: the page is to show what the network has, not what interpolation makes of it."""
    return Image.fromarray(face).resize((SHOWN, SHOWN), Image.Resampling.NEAREST)


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"
