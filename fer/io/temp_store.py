"""Temporary storage on disk for images, so that memory use does not grow with their number."""

from __future__ import annotations

import contextlib
import os
import tempfile
from typing import BinaryIO

import numpy as np

from fer.errors import UserError
from fer.io import files
from fer.labels import PIXELS


class TempStore:
    """Bytes in a temporary file that has no name.

    The system frees the disk space when the store is closed or not referenced any longer, or when the process ends in
    any way. One thread may append at a time. Any number of threads may read at the same time.
    """

    def __init__(self, folder: str | None = None):
        """Creates an empty store; the file is opened by the first `append`.

        Args:
          folder: local folder of the file; by default the system's folder for temporary files.
        """
        self._folder = folder
        self._file: BinaryIO | None = None
        self._size = 0

    def append(self, content: bytes | memoryview, name: str = "the images") -> int:
        """Appends bytes.

        Args:
          content: C-contiguous.
          name: of the content, for the error message.

        Returns:
          The offset for `read`, in bytes.

        Raises:
          UserError: the folder is missing or not writable, or the disk is full.
        """
        offset, length = self._size, memoryview(content).nbytes
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - closed by close()
            self._file.write(content)
            self._file.flush()  # `read` does not use the buffer
        except OSError as error:
            where = "a temporary file" if self._folder is None else f"a temporary file in {self._folder}"
            choice = "set TMPDIR to another folder" if self._folder is None else "choose another folder"
            raise UserError(
                f"Cannot write {name} to {where}: {files.error_message(error)}. Free disk space, or {choice}."
            ) from error
        self._size += length
        return offset

    def append_faces(self, images: np.ndarray) -> None:
        """Appends faces, uint8 [n, 2304]. A store that holds faces for `read_faces` holds nothing else.

        Raises:
          UserError: see `append`.
        """
        self.append(np.ascontiguousarray(images).data)

    def read(self, offset: int, length: int) -> bytes:
        """Returns `length` bytes that were appended at `offset`."""
        content = bytearray(length)
        self._read_into(memoryview(content), offset)
        return bytes(content)

    def read_faces(self, positions: np.ndarray) -> np.ndarray:
        """Returns the faces at ascending positions, int64 [n], as uint8 [n, 2304]."""
        if len(positions) and np.ptp(positions) < 2 * len(positions):  # one read of all takes less time than many
            first = int(positions[0])
            images = np.empty((int(positions[-1]) - first + 1, PIXELS), np.uint8)
            self._read_into(images.data.cast("B"), first * PIXELS)
            return images[positions - first]
        images = np.empty((len(positions), PIXELS), np.uint8)
        runs = np.flatnonzero(np.diff(positions, prepend=-2) != 1)
        for start, stop in zip(runs, [*runs[1:], len(positions)]):
            self._read_into(images[start:stop].data.cast("B"), int(positions[start]) * PIXELS)
        return images

    def close(self) -> None:
        """Closes the file, which frees its disk space."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # bytes that could not be flushed are not needed any longer
                self._file.close()

    def _read_into(self, view: memoryview, offset: int) -> None:
        """Fills a view of bytes with those from `offset` on."""
        if self._file is None or offset + len(view) > self._size:
            raise ValueError(f"bytes {offset} to {offset + len(view)} of a store of {self._size} bytes")
        while len(view):
            count = os.preadv(self._file.fileno(), [view], offset)
            view, offset = view[count:], offset + count
