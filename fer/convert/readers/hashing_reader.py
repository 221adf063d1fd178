"""SHA-256 of files, computed from the bytes as they are read, without a second pass."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from fer.io import files


class HashingReader:
    """Receives the bytes of files as they are read, and hashes each file that is read in order.

    Attributes:
      paths: of the files, in the order in which their reading began.
    """

    def __init__(self, consume: Callable[[int], None] = lambda _: None):
        """Prepares for files.

        Args:
          consume: called with the number of bytes of each read.
        """
        self._consume = consume
        self.paths: dict[str, None] = {}
        self._sums: dict[str, str] = {}  # of the files that were read to their end
        self._unfinished: dict[str, tuple[hashlib._Hash, int]] = {}  # with the number of bytes hashed

    def update(self, path: str, size: int, offset: int, content: memoryview) -> None:
        """Receives `content`, read at `offset` of a file of `size` bytes."""
        self._consume(len(content))
        self.paths.setdefault(path)
        digest, hashed = self._unfinished.get(path) or (hashlib.sha256(), 0)
        if path in self._sums or offset != hashed:
            return
        digest.update(content)
        self._unfinished[path] = digest, hashed + len(content)
        if hashed + len(content) == size:
            self._sums[path] = digest.hexdigest()
            del self._unfinished[path]

    def sha256(self, path: str) -> str:
        """Returns the SHA-256 of a file in hexadecimal; a file that was not read in order is read now."""
        return self._sums.get(path) or files.sha256(path)
