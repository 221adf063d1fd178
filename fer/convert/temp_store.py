"""Faces set down on disk between reading and writing, so that memory does not grow with the data."""

from __future__ import annotations

import contextlib
import os
import tempfile

import numpy as np

from fer.errors import UserError
from fer.io import files
from fer.labels import PIXELS


class TempStore:
    """Faces in a file without a name: it is gone when the process is, however that ends."""

    def __init__(self, folder: str):
        """Opens it in a local folder."""
        try:
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by close()
        except OSError as error:
            raise UserError(
                f"Cannot write into {folder}: {files.error_message(error)}. Choose another folder."
            ) from error
        self._where = folder

    def append(self, images: np.ndarray) -> None:
        """Sets down uint8 [n, 2304].

        Raises:
          UserError: the disk is full.
        """
        try:
            self._file.write(np.ascontiguousarray(images).data)
        except OSError as error:
            raise UserError(
                f"Cannot write into {self._where}: {files.error_message(error)}. Free some space."
            ) from error

    def finish(self) -> None:
        """Ends the writing; from here on `read` may be called."""
        try:
            self._file.flush()
        except OSError as error:
            raise UserError(
                f"Cannot write into {self._where}: {files.error_message(error)}. Free some space."
            ) from error

    def read(self, positions: np.ndarray) -> np.ndarray:
        """The faces at ascending positions, int64 [n], as uint8 [n, 2304]. Threads may call it at once."""
        images = np.empty((len(positions), PIXELS), np.uint8)
        runs = np.flatnonzero(np.diff(positions, prepend=-2) != 1)
        for start, stop in zip(runs, [*runs[1:], len(positions)]):
            self._read_run(images[start:stop], int(positions[start]))
        return images

    def close(self) -> None:
        """Gives the disk back."""
        with contextlib.suppress(OSError):  # what could not be flushed is not wanted any more
            self._file.close()

    def _read_run(self, images: np.ndarray, first: int) -> None:
        view, offset = memoryview(images).cast("B"), first * PIXELS
        while len(view):
            count = os.preadv(self._file.fileno(), [view], offset)
            view, offset = view[count:], offset + count
