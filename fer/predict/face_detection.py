"""Detects faces in photos, crops them, and draws predictions into photos.

The detector is YuNet (W. Wu, H. Peng and S. Yu 2023, doi:10.1007/s11633-023-1423-y), which OpenCV runs. The folder
yunet has its weights; `fer.models.importers.yunet` makes the file.

The faces of FER-2013 were cropped by OpenCV's Haar cascade (Goodfellow et al. 2013, arXiv:1307.0414, section 3): the
crop is a square from forehead to chin. YuNet's box is as high as this square, narrower, and slightly lower.
"""

from __future__ import annotations

import functools
import importlib.util
import io
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fer.convert.readers import image_reader
from fer.errors import UserError, install_command
from fer.labels import SIDE, class_colours
from fer.predict import output_mark

MODEL = pathlib.Path(__file__).with_name("yunet") / "yunet.onnx"
SEARCH_SIDES = (1280, 320)  # pixels of the longer side; YuNet finds faces of about 15 to 300 pixels in each
MAX_ENLARGEMENT = 2  # of small photos
MIN_FACE_SIDE = 16  # pixels
MIN_SEARCH_SIDE = 64  # pixels; OpenCV (4.11, 4.14) convolves feature maps of one row or column wrongly
NEAR_WIDTH, NEAR_SIDE = 2, 160  # of the square around an earlier box: in widths of the box; in pixels of the search
MIN_SCORE = 0.7
MAX_OVERLAP = 0.3  # intersection over union of the boxes of two faces
MAX_JPEG_SIDE = 65_500  # pixels; libjpeg writes no longer ones
LIFT = 0.04  # from the middle of YuNet's box to that of the crop, in heights of the box


class Box(NamedTuple):
    """Bounding box of a face in a photo, in pixels."""

    left: int
    top: int
    width: int
    height: int


class FaceCrops(NamedTuple):
    """n faces of one picture, as a classifier takes them."""

    images: np.ndarray  # [n, 48, 48, 1] uint8
    boxes: list[Box] | None  # from left to right; None if the whole picture is one face
    size: tuple[int, int]  # width and height of the upright picture in pixels; [48, 48] for a whole picture
    altered: tuple[str, ...]  # of image_reader.ALTERATIONS


def extract_faces(
    picture: bytes | Image.Image,
    faces: str = "auto",
    fit: str = "stretch",
    detector: Callable[[Image.Image], list[Box]] | None = None,
) -> FaceCrops:
    """Detects and crops the faces of a picture, or takes the picture as one face.

    Args:
      picture: as for `image_reader.decode_picture`.
      faces: of `fer.config.FACES`: "find" detects the faces; "whole" takes the picture as one face; "auto" is "whole"
        for pictures of 48x48 pixels and "find" for others.
      fit: of `fer.config.FITS`, for a picture taken whole.
      detector: returns the boxes in an RGB image; `detect` by default.

    Raises:
      PictureError: it is no picture, is damaged or is too large.
      UserError: OpenCV is not installed.
    """
    if faces == "whole" or (faces == "auto" and image_reader.read_size(picture) == (SIDE, SIDE)):
        face, altered = image_reader.read_face(picture, fit)
        return FaceCrops(face.reshape(1, SIDE, SIDE, 1), None, (SIDE, SIDE), altered)
    image, altered = image_reader.decode_picture(picture, "RGB")
    boxes = (detector or detect)(image)
    crops = [crop(image, box) for box in boxes]
    return FaceCrops(np.array(crops, np.uint8).reshape(-1, SIDE, SIDE, 1), boxes, image.size, altered)


def detect(image: Image.Image) -> list[Box]:
    """Detects the faces in a photo.

    Args:
      image: RGB.

    Returns:
      Square boxes within the photo, from left to right.

    Raises:
      UserError: OpenCV is not installed.
    """
    pixels = np.asarray(image)
    scales = dict.fromkeys(min(MAX_ENLARGEMENT, side / max(image.size)) for side in SEARCH_SIDES)
    return _select(np.concatenate([_search(pixels, scale) for scale in scales]), image.size)


def detect_near(image: Image.Image, boxes: Sequence[Box]) -> list[Box]:
    """Detects the faces of a frame near those of an earlier frame, in a fraction of the time of `detect`.

    Args:
      image: RGB.
      boxes: of the faces of the earlier frame, at least one.

    Returns:
      Square boxes within the image, from left to right. They may differ by a few percent from those of `detect`.

    Raises:
      UserError: OpenCV is not installed.
    """
    pixels = np.asarray(image)
    return _select(np.concatenate([_search_near(pixels, box) for box in boxes]), image.size)


def crop(image: Image.Image, box: Box) -> np.ndarray:
    """Crops a face and resizes it to [48, 48, 1] uint8, grey."""
    part = image.crop((box.left, box.top, box.left + box.width, box.top + box.height)).convert("L")
    return np.asarray(part.resize((SIDE, SIDE), Image.Resampling.BILINEAR))[..., np.newaxis]


def annotate(
    image: Image.Image, boxes: Sequence[Box], probabilities: np.ndarray, classes: tuple[str, ...]
) -> Image.Image:
    """Draws a box around each face, with the predicted class and its probability, into a copy of a photo.

    Args:
      image: RGB.
      boxes: of n faces.
      probabilities: [n, C] of these faces.
      classes: the C names.
    """
    copy = image.copy()
    pen = ImageDraw.Draw(copy)
    size = max(14, min(image.size) // 32)
    font, line = _font(size), max(2, size // 8)
    for box, row in zip(boxes, probabilities):
        best = int(row.argmax())
        colour = class_colours(classes)[best]
        ink = "white" if _luminance(colour) < 0.5 else "black"
        outline = [box.left, box.top, box.left + box.width - 1, box.top + box.height - 1]
        pen.rectangle([outline[0] - 1, outline[1] - 1, outline[2] + 1, outline[3] + 1], outline="white", width=line + 2)
        pen.rectangle(outline, outline=colour, width=line)
        text = f"{classes[best]} {100 * row[best]:.0f} %"
        wide = pen.textlength(text, font=font) + size // 2
        left = max(0, min(box.left, image.width - wide))
        top = box.top - 1.4 * size if box.top > 1.4 * size else box.top + box.height
        top = max(0, min(top, image.height - 1.4 * size))  # a box from edge to edge has its label inside
        pen.rectangle([left, top, left + wide, top + 1.4 * size], fill=colour)
        pen.text((left + size // 4, top + 0.1 * size), text, fill=ink, font=font)
    return copy


def encode(image: Image.Image, path: str) -> bytes:
    """Encodes an image as PNG if the path ends with .png, else as JPEG, with the mark of `fer.predict.output_mark`."""
    file = io.BytesIO()
    if path.lower().endswith(".png"):
        image.save(file, "PNG")
    else:
        image.save(file, "JPEG", quality=92)
    return output_mark.mark(file.getvalue())


def _import_cv2() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise UserError(
            "Face detection needs OpenCV, which is not installed: "
            f"{install_command('photos')}, or crop the faces and use --faces=whole."
        ) from error
    return cv2


@functools.lru_cache(maxsize=len(SEARCH_SIDES) + 1)
def _detector(width: int, height: int) -> Any:
    """Returns the detector for images of one size."""
    network = np.frombuffer(MODEL.read_bytes(), np.uint8)  # on Windows OpenCV opens no path with letters beyond ASCII
    size, config = (width, height), np.empty(0, np.uint8)
    return _import_cv2().FaceDetectorYN.create("onnx", network, config, size, MIN_SCORE, MAX_OVERLAP)


def _search(pixels: np.ndarray, scale: float, min_side: int = MIN_SEARCH_SIDE) -> np.ndarray:
    """Detects faces in a resized image, padded to `min_side` pixels.

    Returns:
      float32 [n, 5]: left, top, width and height in pixels of `pixels`, and score.
    """
    cv2 = _import_cv2()
    height, width = (max(1, round(scale * side)) for side in pixels.shape[:2])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    resized = cv2.cvtColor(cv2.resize(pixels, (width, height), interpolation=method), cv2.COLOR_RGB2BGR)
    below, right = (max(0, min_side - side) for side in (height, width))
    resized = cv2.copyMakeBorder(resized, 0, below, 0, right, cv2.BORDER_CONSTANT)
    found = _detector(width + right, height + below).detect(resized)[1]
    if found is None:
        return np.empty([0, 5], np.float32)
    return found[:, [0, 1, 2, 3, -1]] / np.array([scale] * 4 + [1], np.float32)


def _search_near(pixels: np.ndarray, box: Box) -> np.ndarray:
    """Detects faces in the square around a box, as `_search`, which is resized to `NEAR_SIDE` pixels."""
    side = NEAR_WIDTH * box.width
    left, top = (max(0, start - (side - box.width) // 2) for start in (box.left, box.top))
    part = pixels[top : box.top + (side + box.width) // 2, left : box.left + (side + box.width) // 2]
    return _search(part, NEAR_SIDE / side, NEAR_SIDE) + np.array([left, top, 0, 0, 0], np.float32)


def _select(found: np.ndarray, size: tuple[int, int]) -> list[Box]:
    """Returns the boxes of results of `_search` in an image of `size`: each face once, without small ones."""
    found = found[found[:, 3] >= MIN_FACE_SIDE]
    kept = _import_cv2().dnn.NMSBoxes(found[:, :4].tolist(), found[:, 4].tolist(), MIN_SCORE, MAX_OVERLAP)
    return sorted(_square(face, size) for face in found[np.asarray(kept, int)])


def _square(face: np.ndarray, size: tuple[int, int]) -> Box:
    """Returns the square that shows a face as FER-2013 does, moved inside an image of `size`."""
    x, y, width, height = (float(value) for value in face[:4])
    side = min(round(height), *size)
    corner = (x + width / 2 - side / 2, y + height / 2 - LIFT * height - side / 2)
    left, top = (min(max(0, round(start)), end - side) for start, end in zip(corner, size))
    return Box(left, top, side, side)


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Loads a font of the matplotlib package, so that no system font is needed."""
    spec = importlib.util.find_spec("matplotlib")  # without importing matplotlib
    assert spec is not None
    assert spec.origin is not None
    package = pathlib.Path(spec.origin).parent
    return ImageFont.truetype(str(package / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def _luminance(colour: str) -> float:
    red, green, blue = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    return 0.299 * red + 0.587 * green + 0.114 * blue
