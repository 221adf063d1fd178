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
    replica_batch = global_batch // replicas
    positions = tf.reshape(tf.range(global_batch), [replicas, replica_batch])
    local_positions = tf.gather(positions, tf.constant(list(local), tf.int32))
    images, labels = tf.constant(faces.images), tf.constant(faces.labels)
    counts = tf.constant(faces.votes if votes else np.empty([faces.examples, 0], np.int32))
    order_of_epoch = sampling.epoch_order(kind, faces.labels, seed, steps, global_batch)

    @tf.autograph.experimental.do_not_convert
    def epoch_rows(epoch: tf.Tensor) -> tf.data.Dataset:
        """Returns rows and positions in the global batch, int32 [replica_batch], for each step and local replica."""
        first = tf.maximum(tf.constant(start, tf.int64) - epoch * steps, 0)
        chosen = tf.gather(order_of_epoch(epoch)[first:], local_positions, axis=1)
        each_step = tf.broadcast_to(local_positions, tf.shape(chosen))
        slices = tuple(tf.reshape(value, [-1, replica_batch]) for value in (chosen, each_step))
        return tf.data.Dataset.from_tensor_slices(slices)

    @tf.autograph.experimental.do_not_convert
    def gather(rows: tf.Tensor, places: tf.Tensor) -> Batch:
        """Gathers the examples of a replica's batch."""
        return Batch(tf.gather(images, rows), tf.gather(labels, rows), places, tf.gather(counts, rows))

    rows = schedule.epoch_numbers(steps).flat_map(epoch_rows).take((stop - start) * len(local))
    return rows.map(gather).prefetch(PREFETCH * len(local))


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
