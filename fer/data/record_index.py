"""The positions of a split's records: runs of records of one length, found while every byte is checked.

Records of one length lie at regular offsets, so that any of them can be read without those before it. In a shard, the
length changes only where a row number gets another digit or a label is missing (tfrecords/README.md).
"""

from __future__ import annotations

import hashlib
import os
from typing import NamedTuple

import numpy as np

from fer.data import shard_cache
from fer.data.example_codec import shard_error
from fer.data.manifest import MANIFEST_FILE, Manifest, Shard, missing_shard_message
from fer.errors import UserError
from fer.io import files

CHUNK_RECORDS = 256  # maximum number of records: 0.6 MB, which a disk or an object store reads at full speed
FRAMING_BYTES = 16  # bytes of a record besides its data
HEADER_BYTES = 12  # of these, the bytes before the data

_READ_BYTES = 1 << 23  # bytes of a shard in memory at once


class Chunks(NamedTuple):
    """Runs of records, in the order of the split: int64 [n] each."""

    shard: np.ndarray  # number of its shard within the split
    offset: np.ndarray  # of its first record within the shard, in bytes
    length: np.ndarray  # of each record's data, in bytes
    count: np.ndarray  # type: ignore[assignment]  # number of its records; hides tuple.count


def find_chunks(manifest: Manifest, split: str) -> Chunks:
    """Reads every shard of a split once, in parts, checks its SHA-256 and finds its records.

    Raises:
      UserError: there is no such split; or a shard, which the message names, is missing, truncated, changed or foreign.
    """
    found = [
        (number, *chunk)
        for number, shard in enumerate(manifest.split(split).shards)
        for chunk in _find_shard_chunks(manifest.folder, shard)
    ]
    return Chunks(*np.array(found, np.int64).reshape(-1, 4).T)


def _find_shard_chunks(folder: str, shard: Shard) -> list[tuple[int, int, int]]:
    """Returns the chunks (offset, length, count) of a shard.

    Raises:
      UserError: the shard is missing, unreadable, truncated or changed.
    """
    path = os.path.join(folder, shard.file)
    found: list[tuple[int, int, int]] = []
    digest, rest, offset = hashlib.sha256(), b"", 0
    try:
        with open(shard_cache.local_path(folder, shard), "rb") as file:
            while part := file.read(_READ_BYTES):
                digest.update(part)
                content = rest + part
                used = _add_chunks(path, content, offset, found)
                offset, rest = offset + used, content[used:]
    except FileNotFoundError as error:
        raise UserError(missing_shard_message(path)) from error
    except OSError as error:
        raise UserError(f"Cannot read {path}: {files.error_message(error)}.") from error
    if digest.hexdigest() != shard.sha256:
        raise shard_error(path, f"has another SHA-256 than {MANIFEST_FILE} states")
    if rest:
        raise shard_error(path, "ends within a record")
    examples = sum(count for _, _, count in found)
    if examples != shard.examples:
        raise shard_error(path, f"holds {examples:,} faces where {MANIFEST_FILE} states {shard.examples:,}")
    return found


def _add_chunks(path: str, content: bytes, offset: int, found: list[tuple[int, int, int]]) -> int:
    """Adds the chunks (offset, length, count) of the whole records in `content` to `found`. Returns their bytes."""
    table, at = np.frombuffer(content, np.uint8), 0
    while len(content) - at >= HEADER_BYTES:
        length = int.from_bytes(content[at : at + 8], "little")
        if length > _READ_BYTES:
            raise shard_error(path, f"has a record of {length:,} bytes")
        stride = length + FRAMING_BYTES
        whole = min((len(content) - at) // stride, CHUNK_RECORDS)
        if not whole:
            break
        heads = np.lib.stride_tricks.as_strided(table[at:], (whole, 8), (stride, 1))
        alike = (heads == heads[0]).all(axis=1)
        count = whole if alike.all() else int(alike.argmin())
        found.append((offset + at, length, count))
        at += count * stride
    return at
