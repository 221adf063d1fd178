"""The picture decoder of conversion, prediction and demo: bytes -> an upright image of eight bits.

- EXIF orientation is applied.
- Transparent pixels are composited on `BACKGROUND`.
- Grey values of more than eight bits are scaled by the picture's own range: its minimum becomes 0, its maximum 255.
- Of several frames, the first is read.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import logging
import re
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fer.convert.readers import unsupported_files
from fer.labels import SIDE

if TYPE_CHECKING:
    from PIL import Image

FORMAT_NAMES = "JPEG, PNG, WebP, BMP, GIF, TIFF and PPM/PGM"
MAX_PIXELS = 64_000_000  # of a picture; one that declares more is rejected without decoding it
MAX_BYTES = 256 << 20  # of a picture's file: four per pixel of the largest picture
BACKGROUND = 128  # grey level behind transparent pixels and around padded pictures; the mean of FER-2013 is 129

# Alterations by `decode_picture` and `read_face`, and their description in a summary.
ALTERATIONS = {
    "resized": "were not 48x48 pixels and were resized",
    "recoloured": "were not grey in eight bits and were converted",
    "turned": "were turned upright by their EXIF orientation",
    "composited": f"have transparent pixels and were composited on grey level {BACKGROUND}",
    "rescaled": "hold more than eight bits of grey and were scaled by their own range",
    "first_frame": "have several frames, of which the first was read",
    "squashed": "are not square and were squashed (--fit=crop and --fit=pad keep their proportions)",
    "cropped": "are not square and were cropped to their centre",
    "padded": f"are not square and were padded with grey level {BACKGROUND}",
}

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")  # Pillow's names
_MAGIC = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|RIFF....WEBP|BM....\0\0\0\0|GIF8[79]a|II\*\0|MM\0\*|II\+\0|MM\0\+"
    rb"|P[1-6](?:\s+|#[^\n]*\n)+\d",
    re.DOTALL,
)
_ENDINGS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)
# Raw files of cameras begin like a TIFF, and Pillow reads only a preview of them.
_RAW_ENDINGS = (".3fr", ".arw", ".cr2", ".dng", ".erf", ".kdc", ".nef", ".nrw", ".pef", ".srw")
_ORIENTATION = 0x0112
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
_FIT_NAMES = {"stretch": "squashed", "crop": "cropped", "pad": "padded"}


class PictureError(ValueError):
    """A picture cannot be read. The message gives the reason, without naming the file."""


class Decoded(NamedTuple):
    """An image in the requested mode, and its alterations, of `ALTERATIONS`."""

    image: Image.Image
    altered: tuple[str, ...]


def is_picture(name: str, head: bytes) -> bool:
    """Returns whether a file is a picture of a supported format, by its first bytes or its name.

    Args:
      name: of the file; its extension counts.
      head: its first bytes; 64 are enough.
    """
    name = name.lower()
    return name.endswith(_ENDINGS) or (bool(_MAGIC.match(head)) and not name.endswith(_RAW_ENDINGS))


def read_size(picture: bytes | Image.Image) -> tuple[int, int]:
    """Returns a picture's stored width and height, without decoding it.

    Raises:
      PictureError: the file is not a supported picture, or is too large.
    """
    try:
        return _open_unread(picture).size
    except Exception as error:  # Pillow's readers raise various exceptions for damaged files
        raise PictureError(_error_text(error)) from error


def decode_picture(picture: bytes | Image.Image, mode: str) -> Decoded:
    """Decodes a picture.

    Args:
      picture: the bytes of the file, or an image of Pillow, which may be unread.
      mode: "L" for grey, "RGB" for colour.

    Raises:
      PictureError: the file is not a supported picture, or is damaged or too large.
    """
    try:
        image = _open_unread(picture)
        stored, kind, tags = image.mode, image.format, getattr(image, "tag_v2", None) or {}
        altered = ["first_frame"] if _has_frames(image) else []
        image, turned = _apply_orientation(image)
        altered += ["turned"] * turned
        if isinstance(picture, bytes):
            _check_depth(image, picture)
        if image.mode.startswith(("I", "F")):
            image = _rescale(image, tags)
            altered.append("rescaled")
        image, composited = _composite(image, kind)
        altered += ["composited"] * composited
        altered += ["recoloured"] * (mode == "L" and (stored != "L" or composited))
        return Decoded(image.convert(mode), tuple(altered))
    except Exception as error:
        raise PictureError(_error_text(error)) from error


def read_face(picture: bytes | Image.Image, fit: str = "stretch") -> tuple[np.ndarray, tuple[str, ...]]:
    """Decodes a picture as one grey face.

    Args:
      picture: as for `decode_picture`.
      fit: how a picture that is not square is made square: stretch squashes it, crop takes its centre, pad adds
        margins.

    Returns:
      uint8 [48, 48], and the alterations, of `ALTERATIONS`.

    Raises:
      PictureError: see `decode_picture`.
    """
    image, altered = decode_picture(picture, "L")
    if image.size != (SIDE, SIDE):
        altered += ("resized",)
    if image.width != image.height:
        altered += (_FIT_NAMES[fit],)
    return np.asarray(_resize_to_face(image, fit)), altered


def _open_unread(picture: bytes | Image.Image) -> Image.Image:
    """Opens a picture without reading its pixels."""
    from PIL import Image, UnidentifiedImageError  # here, so that processes that parse tables start faster

    _silence_libraries()
    if not isinstance(picture, bytes):
        image = picture
    elif len(picture) > MAX_BYTES:
        raise PictureError(f"it has more than {MAX_BYTES:,} bytes")
    else:
        try:
            image = Image.open(io.BytesIO(picture), formats=_FORMATS)
        except UnidentifiedImageError as error:  # Pillow's message contains a memory address
            kind = unsupported_files.identify(picture[:64])
            found = f"it is {kind[0]}" if kind else "it is damaged or no picture"
            raise PictureError(f"{found}; {FORMAT_NAMES} are read") from error
    if image.width * image.height > MAX_PIXELS:
        raise PictureError(f"it has {image.width} x {image.height} pixels, more than {MAX_PIXELS:,}")
    return image


@functools.cache
def _silence_libraries() -> None:
    """Ignores Pillow's warnings about damaged tags and its own pixel limit, and the output of libtiff.

    Applies to the whole process: filters for a block of code are not thread-safe. The error that Pillow raises holds
    the reason of an unreadable picture.
    """
    from PIL import Image

    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    with contextlib.suppress(OSError, AttributeError):  # Pillow without libtiff, or with hidden symbols
        library = ctypes.CDLL(Image.core.__file__)  # also finds the functions of the linked libraries
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            setter = getattr(library, name)
            setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
            setter(None)


def _has_frames(image: Image.Image) -> bool:
    """Returns whether a picture has several frames."""
    try:
        return bool(getattr(image, "is_animated", False)) and image.format != "MPO"  # a JPEG with a preview
    except Exception:  # the frames after the first are damaged, and not read
        image.seek(0)
        return False


def _apply_orientation(image: Image.Image) -> tuple[Image.Image, bool]:
    """Loads an image and applies its EXIF orientation, unless that is damaged. Returns whether it was turned."""
    from PIL import ImageOps

    tags = getattr(image, "tag_v2", None)  # of a TIFF; Pillow turns it while loading and drops the tag
    before = tags.get(_ORIENTATION, 1) if tags else 1
    image.load()  # an error here concerns the picture itself
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
        if orientation in range(2, 9):
            return ImageOps.exif_transpose(image), True
    except Exception:  # Pillow raises struct.error, TypeError, AttributeError and more for damaged EXIF
        return image, False
    return image, before in range(2, 9)


def _check_depth(image: Image.Image, content: bytes) -> None:
    """Checks that colours of 16 bits use the upper eight bits, which are all that Pillow reads.

    Raises:
      PictureError: the picture would be nearly black.
    """
    if image.mode not in ("RGB", "RGBA", "LA"):
        return
    tags = getattr(image, "tag_v2", None)
    bits = tags.get(_BITS_PER_SAMPLE, (8,)) if tags else (content[24],) if image.format == "PNG" else (8,)
    if 16 not in (bits if isinstance(bits, tuple) else (bits,)):
        return
    bands: Any = image.getextrema()[: 1 if image.mode == "LA" else 3]
    if max(high for _, high in bands) < 64:
        raise PictureError("it has 16 bits a colour and uses the lower 14 at most: save it with 8 bits")


def _rescale(image: Image.Image, tags: Mapping[int, Any]) -> Image.Image:
    """Returns a grey image of more than eight bits, scaled to 0 (darkest) to 255 (brightest).

    Args:
      image: of a mode that begins with I or F.
      tags: of the file, if it is a TIFF.
    """
    from PIL import ImageOps

    values = np.asarray(image)
    if image.mode == "I" and tags.get(_BITS_PER_SAMPLE) == (32,) and tags.get(_SAMPLE_FORMAT, (1,)) == (1,):
        values = values.view(np.uint32)  # Pillow reads these as signed
    if tags.get(_PHOTOMETRIC) == 0:  # 0 is white, which Pillow applies only to eight bits
        return ImageOps.invert(_scale_to_uint8(values, image.mode))
    return _scale_to_uint8(values, image.mode)


def _scale_to_uint8(values: np.ndarray, mode: str) -> Image.Image:
    """Returns grey levels scaled to 0 (minimum) to 255 (maximum); `mode` is Pillow's mode of the values."""
    from PIL import Image

    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise PictureError("some of its values are not finite numbers")
    if low == high:
        return Image.new("L", (values.shape[1], values.shape[0]), int(min(max(high, 0) // 256, 255)))
    levels = np.empty(values.shape, np.uint8)
    for row, line in enumerate(values):  # row by row: a whole large picture in 64 bits would fill the memory
        above = line.astype(np.float64) - low
        if mode == "F":
            levels[row] = np.rint(above * (255 / (high - low)))
        else:
            levels[row] = above * 256 // (high - low + 1)  # for the full range of 16 bits, the upper eight bits
    return Image.fromarray(levels)


def _composite(image: Image.Image, stored: str | None) -> tuple[Image.Image, bool]:
    """Puts an image with transparent pixels on `BACKGROUND`; returns other images unchanged.

    Args:
      image: to composite.
      stored: format of its file, of `_FORMATS`.

    Raises:
      PictureError: all pixels are transparent.
    """
    from PIL import Image

    if image.mode not in ("RGBA", "RGBa", "LA", "La", "PA") and "transparency" not in image.info:
        return image, False
    solid = image.convert("RGBA")
    alpha = solid.getchannel("A")
    if alpha.getextrema()[0] == 255:
        return image, False
    if alpha.getextrema()[1] == 0:
        if stored == "BMP":  # programs leave its fourth byte at 0
            return solid.convert("RGB"), False
        raise PictureError("all of its pixels are transparent: save it without transparency")
    below = Image.new("RGB", image.size, (BACKGROUND,) * 3)
    below.paste(solid, mask=alpha)
    return below, True


def _resize_to_face(image: Image.Image, fit: str) -> Image.Image:
    """Resizes a grey image to 48x48 pixels, each the mean of the pixels that it covers."""
    from PIL import Image

    if image.size == (SIDE, SIDE):
        return image
    width, height = image.size
    if fit == "crop":
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        return image.resize((SIDE, SIDE), Image.Resampling.BOX, box=(left, top, left + side, top + side))
    if fit == "pad" and width != height:
        scale = SIDE / max(width, height)
        inner = image.resize((max(1, round(scale * width)), max(1, round(scale * height))), Image.Resampling.BOX)
        padded = Image.new("L", (SIDE, SIDE), BACKGROUND)
        padded.paste(inner, ((SIDE - inner.width) // 2, (SIDE - inner.height) // 2))
        return padded
    return image.resize((SIDE, SIDE), Image.Resampling.BOX)


def _error_text(error: Exception) -> str:
    """Returns why a picture cannot be read, on one line and without memory addresses."""
    text = re.sub(r"<[^<>]*\b0x[0-9a-f]+>", "it", str(error)).strip().split("\n")[0]
    if re.fullmatch(r"decoder error -\d+", text):  # of libtiff, whose message Pillow does not report
        return "its pixels are damaged"
    return text or type(error).__name__
