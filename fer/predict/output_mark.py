"""Marks the pictures that a prediction writes beside its CSV file, so that it replaces no others.

The names of these pictures follow from --output, so a user may have unrelated files at their paths.
"""

from __future__ import annotations

import os
import zlib

from fer.errors import UserError
from fer.io import files

MARK = b"Written by fer-predict"
HEAD_BYTES = 256  # of a marked file, in which the mark is
_PNG_SIGNATURE, _PNG_HEADER_BYTES = b"\x89PNG", 33
_JPEG_START, _JPEG_COMMENT = b"\xff\xd8\xff\xe0", b"\xff\xfe"


def mark(content: bytes) -> bytes:
    """Returns a PNG with the mark as a text chunk, or a JFIF file with the mark as a comment, behind its header."""
    if content.startswith(_PNG_SIGNATURE):
        chunk = b"tEXtSoftware\0" + MARK
        added = (len(chunk) - 4).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
        place = _PNG_HEADER_BYTES
    else:
        assert content.startswith(_JPEG_START)
        added = _JPEG_COMMENT + (len(MARK) + 2).to_bytes(2, "big") + MARK
        place = len(_JPEG_START) + int.from_bytes(content[4:6], "big")
    return content[:place] + added + content[place:]


def check_folder(output: str, folder: str) -> None:
    """Checks that all pictures in the folder of the annotated photos are marked; other files stay as they are.

    Raises:
      UserError: one is not, or cannot be read.
    """
    for name in files.list_files(folder):
        path = os.path.join(folder, name)
        if name.lower().endswith((".png", ".jpg", ".jpeg")) and not _is_marked(path):
            raise UserError(
                f"--output={output} writes annotated photos to {folder}, where {path} was not written by an earlier "
                "prediction. Choose another --output or move that folder."
            )


def check_plot(output: str, path: str) -> None:
    """Checks that a plot is marked, or does not exist.

    Raises:
      UserError: it is not marked, or cannot be read.
    """
    if files.exists(path) and not _is_marked(path):
        raise UserError(
            f"--output={output} writes a plot to {path}, which was not written by an earlier prediction. Choose "
            "another --output or move that file."
        )


def _is_marked(path: str) -> bool:
    try:
        with files.open_file(path) as file:
            return MARK in file.read(HEAD_BYTES)
    except files.io_errors() as error:
        raise files.read_error(path, error) from error
