"""SHA-256 of files, computed from the bytes as they are read, without a second pass."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from fer.io import files


class HashingReader:
    """Receives the bytes of files as they are read, and hashes each file that is read in order."""

    def __init__(self, consume: Callable[[int], None] = lambda _: None):
        """Prepares for files.

        Args:
          consume: called with the number of bytes of each read.
        """
        self._consume = consume
        self._files: dict[str, _FileHash] = {}

    def update(self, path: str, size: int, offset: int, content: memoryview) -> None:
        """Receives `content`, read at `offset` of a file of `size` bytes."""
        self._consume(len(content))
        self._files.setdefault(path, _FileHash(size)).update(offset, content)

    def sha256(self, path: str) -> str:
        """Returns the SHA-256 of a file in hexadecimal; a file that was not read in order is read now."""
        file = self._files.get(path)
        return file.sum if file is not None and file.sum else files.sha256(path)


class _FileHash:
    """The SHA-256 of one file, as far as it was read in order."""

    def __init__(self, size: int):
        self._size, self._hashed = size, 0
        self._digest: hashlib._Hash | None = hashlib.sha256()
        self.sum = ""

    def update(self, offset: int, content: memoryview) -> None:
        """Hashes bytes that continue those before."""
        if self._digest is None or offset != self._hashed:
            return
        self._digest.update(content)
        self._hashed += len(content)
        if self._hashed == self._size:
            self.sum, self._digest = self._digest.hexdigest(), None
