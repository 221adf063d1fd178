"""The last pass of a conversion: faces from the temporary store -> shards and their entries in the manifest."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os

import numpy as np
import tensorflow as tf

from fer.convert.ingest import IngestedDataset, bounded_map
from fer.convert.rows import SPLITS
from fer.data import example_codec
from fer.data.manifest import Shard, Split
from fer.io import files
from fer.io.temp_store import TempStore
from fer.labels import CLASSES

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
    survey: IngestedDataset,
    splits: np.ndarray,
    votes: np.ndarray | None,
    store: TempStore,
    shards: int,
    pool: concurrent.futures.Executor,
    workers: int,
) -> dict[str, Split]:
    """Writes the shards of every split.

    The shards of a split hold its faces in the order of the source; each shard holds consecutive faces.

    Args:
      folder: existing output folder.
      survey: the faces.
      splits: int64 [n], index into SPLITS; faces with another number are not written.
      votes: uint8 [n, 10] of FER+, or None.
      store: the pixels of the faces.
      shards: number per split, or 0 to choose by size.
      pool: threads that write.
      workers: number of threads, which does not affect the result.

    Returns:
      The splits that have faces, by name.
    """

    def work(job: _ShardJob) -> Shard:
        with tf.io.TFRecordWriter(job.path) as writer:
            for start in range(0, len(job.positions), BATCH_SIZE):
                some = job.positions[start : start + BATCH_SIZE]
                chosen = None if votes is None else votes[some]
                for message in example_codec.encode_examples(
                    store.read_faces(some), survey.labels[some], survey.rows[some], chosen
                ):
                    writer.write(message)
        size = tf.io.gfile.stat(job.path).length
        return Shard(os.path.basename(job.path), len(job.positions), size, files.sha256(job.path))

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
        labels = survey.labels[members]
        counts = np.bincount(labels[labels >= 0], minlength=len(CLASSES)).tolist()
        written[name] = Split(
            name, len(members), dict(zip(CLASSES, counts)), tuple(bounded_map(pool, work, jobs, 2 * workers))
        )
    return written


def _count_shards(split: str, examples: int, asked: int) -> int:
    """Returns the number of shards of a split."""
    if asked:
        return min(asked, examples)
    by_size = -(-examples * _EXAMPLE_BYTES // TARGET_SHARD_BYTES)
    return (
        max(by_size, MIN_TRAIN_SHARDS)
        if split == "train" and examples >= MIN_TRAIN_SHARDS * MIN_SHARD_EXAMPLES
        else by_size
    )
