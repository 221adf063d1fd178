"""Detects faces in photos, crops them, and draws predictions into photos.

The detector is the Haar cascade of OpenCV (Viola and Jones 2001). The faces of FER-2013 were cropped with OpenCV's
detector too (Goodfellow et al. 2013, arXiv:1307.0414, section 3), so crops are framed like the training data.
"""

from __future__ import annotations

import functools
import importlib.util
import io
import pathlib
from collections.abc import Sequence
from typing import Any, Callable, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fer.convert.readers import image_reader
from fer.errors import UserError, install_command
from fer.labels import SIDE, class_colours

CASCADE = "haarcascade_frontalface_default.xml"
MIN_FACE_SIDE = 32  # pixels
SCALE_FACTOR = 1.1  # between the sizes of the search
MIN_NEIGHBOURS = 5  # overlapping detections that make a face
MAX_SEARCH_SIDE = 1600  # pixels of the longer side; larger photos are reduced to this size for the search


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
    scale = max(1.0, max(image.size) / MAX_SEARCH_SIDE)
    searched = image.convert("L")
    if scale > 1:
        searched = searched.resize([max(1, round(side / scale)) for side in image.size], Image.Resampling.BILINEAR)
    found = _detector().detectMultiScale(
        np.asarray(searched), SCALE_FACTOR, MIN_NEIGHBOURS, minSize=(MIN_FACE_SIDE, MIN_FACE_SIDE)
    )
    boxes = [Box(*(round(scale * float(value)) for value in box)) for box in found]
    return sorted(box for box in (_move_inside(box, image) for box in boxes))


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
        pen.rectangle([left, top, left + wide, top + 1.4 * size], fill=colour)
        pen.text((left + size // 4, top + 0.1 * size), text, fill=ink, font=font)
    return copy


def encode(image: Image.Image, path: str) -> bytes:
    """Encodes an image as PNG if the path ends with .png, else as JPEG."""
    file = io.BytesIO()
    if path.lower().endswith(".png"):
        image.save(file, "PNG")
    else:
        image.save(file, "JPEG", quality=92)
    return file.getvalue()


@functools.cache
def _detector() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise UserError(
            "Face detection needs OpenCV, which is not installed: "
            f"{install_command('photos')}, or crop the faces and use --faces=whole."
        ) from error
    folder: str = cv2.data.haarcascades  # type: ignore[attr-defined]  # a submodule without types
    return cv2.CascadeClassifier(folder + CASCADE)


def _move_inside(box: Box, image: Image.Image) -> Box:
    """Moves a box that rounding has pushed over the edge of the image back inside."""
    width, height = min(box.width, image.width), min(box.height, image.height)
    return Box(min(box.left, image.width - width), min(box.top, image.height - height), width, height)


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
