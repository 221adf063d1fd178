"""The rows of an epoch and their order, as stateless functions of (seed, epoch), and the batches of examples.

`uniform` uses every row once. `balanced` uses every class equally often: the draws of a run, counted from its
beginning, cycle through the classes. Within a class, the draws go through one permutation of its rows after another,
so that a rare class is repeated evenly. Draw k of a class is in permutation k // rows, so that any epoch can be
computed directly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from fer.rng import ALGORITHM

PREFETCH = 2  # batches prepared during a training step; more only uses memory

EpochOrder = Callable[[tf.Tensor], tf.Tensor]  # epoch [] int64 -> rows [steps, global_batch] int32


class BatchSchedule(NamedTuple):
    """The batches that one worker feeds: steps `start` to `stop` (exclusive), for its replicas."""

    seed: int  # of the experiment
    global_batch: int  # examples per step over all replicas; a multiple of `replicas`
    start: int  # step, counted from the beginning of the run
    stop: int
    replicas: int  # number over all workers
    local: Sequence[int]  # indices of this worker's replicas
    epochs: tf.data.Dataset | None = None  # numbers of the epochs, int64; by default those of the steps

    def epoch_numbers(self, steps: int) -> tf.data.Dataset:
        """Returns the numbers of the epochs, each of `steps` steps."""
        if self.epochs is not None:
            return self.epochs
        return tf.data.Dataset.range(self.start // steps, -(-self.stop // steps))


class Batch(NamedTuple):
    """One replica's examples for one training step."""

    images: tf.Tensor  # [B, 48, 48, 1] uint8
    labels: tf.Tensor  # [B] int32
    positions: tf.Tensor  # [B] int32: of each example in the global batch
    votes: tf.Tensor  # [B, 10] int32: of FER+, in the order of fer.labels.FERPLUS_COLUMNS; [B, 0] if not requested


class EvalBatch(NamedTuple):
    """A batch of an evaluation; the last batch is padded with examples of weight 0."""

    images: tf.Tensor  # [B, 48, 48, 1] uint8
    labels: tf.Tensor  # [B] int32
    weights: tf.Tensor  # [B] float32, 1 or 0


def epoch_order(kind: str, labels: np.ndarray, seed: int, steps: int, global_batch: int) -> EpochOrder:
    """Returns the function from the number of an epoch to the rows of its steps.

    Args:
      kind: "uniform" or "balanced".
      labels: int32 [n]; balanced sampling ignores rows with a label below 0, and classes without rows.
      seed: of the experiment.
      steps: number of steps of an epoch.
      global_batch: rows per step; `steps * global_batch` is at most n.
    """
    if kind == "balanced":
        return _balanced_order(labels, seed, steps, global_batch)

    def rows(epoch: tf.Tensor) -> tf.Tensor:
        """Returns the rows of an epoch, [steps, global_batch] int32."""
        shuffled = _shuffle(tf.range(len(labels)), tf.stack([seed, tf.cast(epoch, tf.int32)]))
        return tf.reshape(shuffled[: steps * global_batch], [steps, global_batch])

    return rows


def _balanced_order(labels: np.ndarray, seed: int, steps: int, global_batch: int) -> EpochOrder:
    """Returns the function of `epoch_order` for balanced sampling."""
    members = [np.flatnonzero(labels == label).astype(np.int32) for label in np.unique(labels[labels >= 0])]
    classes, draws = len(members), steps * global_batch

    def rows(epoch: tf.Tensor) -> tf.Tensor:
        """Returns the rows of an epoch, [steps, global_batch] int32."""
        drawn = epoch * draws + tf.range(draws, dtype=tf.int64)
        kind, turn = drawn % classes, drawn // classes
        firsts = [(epoch * draws + classes - 1 - number) // classes for number in range(classes)]
        lasts = [((epoch + 1) * draws + classes - 1 - number) // classes for number in range(classes)]
        streams = [
            _repeat_permutations(members[number], [seed, number], firsts[number], lasts[number])
            for number in range(classes)
        ]
        begins = tf.cumsum([tf.size(stream, tf.int64) for stream in streams], exclusive=True)
        ordered = tf.gather(tf.concat(streams, 0), tf.gather(begins - tf.stack(firsts), kind) + turn)
        # Shuffles within the step: otherwise a class would always have the same neighbours, which mixup and cutmix mix.
        keys = tf.random.stateless_uniform(
            [steps, global_batch], tf.stack([seed, tf.cast(epoch, tf.int32)]), alg=ALGORITHM
        )
        return tf.gather(tf.reshape(ordered, [steps, global_batch]), tf.argsort(keys, stable=True), batch_dims=1)

    return rows


def _repeat_permutations(members: np.ndarray, seed: list[int], first: tf.Tensor, last: tf.Tensor) -> tf.Tensor:
    """Returns draws `first` to `last` (exclusive) of an endless sequence of permutations of `members`."""
    count = len(members)
    begin = first // count

    def permute(number: tf.Tensor) -> tf.Tensor:
        """Returns permutation `number` of `members`."""
        folded = tf.random.experimental.stateless_fold_in(tf.constant(seed), number, alg=ALGORITHM)
        return _shuffle(tf.constant(members), folded)

    numbers = tf.range(begin, (last + count - 1) // count)
    endless = tf.reshape(tf.map_fn(permute, numbers, fn_output_signature=tf.int32), [-1])
    return endless[first - begin * count : last - begin * count]


def _shuffle(values: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Returns the values in random order."""
    return tf.random.experimental.stateless_shuffle(values, seed=seed, alg=ALGORITHM)
