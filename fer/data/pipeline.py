"""Batches from faces in memory: which face comes when is a function of (seed, epoch) and of nothing else.

FER-2013 is 83 MB, so it is read from its shards once and kept as uint8. An epoch is a permutation of the rows and
a gather a batch, and any step of any epoch can come first without replaying the ones before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from fer.data.records import Faces
from fer.errors import UserError

AHEAD = 2  # batches prepared while one is trained on; more only takes memory


class Batch(NamedTuple):
    """What one replica gets for one step."""

    images: tf.Tensor  # [B, 48, 48, 1] uint8
    labels: tf.Tensor  # [B] int32
    positions: tf.Tensor  # [B] int32: of each example in the global batch


class Weighted(NamedTuple):
    """A batch of an evaluation: the last one is filled up with examples of weight 0."""

    images: tf.Tensor  # [B, 48, 48, 1] uint8
    labels: tf.Tensor  # [B] int32
    weights: tf.Tensor  # [B] float32, 1 or 0


def steps_per_epoch(examples: int, global_batch: int) -> int:
    """Whole global batches in an epoch; what is left over changes from epoch to epoch.

    Raises:
      UserError: the split is smaller than one batch.
    """
    if examples < global_batch:
        raise UserError(
            f"config.train.global_batch is {global_batch}, but the train split has only {examples} examples."
        )
    return examples // global_batch


def training_batches(
    faces: Faces, seed: int, global_batch: int, start: int, stop: int, replicas: int, local: Sequence[int]
) -> tf.data.Dataset:
    """The batches of steps `start` to `stop` (excluded), for the replicas that one worker feeds.

    Args:
      faces: the train split.
      seed: of the experiment.
      global_batch: examples a step over all replicas; a multiple of `replicas`.
      start, stop: steps counted from the beginning of the run.
      replicas: over all workers.
      local: the numbers of this worker's replicas.

    Returns:
      A dataset of `Batch`: for each step one a local replica, in the order of `local`.
    """
    examples = len(faces.labels)
    steps = steps_per_epoch(examples, global_batch)
    share = global_batch // replicas
    positions = tf.reshape(tf.range(global_batch), [replicas, share])
    order = tf.constant(list(local), tf.int32)
    images, labels = tf.constant(faces.images), tf.constant(faces.labels)

    def epoch_rows(epoch: tf.Tensor) -> tf.data.Dataset:
        """The rows of each step of an epoch, [global_batch] int32."""
        first = tf.maximum(tf.constant(start, tf.int64) - epoch * steps, 0)
        shuffled = tf.random.experimental.stateless_shuffle(
            tf.range(examples), seed=[seed, tf.cast(epoch, tf.int32)], alg="philox"
        )
        rows = tf.reshape(shuffled[: steps * global_batch], [steps, global_batch])
        return tf.data.Dataset.from_tensor_slices(rows[first:])

    def replica_batches(rows: tf.Tensor) -> tf.data.Dataset:
        mine = tf.gather(positions, order)
        return tf.data.Dataset.from_tensor_slices((tf.gather(rows, mine), mine))

    def gather(rows: tf.Tensor, mine: tf.Tensor) -> Batch:
        return Batch(tf.gather(images, rows), tf.gather(labels, rows), mine)

    epochs = tf.data.Dataset.range(start // steps, -(-stop // steps))
    batches = epochs.flat_map(epoch_rows).take(stop - start).flat_map(replica_batches)
    return batches.map(gather).prefetch(AHEAD * len(local))


def evaluation_batches(faces: Faces, batch: int) -> tf.data.Dataset:
    """Every example once, in order, in batches of one size. Returns a dataset of `Weighted`."""
    examples = len(faces.labels)
    missing = -examples % batch
    images, labels = tf.constant(faces.images), tf.constant(faces.labels)
    rows = np.concatenate([np.arange(examples), np.zeros(missing, np.int64)]).reshape(-1, batch)
    weights = np.concatenate([np.ones(examples), np.zeros(missing)]).reshape(-1, batch).astype(np.float32)

    def gather(chosen: tf.Tensor, weight: tf.Tensor) -> Weighted:
        return Weighted(tf.gather(images, chosen), tf.gather(labels, chosen), weight)

    return tf.data.Dataset.from_tensor_slices((rows, weights)).map(gather).prefetch(AHEAD)
