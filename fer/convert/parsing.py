"""The work on one piece of a source. Nothing here loads TensorFlow, so that a process that does it starts at once."""

from __future__ import annotations

from typing import Union

from fer.convert.audit import image_hashes
from fer.convert.audit.image_hashes import ImageHashes
from fer.convert.readers import csv_reader, image_folder
from fer.convert.rows import Block

Piece = Union[csv_reader.Lines, image_folder.Pictures]


def parse(piece: Piece) -> tuple[Block, ImageHashes]:
    """The faces and rejects of a piece, in their order, and what is remembered of the faces."""
    if isinstance(piece, image_folder.Pictures):
        block = image_folder.parse(piece.pictures, piece.labels, piece.fit)
    else:
        block = csv_reader.parse(piece)
    return block, image_hashes.hash_images(block.images)
