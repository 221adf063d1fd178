"""What was read of a source: how many bytes, and its SHA-256 without reading it a second time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from fer.io import files


class HashingReader:
    """Sees the bytes of files as they are read, and hashes each file as far as it is read in order."""

    def __init__(self, consume: Callable[[int], None] = lambda _: None):
        """`consume` is told how many bytes are read, whenever some are."""
        self._consume = consume
        self._files: dict[str, _FileHash] = {}

    def update(self, path: str, size: int, offset: int, content: memoryview) -> None:
        """Sees some bytes of a file that has `size` of them."""
        self._consume(len(content))
        self._files.setdefault(path, _FileHash(size)).update(offset, content)

    def sha256(self, path: str) -> str:
        """Of a file's bytes, in hexadecimal; what was not read in order is read now."""
        file = self._files.get(path)
        return file.sum if file is not None and file.sum else files.sha256(path)


class _FileHash:
    def __init__(self, size: int):
        self._size, self._hashed = size, 0
        self._digest: hashlib._Hash | None = hashlib.sha256()
        self.sum = ""

    def update(self, offset: int, content: memoryview) -> None:
        if self._digest is None or offset != self._hashed:
            return
        self._digest.update(content)
        self._hashed += len(content)
        if self._hashed == self._size:
            self.sum, self._digest = self._digest.hexdigest(), None
