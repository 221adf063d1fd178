"""A process that parses chunks of a source: from standard input, pickled, to standard output.

`fer.convert.worker_pool` starts it.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys

from fer.convert.audit import image_hashes
from fer.convert.audit.image_hashes import ImageHashes
from fer.convert.readers import csv_reader, image_folder
from fer.convert.rows import Block

Chunk = csv_reader.Lines | image_folder.Pictures
Parsed = tuple[Block, ImageHashes]  # the faces and the rejected rows of a chunk, and the hashes of the faces


def parse_chunk(chunk: Chunk) -> Parsed:
    """Parses a chunk of a source.

    Returns:
      The faces and the rejected rows, in the order of the source, and the hashes of the faces.
    """
    if isinstance(chunk, image_folder.Pictures):
        block = image_folder.parse_pictures(chunk.pictures, chunk.labels, chunk.fit)
    else:
        block = csv_reader.parse_lines(chunk)
    return block, image_hashes.hash_images(block.images)


def main() -> None:
    """Runs a worker process: parses chunks from standard input until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles an interrupt
    try:
        while True:
            pickle.dump(parse_chunk(pickle.load(sys.stdin.buffer)), sys.stdout.buffer, pickle.HIGHEST_PROTOCOL)
            sys.stdout.buffer.flush()
    except (EOFError, BrokenPipeError):
        os._exit(0)  # the reader of standard output is gone
