"""Exact evaluation of a model on the validation split, over all replicas."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from fer import tf_workarounds
from fer.data.sampling import EvalBatch
from fer.evaluation.metrics import metrics
from fer.labels import SIDE
from fer.models import heads
from fer.train.distributed import multi_worker
from fer.train.optim import tfa

MAX_MISTAKES = 40  # most confident mistakes that are shown


class Mistakes(NamedTuple):
    """Misclassified faces, the most confident mistake first."""

    confidence: np.ndarray  # float32 [n], above 0: the largest probability
    images: np.ndarray  # uint8 [n, 48, 48, 1]
    labels: np.ndarray  # int32 [n]
    probabilities: np.ndarray  # float32 [n, C]


@dataclasses.dataclass(frozen=True)
class Score:
    """Metrics of one pass over a split."""

    loss: float  # mean cross-entropy, without label smoothing
    confusion: np.ndarray  # [C, C] int64, rows true, columns predicted
    mistakes: Mistakes | None = None  # at most `MAX_MISTAKES`
    of_one_worker: bool = False  # whether `mistakes` are of this worker's part of the split alone

    @property
    def accuracy(self) -> float:
        """Share of correct predictions."""
        return float(metrics.accuracy(self.confusion))

    @property
    def macro_f1(self) -> float:
        """Mean F1 of all classes."""
        return float(metrics.macro_f1(self.confusion))

    @property
    def cohen_kappa(self) -> float | None:
        """Agreement beyond chance; None where labels and predictions are all one class."""
        kappa = float(_metric("cohen_kappa")(self.confusion))
        return kappa if math.isfinite(kappa) else None

    @property
    def matthews(self) -> float:
        """Matthews correlation of labels and predictions; 0 where either is all one class."""
        return float(_metric("matthews")(self.confusion))


def _metric(name: str) -> Callable[[np.ndarray], float | np.ndarray]:
    """Returns a metric of TensorFlow Addons or, where Addons is not installed, the equal one of evaluations."""
    return getattr(tfa if tfa.is_installed() else metrics, name)


def make_scorer(
    strategy: tf.distribute.Strategy, model: tf.keras.Model, batches: tf.data.Dataset
) -> Callable[[], Score]:
    """Returns the function that scores `model`, with its current weights, on a dataset of `EvalBatch`.

    Every replica of every worker takes its part of each batch, as in training; each worker reads all batches. All
    sums are computed on the devices; the host waits for the devices once, at the end. Loss and confusion are those of
    the whole split; with several workers, the mistakes are those of this worker's part of it.
    """
    distributed = _distribute(strategy, batches)
    classes = heads.main_logits(model.output).shape[-1]

    def replica_score(batch: EvalBatch) -> tuple[tf.Tensor, tf.Tensor, Mistakes]:
        logits = model(batch.images, training=False)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(batch.labels, logits)
        true = tf.one_hot(batch.labels, classes) * batch.weights[:, tf.newaxis]
        predicted = tf.one_hot(tf.argmax(logits, -1), classes)
        counts = tf.matmul(true, predicted, transpose_a=True)  # exact, and deterministic on every device
        probabilities = tf.nn.softmax(logits)
        wrong = batch.weights * (1 - tf.reduce_sum(true * predicted, -1))
        confidence = tf.reduce_max(probabilities, -1) * wrong
        mistakes = _select_most_confident(Mistakes(confidence, batch.images, batch.labels, probabilities))
        return tf.reduce_sum(tf.cast(losses * batch.weights, tf.float64)), tf.cast(counts, tf.int64), mistakes

    @tf.function(autograph=False)
    def batch_score(
        batch: EvalBatch, loss: tf.Tensor, confusion: tf.Tensor, mistakes: Mistakes
    ) -> tuple[tf.Tensor, tf.Tensor, Mistakes]:
        more_loss, counts, more = strategy.run(replica_score, args=(batch,))
        both = [tf.concat([own, *strategy.experimental_local_results(new)], 0) for own, new in zip(mistakes, more)]
        mistakes = _select_most_confident(Mistakes(*both))
        total = tf.distribute.ReduceOp.SUM
        loss += strategy.reduce(total, more_loss, axis=None)
        return loss, confusion + strategy.reduce(total, counts, axis=None), mistakes

    def score() -> Score:
        loss, confusion = tf.zeros([], tf.float64), tf.zeros([classes] * 2, tf.int64)
        mistakes = _make_empty_mistakes(classes)
        for batch in tf_workarounds.iterate(distributed):
            loss, confusion, mistakes = batch_score(batch, loss, confusion, mistakes)
        parts = [part.numpy() for part in mistakes]  # type: ignore[attr-defined]  # tensors until here
        filled = parts[Mistakes._fields.index("confidence")] > 0
        counts = confusion.numpy()
        kept = Mistakes(*(part[filled] for part in parts))
        return Score(float(loss) / int(counts.sum()), counts, kept, multi_worker.is_multi_worker(strategy))

    return score


def _distribute(strategy: tf.distribute.Strategy, batches: tf.data.Dataset) -> tf.distribute.DistributedDataset:
    """Splits the examples of each batch evenly over the replicas of all workers."""
    replicas = strategy.num_replicas_in_sync

    def worker_dataset(context: tf.distribute.InputContext) -> tf.data.Dataset:
        share = replicas // context.num_input_pipelines
        first = context.input_pipeline_id * share

        @tf.autograph.experimental.do_not_convert
        def split(batch: EvalBatch) -> tf.data.Dataset:
            per_replica = (tf.reshape(each, [replicas, -1, *each.shape[1:]]) for each in batch)
            return tf.data.Dataset.from_tensor_slices(EvalBatch(*(each[first : first + share] for each in per_replica)))

        return tf_workarounds.disable_autotune(batches.flat_map(split))

    return strategy.distribute_datasets_from_function(worker_dataset)


def _select_most_confident(mistakes: Mistakes) -> Mistakes:
    """Returns the `MAX_MISTAKES` most confident mistakes; of equally confident ones, the first."""
    _, indices = tf.math.top_k(mistakes.confidence, tf.minimum(MAX_MISTAKES, tf.size(mistakes.confidence)))
    return Mistakes(*(tf.gather(part, indices) for part in mistakes))


def _make_empty_mistakes(classes: int) -> Mistakes:
    """Returns `MAX_MISTAKES` empty entries, marked by a confidence of 0."""
    return Mistakes(
        tf.zeros([MAX_MISTAKES]),
        tf.zeros([MAX_MISTAKES, SIDE, SIDE, 1], tf.uint8),
        tf.zeros([MAX_MISTAKES], tf.int32),
        tf.zeros([MAX_MISTAKES, classes]),
    )
