"""Batches from faces in memory: an epoch is a plan of its rows, a step a gather of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from fer.data import sampling
from fer.data.example_codec import Faces
from fer.data.sampling import PREFETCH, Batch, EvalBatch


def training_batches(
    faces: Faces,
    seed: int,
    global_batch: int,
    steps: int,
    start: int,
    stop: int,
    replicas: int,
    local: Sequence[int],
    kind: str,
    votes: bool,
) -> tf.data.Dataset:
    """See `fer.data.pipeline.training_batches`; `steps` are those of an epoch, `kind` is how rows are sampled."""
    share = global_batch // replicas
    positions = tf.reshape(tf.range(global_batch), [replicas, share])
    order = tf.constant(list(local), tf.int32)
    images, labels = tf.constant(faces.images), tf.constant(faces.labels)
    counts = tf.constant(faces.votes if votes else np.empty([faces.examples, 0], np.int32))
    planned = sampling.epoch_order(kind, faces.labels, seed, steps, global_batch)

    @tf.autograph.experimental.do_not_convert
    def epoch_rows(epoch: tf.Tensor) -> tf.data.Dataset:
        """The rows of each step of an epoch, [global_batch] int32."""
        first = tf.maximum(tf.constant(start, tf.int64) - epoch * steps, 0)
        return tf.data.Dataset.from_tensor_slices(planned(epoch)[first:])

    @tf.autograph.experimental.do_not_convert
    def replica_batches(rows: tf.Tensor) -> tf.data.Dataset:
        mine = tf.gather(positions, order)
        return tf.data.Dataset.from_tensor_slices((tf.gather(rows, mine), mine))

    @tf.autograph.experimental.do_not_convert
    def gather(rows: tf.Tensor, mine: tf.Tensor) -> Batch:
        return Batch(tf.gather(images, rows), tf.gather(labels, rows), mine, tf.gather(counts, rows))

    epochs = tf.data.Dataset.range(start // steps, -(-stop // steps))
    batches = epochs.flat_map(epoch_rows).take(stop - start).flat_map(replica_batches)
    return batches.map(gather).prefetch(PREFETCH * len(local))


def evaluation_batches(faces: Faces, batch: int) -> tf.data.Dataset:
    """See `fer.data.pipeline.evaluation_batches`."""
    missing = -faces.examples % batch
    images, labels = tf.constant(faces.images), tf.constant(faces.labels)
    rows = np.concatenate([np.arange(faces.examples), np.zeros(missing, np.int64)]).reshape(-1, batch)
    weights = np.concatenate([np.ones(faces.examples), np.zeros(missing)]).reshape(-1, batch).astype(np.float32)

    @tf.autograph.experimental.do_not_convert
    def gather(chosen: tf.Tensor, weight: tf.Tensor) -> EvalBatch:
        return EvalBatch(tf.gather(images, chosen), tf.gather(labels, chosen), weight)

    return tf.data.Dataset.from_tensor_slices((rows, weights)).map(gather).prefetch(PREFETCH)
