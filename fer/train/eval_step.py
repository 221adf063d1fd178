"""How good a model is on the validation split, exactly, over all replicas."""

from __future__ import annotations

import dataclasses
import math
from typing import Callable, NamedTuple

import numpy as np
import tensorflow as tf
from sklearn import metrics

from fer.data.sampling import EvalBatch
from fer.errors import UserError
from fer.labels import CLASSES, SIDE
from fer.train import device_iterator
from fer.train.optim import tfa

MAX_MISTAKES = 40  # mistakes that are kept to be looked at


class Mistakes(NamedTuple):
    """Faces that were taken for another class, the most confident mistake first."""

    confidence: np.ndarray  # float32 [n], above 0: the largest probability
    images: np.ndarray  # uint8 [n, 48, 48, 1]
    labels: np.ndarray  # int32 [n]
    probabilities: np.ndarray  # float32 [n, 7]


@dataclasses.dataclass(frozen=True)
class Score:
    """The figures of one pass over a split."""

    loss: float  # mean cross-entropy, without label smoothing
    confusion: np.ndarray  # [7, 7] int64, rows true, columns predicted
    mistakes: Mistakes | None = None  # up to `SHOWN`

    @property
    def accuracy(self) -> float:
        """Share of correct predictions."""
        return float(np.trace(self.confusion) / self.confusion.sum())

    @property
    def macro_f1(self) -> float:
        """The mean of the classes' F1, 2 TP / (2 TP + FP + FN); 0 for a class neither there nor predicted."""
        true_positives = np.diag(self.confusion)
        counted = self.confusion.sum(axis=0) + self.confusion.sum(axis=1)
        return float(np.mean(2 * true_positives / np.maximum(counted, 1)))

    @property
    def cohen_kappa(self) -> float | None:
        """Agreement beyond chance; None where labels and predictions are all one class."""
        kappa = _compute_metric(tfa.cohen_kappa, metrics.cohen_kappa_score, self.confusion)
        return kappa if math.isfinite(kappa) else None

    @property
    def matthews(self) -> float:
        """The correlation of labels and predictions; 0 where either is all one class."""
        return _compute_metric(tfa.matthews, metrics.matthews_corrcoef, self.confusion)


def make_scorer(
    strategy: tf.distribute.Strategy, model: tf.keras.Model, batches: tf.data.Dataset
) -> Callable[[], Score]:
    """The function that scores `model`, as its weights then are, on a dataset of `EvalBatch`.

    Every replica of every worker takes its part of each batch, as in training; each worker reads all of them.
    Everything is summed on the devices; the host waits for them once, at the end.
    """
    replicas = strategy.num_replicas_in_sync

    def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
        share = replicas // context.num_input_pipelines
        first = context.input_pipeline_id * share

        @tf.autograph.experimental.do_not_convert
        def parts(batch: EvalBatch) -> tf.data.Dataset:
            of_replicas = (tf.reshape(each, [replicas, -1, *each.shape[1:]]) for each in batch)
            return tf.data.Dataset.from_tensor_slices(EvalBatch(*(each[first : first + share] for each in of_replicas)))

        return device_iterator.disable_autotune(batches.flat_map(parts))

    distributed = strategy.distribute_datasets_from_function(of_worker)

    def replica_score(batch: EvalBatch) -> tuple[tf.Tensor, tf.Tensor, Mistakes]:
        logits = model(batch.images, training=False)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(batch.labels, logits)
        true = tf.one_hot(batch.labels, len(CLASSES)) * batch.weights[:, tf.newaxis]
        predicted = tf.one_hot(tf.argmax(logits, -1), len(CLASSES))
        counts = tf.matmul(true, predicted, transpose_a=True)  # exact, and deterministic on every device
        probabilities = tf.nn.softmax(logits)
        wrong = batch.weights * (1 - tf.reduce_sum(true * predicted, -1))
        confidence = tf.reduce_max(probabilities, -1) * wrong
        kept = _select_most_confident(Mistakes(confidence, batch.images, batch.labels, probabilities))
        return tf.reduce_sum(tf.cast(losses * batch.weights, tf.float64)), tf.cast(counts, tf.int64), kept

    @tf.function(autograph=False)
    def batch_score(
        batch: EvalBatch, loss: tf.Tensor, confusion: tf.Tensor, kept: Mistakes
    ) -> tuple[tf.Tensor, tf.Tensor, Mistakes]:
        more_loss, counts, more = strategy.run(replica_score, args=(batch,))
        both = [tf.concat([own, *strategy.experimental_local_results(new)], 0) for own, new in zip(kept, more)]
        kept = _select_most_confident(Mistakes(*both))
        total = tf.distribute.ReduceOp.SUM
        loss += strategy.reduce(total, more_loss, axis=None)
        return loss, confusion + strategy.reduce(total, counts, axis=None), kept

    def score() -> Score:
        loss, confusion, kept = tf.zeros([], tf.float64), tf.zeros([len(CLASSES)] * 2, tf.int64), _make_empty_mistakes()
        for batch in device_iterator.iterate(distributed):
            loss, confusion, kept = batch_score(batch, loss, confusion, kept)
        parts = [part.numpy() for part in kept]  # type: ignore[attr-defined]  # tensors until here
        there = parts[Mistakes._fields.index("confidence")] > 0
        counted = confusion.numpy()
        mistakes = Mistakes(*(part[there] for part in parts))
        return Score(float(loss) / int(counted.sum()), counted, mistakes)

    return score


def _select_most_confident(some: Mistakes) -> Mistakes:
    """The first `SHOWN` by confidence, tensors as arrays; of equals, the first."""
    _, chosen = tf.math.top_k(some.confidence, tf.minimum(MAX_MISTAKES, tf.size(some.confidence)))
    return Mistakes(*(tf.gather(part, chosen) for part in some))


def _make_empty_mistakes() -> Mistakes:
    """Places to be filled: a confidence of 0 marks an empty one."""
    return Mistakes(
        tf.zeros([MAX_MISTAKES]),
        tf.zeros([MAX_MISTAKES, SIDE, SIDE, 1], tf.uint8),
        tf.zeros([MAX_MISTAKES], tf.int32),
        tf.zeros([MAX_MISTAKES, len(CLASSES)]),
    )


def _compute_metric(theirs: Callable, scikit_learns: Callable, confusion: np.ndarray) -> float:
    """A figure of a confusion matrix by TensorFlow Addons; by scikit-learn where that is not installed."""
    try:
        return theirs(confusion)
    except UserError:
        true, predicted = np.indices(confusion.shape).reshape(2, -1)
        with np.errstate(invalid="ignore"):
            return float(scikit_learns(true, predicted, sample_weight=confusion.ravel()))
