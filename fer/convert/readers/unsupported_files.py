"""Unsupported file types, recognized by their first bytes, for messages that name the type and the remedy."""

from __future__ import annotations

import re

_EXPORT = "export its faces as a CSV with the columns emotion, pixels and Usage, or as pictures in class folders"
_UNPACK = "unpack it first"
_SAVE = "save it as JPEG or PNG"

_SIGNATURES = [
    (rb"\x89HDF\r\n\x1a\n", "an HDF5 file", _EXPORT),
    (rb"PAR1", "a Parquet file", _EXPORT),
    (rb"ARROW1", "an Arrow file", _EXPORT),
    (rb"\x93NUMPY", "a NumPy array", _EXPORT),
    (rb"MATLAB 5\.0", "a MATLAB file", _EXPORT),
    (rb"SQLite format 3\0", "an SQLite database", _EXPORT),
    (rb"\x80[\x02-\x05]", "a Python pickle", _EXPORT),
    (rb"\xd0\xcf\x11\xe0", "a document of Microsoft Office", _EXPORT),
    (rb"%PDF", "a PDF", _EXPORT),
    (rb"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (rb"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (rb"\x28\xb5\x2f\xfd", "a file compressed by Zstandard", _UNPACK),
    (rb"\x04\x22\x4d\x18", "a file compressed by LZ4", _UNPACK),
    (rb"\x1f\x9d", "a file compressed by compress", _UNPACK),
    (rb"....ftyp(?:hei[cxms]|hev[cxms]|mif1|msf1)", "a HEIC picture", _SAVE),
    (rb"....ftypavi[fs]", "an AVIF picture", _SAVE),
    (rb"....ftyp", "a video", "save its frames as JPEG or PNG"),
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "a JPEG 2000 picture", _SAVE),
    (rb"\0\0\0\x0cJXL |\xff\x0a", "a JPEG XL picture", _SAVE),
    (rb"8BPS", "a Photoshop picture", _SAVE),
    (rb"<svg|<\?xml[^>]*>\s*<svg", "an SVG drawing", _SAVE),
    (rb"\xff\xfe|\xfe\xff", "text in UTF-16", "save it in UTF-8"),
]


def identify(head: bytes) -> tuple[str, str] | None:
    """Returns the type of an unsupported file and the advice for it; None if it is unknown.

    Args:
      head: the first bytes of the file; 64 are enough.
    """
    for pattern, name, advice in _SIGNATURES:
        if re.match(pattern, head, re.DOTALL):
            return name, advice
    return None
