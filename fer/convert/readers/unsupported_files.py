"""Files of an input that are not read: unsupported types, and counts, so that none is dropped silently.

Types are recognized by their first bytes, for messages that name the type and the remedy.
"""

from __future__ import annotations

import collections
import os
import re
from collections.abc import Mapping

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

HIDDEN = "hidden"
MAX_SHOWN = 12  # kinds of files in one line
MAX_KINDS = 100  # extensions that are counted separately; rarer ones are "other"

# Folders that operating systems, network storage and archivers add: previews, copies and deleted files.
_SYSTEM_FOLDERS = {
    *("__macosx", "@eadir", "@recycle", "#recycle", "#snapshot"),
    *("$recycle.bin", "system volume information", "lost+found"),
}
_OTHER = "other"
_EXTENSION = re.compile(r"\.[a-z0-9_+-]{1,12}")


def identify(head: bytes) -> tuple[str, str] | None:
    """Returns the type of an unsupported file and the advice for it; None if it is unknown.

    Args:
      head: the first bytes of the file; 64 are enough.
    """
    for pattern, name, advice in _SIGNATURES:
        if re.match(pattern, head, re.DOTALL):
            return name, advice
    return None


class SkippedFiles:
    """Counts the skipped files of an input, by extension, and hidden files and folders."""

    def __init__(self) -> None:
        self._endings: collections.Counter[str] = collections.Counter()
        self._hidden: set[str] = set()

    def add(self, path: str) -> None:
        """Counts a file of an unsupported type."""
        ending = os.path.splitext(path)[1].lower()
        self._endings[ending if _EXTENSION.fullmatch(ending) else "no ending" if not ending else _OTHER] += 1

    def hides(self, path: str) -> bool:
        """Returns whether a path is hidden or in a system folder such as @eaDir; counts its first such part once.

        Args:
          path: below the input, with "/" between folders; folders above the input may have any name.
        """
        parts = path.split("/")
        for count, part in enumerate(parts, 1):
            if (part.startswith(".") and part not in (".", "..")) or part.lower() in _SYSTEM_FOLDERS:
                self._hidden.add("/".join(parts[:count]))
                return True
        return False

    def counts(self) -> dict[str, int]:
        """Returns the number per extension, the most frequent first, and of hidden ones last."""
        endings = sorted(self._endings.items(), key=lambda entry: (-entry[1], entry[0]))
        counts = dict(endings[:MAX_KINDS])
        rare = sum(count for _, count in endings[MAX_KINDS:])
        if rare:
            counts[_OTHER] = counts.get(_OTHER, 0) + rare
        return {**counts, **({HIDDEN: len(self._hidden)} if self._hidden else {})}


def describe_counts(counts: Mapping[str, int]) -> str:
    """Returns counts in words: "24 .heic, 1 .txt, 2 hidden"."""
    shown = [f"{count:,} {kind}" for kind, count in list(counts.items())[:MAX_SHOWN]]
    more = len(counts) - len(shown)
    return ", ".join(shown) + (f" and {more} more kinds" if more else "")
