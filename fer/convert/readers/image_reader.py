"""The one reader of pictures, for converting, predicting and the demo: bytes -> an upright image of eight bits.

- EXIF orientation is applied.
- Transparent pixels are composited on `BACKGROUND`.
- Grey values of more than eight bits are scaled by the picture's own range: its least becomes 0, its greatest 255.
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

from fer.convert.readers import file_signatures
from fer.labels import SIDE

if TYPE_CHECKING:
    from PIL import Image

FORMAT_NAMES = "JPEG, PNG, WebP, BMP, GIF, TIFF and PPM/PGM"
MAX_PIXELS = 64_000_000  # of a picture; one that unpacks to more is refused unread
MAX_BYTES = 256 << 20  # of a picture's file: four for each of its pixels
BACKGROUND = 128  # the grey level behind transparent pixels and beside padded pictures: FER-2013's mean is 129

# What `decode` and `read_face` may have altered, and how a summary names it.
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
# Raw files of cameras are TIFFs by their first bytes, and hold no more than a preview that Pillow reads.
_RAW_ENDINGS = (".3fr", ".arw", ".cr2", ".dng", ".erf", ".kdc", ".nef", ".nrw", ".pef", ".srw")
_ORIENTATION = 0x0112
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
_FIT_NAMES = {"stretch": "squashed", "crop": "cropped", "pad": "padded"}


class PictureError(ValueError):
    """A picture cannot be read. The text says why, without naming the file."""


class Decoded(NamedTuple):
    """An image in the mode that was asked for, and what was altered on the way, of `ALTERED`."""

    image: Image.Image
    altered: tuple[str, ...]


def is_picture(name: str, head: bytes) -> bool:
    """Returns whether a file is meant as a picture that is read: it begins as one, or is named as one.

    Args:
      name: the file's name; its ending counts.
      head: its first bytes; 64 are enough.
    """
    name = name.lower()
    return name.endswith(_ENDINGS) or (bool(_MAGIC.match(head)) and not name.endswith(_RAW_ENDINGS))


def read_size(content: bytes) -> tuple[int, int]:
    """Returns a picture's width and height as stored, without unpacking it.

    Raises:
      PictureError: it is no picture that is read, or too large.
    """
    try:
        return _open_unread(content).size
    except Exception as error:  # Pillow's readers raise whatever damaged bytes lead them to
        raise PictureError(_error_text(error)) from error


def decode_picture(content: bytes, mode: str) -> Decoded:
    """Decodes a picture.

    Args:
      content: the file's bytes.
      mode: "L" for grey, "RGB" for colour.

    Raises:
      PictureError: it is no picture that is read, or is damaged or too large.
    """
    try:
        image = _open_unread(content)
        stored, kind, tags = image.mode, image.format, getattr(image, "tag_v2", None) or {}
        altered = ["first_frame"] if _has_frames(image) else []
        image, turned = _apply_orientation(image)
        altered += ["turned"] * turned
        _check_depth(image, content)
        if image.mode.startswith(("I", "F")):
            image = _rescale(image, tags)
            altered.append("rescaled")
        image, composited = _composite(image, kind)
        altered += ["composited"] * composited
        altered += ["recoloured"] * (mode == "L" and (stored != "L" or composited))
        return Decoded(image.convert(mode), tuple(altered))
    except Exception as error:
        raise PictureError(_error_text(error)) from error


def read_face(content: bytes, fit: str = "stretch") -> tuple[np.ndarray, tuple[str, ...]]:
    """Decodes a picture as one grey face.

    Args:
      content: the file's bytes.
      fit: how a picture that is not square becomes so: stretch squashes it, crop takes its centre, pad adds margins.

    Returns:
      uint8 [48, 48], and what was altered on the way, of `ALTERED`.

    Raises:
      PictureError: as `decode`.
    """
    image, altered = decode_picture(content, "L")
    if image.size != (SIDE, SIDE):
        altered += ("resized",)
    if image.width != image.height:
        altered += (_FIT_NAMES[fit],)
    return np.asarray(_resize_to_face(image, fit)), altered


def _open_unread(content: bytes) -> Image.Image:
    """Opens a picture whose pixels are not read yet."""
    from PIL import Image, UnidentifiedImageError  # here, for a process that parses tables starts sooner without it

    if len(content) > MAX_BYTES:
        raise PictureError(f"it has more than {MAX_BYTES:,} bytes")
    _silence_libraries()
    try:
        image = Image.open(io.BytesIO(content), formats=_FORMATS)
    except UnidentifiedImageError as error:  # Pillow's words name a place in memory
        kind = file_signatures.identify(content[:64])
        found = f"it is {kind[0]}" if kind else "it is damaged or no picture"
        raise PictureError(f"{found}; {FORMAT_NAMES} are read") from error
    if image.width * image.height > MAX_PIXELS:
        raise PictureError(f"it has {image.width} x {image.height} pixels, more than {MAX_PIXELS:,}")
    return image


@functools.cache
def _silence_libraries() -> None:
    """Ignores Pillow's warnings of damaged tags and of its own limit of pixels, and what libtiff prints by itself.

    For the whole process: a filter for a block of code would be lost or kept by chance where several threads read. The
    reason of a picture that cannot be read is in the error that Pillow raises.
    """
    from PIL import Image

    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    with contextlib.suppress(OSError, AttributeError):  # a Pillow without libtiff, or with one whose names are hidden
        library = ctypes.CDLL(Image.core.__file__)  # finds the functions of the libraries that it is linked with too
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            setter = getattr(library, name)
            setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
            setter(None)


def _has_frames(image: Image.Image) -> bool:
    try:
        return bool(getattr(image, "is_animated", False)) and image.format != "MPO"  # a JPEG with a preview within
    except Exception:  # what follows the first frame is damaged, and not read
        image.seek(0)
        return False


def _apply_orientation(image: Image.Image) -> tuple[Image.Image, bool]:
    """Loads an image and turns it as its EXIF orientation says; as it is where that is damaged."""
    from PIL import ImageOps

    tags = getattr(image, "tag_v2", None)  # of a TIFF, which Pillow turns when it is loaded, dropping the tag
    before = tags.get(_ORIENTATION, 1) if tags else 1
    image.load()  # what fails here is the picture itself
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
        if orientation in range(2, 9):
            return ImageOps.exif_transpose(image), True
    except Exception:  # Pillow raises struct.error, TypeError, AttributeError and more for damaged EXIF
        return image, False
    return image, before in range(2, 9)


def _check_depth(image: Image.Image, content: bytes) -> None:
    """Refuses colours of 16 bits that use few of them: Pillow keeps the upper eight, which would be black."""
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
    """Returns a grey image of more than eight bits, its darkest value as 0 and its brightest as 255.

    Args:
      image: of a mode that begins with I or F.
      tags: of the file, if it is a TIFF.
    """
    from PIL import ImageOps

    values = np.asarray(image)
    if image.mode == "I" and tags.get(_BITS_PER_SAMPLE) == (32,) and tags.get(_SAMPLE_FORMAT, (1,)) == (1,):
        values = values.view(np.uint32)  # Pillow reads these as signed
    if tags.get(_PHOTOMETRIC) == 0:  # 0 is white, which Pillow heeds in eight bits alone
        return ImageOps.invert(_scale_to_uint8(values, image.mode))
    return _scale_to_uint8(values, image.mode)


def _scale_to_uint8(values: np.ndarray, mode: str) -> Image.Image:
    """Returns grey levels, the least value as 0 and the greatest as 255; `mode` is Pillow's of the values."""
    from PIL import Image

    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise PictureError("some of its values are not finite numbers")
    if low == high:
        return Image.new("L", (values.shape[1], values.shape[0]), int(min(max(high, 0) // 256, 255)))
    levels = np.empty(values.shape, np.uint8)
    for row, line in enumerate(values):  # line by line, for all of a large picture's in 64 bits would fill the memory
        above = line.astype(np.float64) - low
        if mode == "F":
            levels[row] = np.rint(above * (255 / (high - low)))
        else:
            levels[row] = above * 256 // (high - low + 1)  # of a full range of 16 bits, the upper eight of each value
    return Image.fromarray(levels)


def _composite(image: Image.Image, stored: str | None) -> tuple[Image.Image, bool]:
    """Puts an image with transparent pixels on `BACKGROUND`; others are returned as they are.

    Args:
      image: to look at.
      stored: the format of its file, of `_FORMATS`.

    Raises:
      PictureError: nothing of it can be seen.
    """
    from PIL import Image

    if image.mode not in ("RGBA", "RGBa", "LA", "La", "PA") and "transparency" not in image.info:
        return image, False
    solid = image.convert("RGBA")
    alpha = solid.getchannel("A")
    if alpha.getextrema()[0] == 255:
        return image, False
    if alpha.getextrema()[1] == 0:
        if stored == "BMP":  # whose fourth byte programs leave at 0
            return solid.convert("RGB"), False
        raise PictureError("all of its pixels are transparent: save it without transparency")
    below = Image.new("RGB", image.size, (BACKGROUND,) * 3)
    below.paste(solid, mask=alpha)
    return below, True


def _resize_to_face(image: Image.Image, fit: str) -> Image.Image:
    """Resizes a grey image to a face's size, by the mean of the pixels that fall on each."""
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
    """Returns why a picture cannot be read, on one line and without places in memory, which change each time."""
    text = re.sub(r"<[^<>]*\b0x[0-9a-f]+>", "it", str(error)).strip().split("\n")[0]
    if re.fullmatch(r"decoder error -\d+", text):  # of libtiff, whose own words Pillow does not pass on
        return "its pixels are damaged"
    return text or type(error).__name__
