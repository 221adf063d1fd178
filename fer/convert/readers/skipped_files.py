"""Counts of the files of an input that are not read, so that none is dropped silently."""

from __future__ import annotations

import collections
import os
import re
from collections.abc import Mapping

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
