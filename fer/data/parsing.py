"""The work on one piece of a source. Nothing here loads TensorFlow, so that a process that does it starts at once."""

from __future__ import annotations

from typing import Union

from fer.data import fingerprints, folders, table
from fer.data.fingerprints import Fingerprints
from fer.data.rows import Block

Piece = Union[table.Lines, folders.Pictures]


def parse(piece: Piece) -> tuple[Block, Fingerprints]:
    """The faces and rejects of a piece, in their order, and what is remembered of the faces."""
    if isinstance(piece, folders.Pictures):
        block = folders.parse(piece.pictures, piece.labels, piece.fit)
    else:
        block = table.parse(piece)
    return block, fingerprints.of(block.images)
