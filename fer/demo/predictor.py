"""Classifies the faces in a photo and draws the images that the page shows of each face."""

from __future__ import annotations

import io
import threading
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import tensorflow as tf
from PIL import Image

from fer.convert.readers import image_reader
from fer.errors import UserError
from fer.html_page import data_uri
from fer.labels import SIDE
from fer.models.loading import LoadedRun
from fer.predict import face_detection
from fer.predict.face_classifier import FaceClassifier
from fer.viz import gradcam

MAX_FACES = 32  # faces shown per photo; the largest ones are chosen
IMAGE_SIDE = 192  # side of the images of a face in pixels, four times that of the model's input


class Face(NamedTuple):
    """Face in a photo with its prediction."""

    box: face_detection.Box
    probabilities: np.ndarray  # [C] float32
    input_png: bytes  # the face as the model receives it
    gradcam_png: bytes | None  # the same under its Grad-CAM map; None if the model is an export without layers


class PhotoResult(NamedTuple):
    """Size of a photo in pixels, and the predictions for its faces."""

    width: int
    height: int
    faces: list[Face]  # from left to right


class FacePredictor:
    """Detects and classifies the faces in photos with one model, which is compiled at construction.

    Calls from several threads run one after another: OpenCV's detector is not thread-safe, and each photo needs memory.
    """

    def __init__(self, run: LoadedRun):
        self._lock = threading.Lock()
        self._classifier = FaceClassifier(run.workdir, run)
        self._classifier.predict_faces(np.zeros([1, SIDE, SIDE], np.uint8))  # compiles
        # Grad-CAM needs the layers, which an export does not have.
        self._gradcam = gradcam.make_heatmap_fn(run.model) if isinstance(run.model, tf.keras.Model) else None

    def __call__(self, content: bytes) -> PhotoResult:
        """Detects the faces in a photo and classifies them.

        Args:
          content: the bytes of an image file in one of the formats of `image_reader.FORMAT_NAMES`.

        Returns:
          At most `MAX_FACES` faces, from left to right.

        Raises:
          UserError: the format is not supported, the file is damaged, its header states too many pixels (checked before
            it is decoded), or no face is detected. The page shows the message to its user.
        """
        if not image_reader.is_picture("", content[:4096]):
            raise UserError(f"This file is not a supported image. Supported formats: {image_reader.FORMAT_NAMES}.")
        with self._lock:
            try:
                found = face_detection.extract_faces(content, "find")
            except image_reader.PictureError as error:
                raise UserError(f"This image cannot be read ({error}).") from error
            boxes = found.boxes or []
            if not boxes:
                raise UserError(
                    "No face was found in this photo. Use one with a face that looks at the camera, is not too small "
                    "and is not cut off by the border."
                )
            largest = sorted(sorted(range(len(boxes)), key=lambda number: -boxes[number].width)[:MAX_FACES])
            return PhotoResult(*found.size, self._faces(found.images[largest], [boxes[number] for number in largest]))

    def _faces(self, crops: np.ndarray, boxes: list[face_detection.Box]) -> list[Face]:
        probabilities = self._classifier.predict_faces(crops)
        maps = self._gradcam(crops, probabilities.argmax(axis=1)) if self._gradcam else [None] * len(crops)
        return [
            Face(box, row, _png(_enlarge(crop[..., 0])), None if heat is None else _png(overlay(crop[..., 0], heat)))
            for box, row, crop, heat in zip(boxes, probabilities, crops, maps)
        ]


def overlay(face: np.ndarray, heat: np.ndarray) -> Image.Image:
    """Draws a Grad-CAM map over an enlarged face. Higher values are brighter and less transparent.

    Args:
      face: [48, 48] uint8.
      heat: [48, 48] float32 in [0, 1].

    Returns:
      An RGB image of `IMAGE_SIDE` pixels a side.
    """
    smooth = np.asarray(Image.fromarray(heat).resize((IMAGE_SIDE, IMAGE_SIDE), Image.Resampling.BICUBIC)).clip(0, 1)
    colours = matplotlib.colormaps[gradcam.COLOUR_MAP](smooth)[..., :3]
    opacity = (0.25 + 0.45 * smooth)[..., np.newaxis]
    grey = np.asarray(_enlarge(face), np.float32)[..., np.newaxis] / 255
    return Image.fromarray(np.rint(255 * (opacity * colours + (1 - opacity) * grey)).astype(np.uint8))


def to_json(result: PhotoResult) -> dict[str, Any]:
    """Returns the response that the page reads: the size of the photo, and box, probabilities and images of each face.

    `seen` is the model's input and `looked_at` the Grad-CAM map, both as data URIs; `looked_at` may be None.
    """
    return {
        "width": result.width,
        "height": result.height,
        "faces": [
            {
                "box": list(face.box),
                "probabilities": [float(value) for value in face.probabilities],
                "seen": data_uri(face.input_png, "image/png"),
                "looked_at": None if face.gradcam_png is None else data_uri(face.gradcam_png, "image/png"),
            }
            for face in result.faces
        ],
    }


def _enlarge(face: np.ndarray) -> Image.Image:
    """Resizes a face to `IMAGE_SIDE` without interpolation, so that the page shows the input pixels."""
    return Image.fromarray(face).resize((IMAGE_SIDE, IMAGE_SIDE), Image.Resampling.NEAREST)


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
