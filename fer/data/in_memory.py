"""Batches from faces in memory: an epoch is an order of rows, and a step gathers some of them."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from fer.data import sampling
from fer.data.example_codec import Faces
from fer.data.sampling import PREFETCH, Batch, BatchSchedule, EvalBatch


def training_batches(faces: Faces, schedule: BatchSchedule, steps: int, kind: str, votes: bool) -> tf.data.Dataset:
    """Builds the batches of training: see `fer.data.pipeline.training_batches`.

    `steps` is the number of steps of an epoch, `kind` the sampling.
    """
    seed, global_batch, start, stop, replicas, local, _ = schedule
    positions = tf.reshape(tf.range(global_batch), [replicas, global_batch // replicas])
    local_replicas = tf.constant(list(local), tf.int32)
    images, labels = tf.constant(faces.images), tf.constant(faces.labels)
    counts = tf.constant(faces.votes if votes else np.empty([faces.examples, 0], np.int32))
    order_of_epoch = sampling.epoch_order(kind, faces.labels, seed, steps, global_batch)

    @tf.autograph.experimental.do_not_convert
    def epoch_rows(epoch: tf.Tensor) -> tf.data.Dataset:
        """Returns the rows of each step of an epoch, [global_batch] int32."""
        first = tf.maximum(tf.constant(start, tf.int64) - epoch * steps, 0)
        return tf.data.Dataset.from_tensor_slices(order_of_epoch(epoch)[first:])

    @tf.autograph.experimental.do_not_convert
    def replica_batches(rows: tf.Tensor) -> tf.data.Dataset:
        """Splits the rows of a step among the local replicas."""
        local_positions = tf.gather(positions, local_replicas)
        return tf.data.Dataset.from_tensor_slices((tf.gather(rows, local_positions), local_positions))

    @tf.autograph.experimental.do_not_convert
    def gather(rows: tf.Tensor, local_positions: tf.Tensor) -> Batch:
        """Gathers the examples of a replica."""
        return Batch(tf.gather(images, rows), tf.gather(labels, rows), local_positions, tf.gather(counts, rows))

    batches = schedule.epoch_numbers(steps).flat_map(epoch_rows).take(stop - start).flat_map(replica_batches)
    return batches.map(gather).prefetch(PREFETCH * len(local))


def evaluation_batches(faces: Faces, batch: int) -> tf.data.Dataset:
    """Builds the batches of an evaluation: see `fer.data.pipeline.evaluation_batches`."""
    missing = -faces.examples % batch
    images, labels = tf.constant(faces.images), tf.constant(faces.labels)
    rows = np.concatenate([np.arange(faces.examples), np.zeros(missing, np.int64)]).reshape(-1, batch)
    weights = np.concatenate([np.ones(faces.examples), np.zeros(missing)]).reshape(-1, batch).astype(np.float32)

    @tf.autograph.experimental.do_not_convert
    def gather(chosen: tf.Tensor, weight: tf.Tensor) -> EvalBatch:
        """Gathers the examples of a batch."""
        return EvalBatch(tf.gather(images, chosen), tf.gather(labels, chosen), weight)

    return tf.data.Dataset.from_tensor_slices((rows, weights)).map(gather).prefetch(PREFETCH)
