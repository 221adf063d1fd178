"""How good a model is on the validation split, exactly, over all replicas."""

from __future__ import annotations

import dataclasses
from typing import Callable

import numpy as np
import tensorflow as tf

from fer.data.pipeline import Weighted
from fer.labels import CLASSES


@dataclasses.dataclass(frozen=True)
class Score:
    """The figures of one pass over a split."""

    loss: float  # mean cross-entropy, without label smoothing
    confusion: np.ndarray  # [7, 7] int64, rows true, columns predicted

    @property
    def accuracy(self) -> float:
        return float(np.trace(self.confusion) / self.confusion.sum())

    @property
    def macro_f1(self) -> float:
        """The mean of the classes' F1, 2 TP / (2 TP + FP + FN); 0 for a class neither there nor predicted."""
        true_positives = np.diag(self.confusion)
        counted = self.confusion.sum(axis=0) + self.confusion.sum(axis=1)
        return float(np.mean(2 * true_positives / np.maximum(counted, 1)))


def scorer(strategy: tf.distribute.Strategy, model: tf.keras.Model, batches: tf.data.Dataset) -> Callable[[], Score]:
    """The function that scores `model`, as its weights then are, on a dataset of `Weighted`.

    Every replica of every worker takes its part of each batch, as in training; each worker reads all of them.
    """
    replicas = strategy.num_replicas_in_sync

    def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
        share = replicas // context.num_input_pipelines
        first = context.input_pipeline_id * share

        def parts(batch: Weighted) -> tf.data.Dataset:
            of_replicas = (tf.reshape(each, [replicas, -1, *each.shape[1:]]) for each in batch)
            return tf.data.Dataset.from_tensor_slices(Weighted(*(each[first : first + share] for each in of_replicas)))

        return batches.flat_map(parts)

    distributed = strategy.distribute_datasets_from_function(of_worker)

    def replica_score(batch: Weighted) -> tuple[tf.Tensor, tf.Tensor]:
        logits = model(batch.images, training=False)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(batch.labels, logits)
        true = tf.one_hot(batch.labels, len(CLASSES)) * batch.weights[:, tf.newaxis]
        predicted = tf.one_hot(tf.argmax(logits, -1), len(CLASSES))
        counts = tf.matmul(true, predicted, transpose_a=True)  # exact, and deterministic on every device
        return tf.reduce_sum(losses * batch.weights), counts

    @tf.function
    def batch_score(batch: Weighted) -> tuple[tf.Tensor, tf.Tensor]:
        loss, counts = strategy.run(replica_score, args=(batch,))
        total = tf.distribute.ReduceOp.SUM
        return strategy.reduce(total, loss, axis=None), strategy.reduce(total, counts, axis=None)

    def score() -> Score:
        loss, counts = 0.0, np.zeros([len(CLASSES)] * 2, np.int64)
        for batch in distributed:
            batch_loss, batch_counts = batch_score(batch)
            loss += float(batch_loss)
            counts += batch_counts.numpy().astype(np.int64)
        return Score(loss / int(counts.sum()), counts)

    return score
