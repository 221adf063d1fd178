"""Photos set down on disk until they are drawn on, so that memory does not grow with their number."""

from __future__ import annotations

import dataclasses
import tempfile
from typing import BinaryIO

from fer.convert.readers.image_folder import Picture
from fer.errors import UserError
from fer.io import files


@dataclasses.dataclass(frozen=True)
class Spooled:
    """A picture whose bytes are in a spool."""

    spool: PhotoStore
    name: str  # as of `Picture`, and so is path
    path: str
    start: int
    length: int

    def read(self) -> Picture:
        """The picture as it was, its bytes read again."""
        return Picture(self.name, self.path, self.spool.read(self.start, self.length))


class PhotoStore:
    """The bytes of pictures in a file without a name: it is gone when nothing refers to it, or the process ends."""

    def __init__(self) -> None:
        self._file: BinaryIO | None = None  # opened for the first picture

    def add(self, picture: Picture) -> Spooled:
        """Sets a picture down.

        Raises:
          UserError: there is no folder for such files, or the disk is full.
        """
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the pictures in it
            start = self._file.seek(0, 2)
            self._file.write(picture.content)
            self._file.flush()
        except OSError as error:
            raise UserError(
                f"Cannot keep {picture.name} in a temporary file: {files.error_message(error)}. Free some space, or "
                "name another folder in TMPDIR."
            ) from error
        return Spooled(self, picture.name, picture.path, start, len(picture.content))

    def read(self, start: int, length: int) -> bytes:
        """Some of its bytes."""
        self._file.seek(start)
        return self._file.read(length)
