"""Batches of a split, in memory or from shards; the examples of a step are a function of (seed, step) alone.

There are two implementations with the same guarantees. `fer.data.in_memory` keeps a split that fits (FER-2013 has
83 MB) as uint8 in memory. `fer.data.streaming` reads a larger one window by window. With both, training can start at
any step of any epoch without replaying the steps before it, and the global batch does not depend on the number of
replicas and workers.
"""

from __future__ import annotations

import tensorflow as tf

from fer.config import Data
from fer.data import example_codec, in_memory, streaming
from fer.data.example_codec import Faces
from fer.data.manifest import Manifest
from fer.data.sampling import BatchSchedule
from fer.data.streaming import Stream
from fer.errors import UserError

Source = Faces | Stream


def open_split(manifest: Manifest, split: str, settings: Data) -> Source:
    """Opens a split in memory or as a stream, as `settings.mode` states; `auto` decides by the bytes in the manifest.

    In either case, every byte of the shards is first checked against the SHA-256 of the manifest.

    Raises:
      UserError: there is no such split, a shard is missing or changed, or balanced sampling is configured for a stream.
    """
    size = sum(shard.bytes for shard in manifest.split(split).shards)
    fits = size <= settings.in_memory_limit_mib * 2**20
    if settings.mode == "in_memory" or (settings.mode == "auto" and fits):
        return example_codec.read_split(manifest, split)
    if split == "train" and settings.sampling == "balanced":
        raise UserError(
            f"config.data.sampling is 'balanced', which needs the {split} split in memory: its {size / 2**20:,.0f} MiB "
            f"are more than config.data.in_memory_limit_mib, {settings.in_memory_limit_mib:,}; raise that or use "
            "class_weights."
        )
    return streaming.open_stream(manifest, split, settings.shuffle_buffer_size)


def steps_per_epoch(examples: int, global_batch: int) -> int:
    """Returns the number of whole global batches in an epoch; the remaining examples change from epoch to epoch.

    Raises:
      UserError: the split is smaller than one batch.
    """
    if examples < global_batch:
        raise UserError(
            f"config.train.global_batch_size is {global_batch}, but the train split has only {examples} examples."
        )
    return examples // global_batch


def training_batches(
    source: Source, schedule: BatchSchedule, sampling: str = "uniform", votes: bool = False
) -> tf.data.Dataset:
    """Builds the batches of some training steps, for the replicas of one worker.

    Args:
      source: the train split.
      schedule: the steps and replicas.
      sampling: a value of `fer.config.Data.sampling`; a stream supports only "uniform".
      votes: whether each face comes with its FER+ votes, which the split must have.

    Returns:
      A dataset of `Batch`: for each step, one per local replica, in the order of `schedule.local`.
    """
    steps = steps_per_epoch(source.examples, schedule.global_batch)
    if isinstance(source, Stream):
        return streaming.training_batches(source, schedule, steps, votes)
    return in_memory.training_batches(source, schedule, steps, sampling, votes)


def evaluation_batches(source: Source, batch: int) -> tf.data.Dataset:
    """Builds a dataset of `EvalBatch`: every example once, in the order of the shards, in batches of one size."""
    if isinstance(source, Stream):
        return streaming.evaluation_batches(source, batch)
    return in_memory.evaluation_batches(source, batch)
