"""The last pass of a conversion: faces from the temporary store -> shards and their entries in the manifest."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os

import numpy as np

from fer.convert.ingest import IngestedDataset, bounded_map
from fer.convert.rows import SPLITS
from fer.convert.worker_pool import ParserPool
from fer.data import record_writer
from fer.data.manifest import Shard, Split
from fer.io import local_write

TARGET_SHARD_BYTES = 100_000_000  # approximate, unless the number of shards is given
MIN_TRAIN_SHARDS = 8  # minimum for a train split with `MIN_SHARD_EXAMPLES` examples per shard
MIN_SHARD_EXAMPLES = 100
BATCH_SIZE = 1024  # faces in memory at once, per worker

_EXAMPLE_BYTES = 2400


@dataclasses.dataclass(frozen=True)
class _ShardJob:
    """One shard to write."""

    path: str
    positions: np.ndarray  # of the faces in the store, ascending


def write_shards(
    folder: str,
    dataset: IngestedDataset,
    splits: np.ndarray,
    votes: np.ndarray | None,
    shards: int,
    parsers: ParserPool,
) -> dict[str, Split]:
    """Writes the shards of every split.

    The shards of a split hold its faces in the order of the source; each shard holds consecutive faces.

    Args:
      folder: existing output folder.
      dataset: the faces.
      splits: int64 [n], index into SPLITS; faces with another number are not written.
      votes: uint8 [n, 10] of FER+, or None.
      shards: number per split, or 0 to choose by size.
      parsers: its threads write.

    Returns:
      The splits that have faces, by name.
    """
    work = functools.partial(_write_shard, dataset, votes)
    written = {}
    for index, name in enumerate(SPLITS):
        members = np.flatnonzero(splits == index)
        if not len(members):
            continue
        count = _count_shards(name, len(members), shards)
        jobs = [
            _ShardJob(os.path.join(folder, f"{name}-{number:05d}-of-{count:05d}.tfrecord"), part)
            for number, part in enumerate(np.array_split(members, count))
        ]
        labels = dataset.labels[members]
        counts = np.bincount(labels[labels >= 0], minlength=len(dataset.classes)).tolist()
        files_written = tuple(bounded_map(parsers.executor, work, jobs, 2 * parsers.num_workers))
        written[name] = Split(name, len(members), dict(zip(dataset.classes, counts)), files_written)
    return written


def _write_shard(dataset: IngestedDataset, votes: np.ndarray | None, job: _ShardJob) -> Shard:
    """Writes one shard and returns its entry in the manifest."""
    digest, size = hashlib.sha256(), 0
    with open(job.path, "wb") as file:
        for start in range(0, len(job.positions), BATCH_SIZE):
            batch = job.positions[start : start + BATCH_SIZE]
            counts = None if votes is None else votes[batch]
            records = record_writer.encode_records(
                dataset.read_faces(batch), dataset.labels[batch], dataset.rows[batch], counts
            )
            file.write(records)
            digest.update(records)
            size += len(records)
    local_write.start_sync(job.path)
    return Shard(os.path.basename(job.path), len(job.positions), size, digest.hexdigest())


def _count_shards(split: str, examples: int, requested: int) -> int:
    """Returns the number of shards of a split."""
    if requested:
        return min(requested, examples)
    by_size = -(-examples * _EXAMPLE_BYTES // TARGET_SHARD_BYTES)
    if split == "train" and examples >= MIN_TRAIN_SHARDS * MIN_SHARD_EXAMPLES:
        return max(by_size, MIN_TRAIN_SHARDS)
    return by_size
