"""Classification metrics, as functions of labels and probabilities.

In all functions, labels are [n] integers, indices of the C classes; probabilities are [n, C] float64 whose rows sum to
1; the predicted class has the largest probability (the first of equals). Confusion matrices are counts [..., C, C],
rows true, columns predicted. Each metric has its one definition here: evaluation, bootstrap, training and comparison
use the same functions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fer.evaluation.metrics import ranking

CALIBRATION_BINS = 15
NORMAL_QUANTILE_975 = 1.959963984540054  # for a two-sided interval of 95 %


def compute_metrics(labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """Computes all metrics of eval.json.

    Args:
      labels: [n] integers in 0..C-1, n at least 1.
      probabilities: [n, C] float64.
      classes: the C names in label order.

    Returns:
      By the keys of eval.json, as Python numbers: accuracy, accuracy_ci95 (see `wilson`), balanced_accuracy (mean
      recall of the classes that occur), macro_f1 (mean F1 of all classes), cohen_kappa (None if all labels and
      predictions are one class), matthews, log_loss (natural logarithm), brier, ece, per_class (precision, recall and
      F1, 0 if undefined; support; ROC AUC and average precision against the rest, None if undefined) and
      confusion_matrix (counts; rows true, columns predicted). No value is NaN.

    Raises:
      ValueError: there are no examples, or the shapes or values of labels and probabilities are invalid.
    """
    _check(labels, probabilities, len(classes))
    confusion = confusion_matrix(labels, probabilities)
    kappa = float(cohen_kappa(confusion))
    return {
        "accuracy": float(accuracy(confusion)),
        "accuracy_ci95": list(wilson(int(confusion.trace()), len(labels))),
        "balanced_accuracy": float(balanced_accuracy(confusion)),
        "macro_f1": float(macro_f1(confusion)),
        "cohen_kappa": kappa if math.isfinite(kappa) else None,
        "matthews": float(matthews(confusion)),
        "log_loss": float(cross_entropies(labels, probabilities).mean()),
        "brier": float(brier_scores(labels, probabilities).mean()),
        "ece": expected_calibration_error(labels, probabilities),
        "per_class": _per_class(labels, probabilities, confusion, classes),
        "confusion_matrix": confusion.tolist(),
    }


def confusion_matrix(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Counts the examples by true and predicted class; returns [C, C] int64."""
    classes = probabilities.shape[1]
    cells = classes * labels.astype(np.int64) + probabilities.argmax(axis=1)
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def accuracy(confusion: np.ndarray) -> np.ndarray:
    """Computes the share of correct predictions, [...]."""
    return np.trace(confusion, axis1=-2, axis2=-1) / confusion.sum(axis=(-2, -1))


def balanced_accuracy(confusion: np.ndarray) -> np.ndarray:
    """Computes the mean recall of the classes that occur, [...]."""
    occurs = confusion.sum(axis=-1) > 0
    return np.where(occurs, recall(confusion), 0).sum(axis=-1) / occurs.sum(axis=-1)


def precision(confusion: np.ndarray) -> np.ndarray:
    """Computes the share of correct predictions among those of each class, [..., C]; 0 for a class never predicted."""
    return _diagonal(confusion) / np.maximum(confusion.sum(axis=-2), 1)


def recall(confusion: np.ndarray) -> np.ndarray:
    """Computes the share of correct predictions among the examples of each class, [..., C]; 0 without examples."""
    return _diagonal(confusion) / np.maximum(confusion.sum(axis=-1), 1)


def f1(confusion: np.ndarray) -> np.ndarray:
    """Computes F1, 2 TP / (2 TP + FP + FN), [..., C]; 0 for a class without examples and predictions."""
    return 2 * _diagonal(confusion) / np.maximum(confusion.sum(axis=-1) + confusion.sum(axis=-2), 1)


def macro_f1(confusion: np.ndarray) -> np.ndarray:
    """Computes the mean F1 of all classes, [...]."""
    return f1(confusion).mean(axis=-1)


def cohen_kappa(confusion: np.ndarray) -> np.ndarray:
    """Computes Cohen's kappa, agreement beyond chance, [...]; NaN where labels and predictions are all one class."""
    true, predicted = _class_shares(confusion)
    chance = (true * predicted).sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (accuracy(confusion) - chance) / (1 - chance)


def matthews(confusion: np.ndarray) -> np.ndarray:
    """Computes the Matthews correlation of labels and predictions, [...]; 0 where either is all one class.

    Source: J. Gorodkin, "Comparing two K-category assignments by a K-category correlation coefficient", Computational
    Biology and Chemistry 28 (2004).
    """
    true, predicted = _class_shares(confusion)
    covariance = accuracy(confusion) - (true * predicted).sum(axis=-1)
    spread = np.sqrt((1 - (true**2).sum(axis=-1)) * (1 - (predicted**2).sum(axis=-1)))
    return np.where(spread > 0, covariance / np.where(spread > 0, spread, 1), 0.0)


def _diagonal(confusion: np.ndarray) -> np.ndarray:
    return np.diagonal(confusion, axis1=-2, axis2=-1)


def _class_shares(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the share of each class in the labels and in the predictions, [..., C] each."""
    total = confusion.sum(axis=(-2, -1))[..., np.newaxis]
    return confusion.sum(axis=-1) / total, confusion.sum(axis=-2) / total


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Computes the 95 % score interval of a proportion, within [0, 1].

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal of the
    American Statistical Association 22 (1927): the proportions p whose distance from the observed one is at most
    1.96 standard errors sqrt(p (1 - p) / trials).
    """
    share, weight = successes / trials, NORMAL_QUANTILE_975**2 / trials
    centre = (share + weight / 2) / (1 + weight)
    half = math.sqrt(weight * share * (1 - share) + weight**2 / 4) / (1 + weight)
    return max(0.0, centre - half), min(1.0, centre + half)


def cross_entropies(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Computes -log of the probability of the true class, [n] float64, in nats. Their mean is the log loss.

    Probabilities below the resolution of the dtype count as that resolution, as in scikit-learn, so that a certain
    wrong prediction is finite.
    """
    true_class = probabilities[np.arange(len(labels)), labels]
    return -np.log(np.clip(true_class, np.finfo(probabilities.dtype).eps, 1))


def brier_scores(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Computes the squared distance of the probabilities to the one-hot label, [n]: 0 is best, 2 worst.

    Their mean is the Brier score. Source: G. W. Brier, "Verification of forecasts expressed in terms of probability",
    Monthly Weather Review 78 (1950), in its original form over all classes.
    """
    return ((probabilities - np.eye(probabilities.shape[1])[labels]) ** 2).sum(axis=1)


def expected_calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Computes the expected calibration error (ECE): 0 is best, 1 worst.

    Sum over bins of (examples in the bin / n) * |accuracy - mean confidence|, with the confidence the largest
    probability of a row. Source: Guo et al. 2017 (arXiv:1706.04599), equation 3, 15 bins of equal width.
    """
    return float(
        sum(count * abs(correct - confidence) for count, correct, confidence in reliability(labels, probabilities))
        / len(labels)
    )


def reliability(labels: np.ndarray, probabilities: np.ndarray) -> list[tuple[int, float, float]]:
    """Returns examples, accuracy and mean confidence of each bin ((m - 1) / 15, m / 15]; zeros for an empty bin."""
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
    bins = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, CALIBRATION_BINS - 1)
    count = np.bincount(bins, minlength=CALIBRATION_BINS)
    examples = np.maximum(count, 1)
    share = np.bincount(bins, weights=correct, minlength=CALIBRATION_BINS) / examples
    mean = np.bincount(bins, weights=confidence, minlength=CALIBRATION_BINS) / examples
    return list(zip(count.tolist(), share.tolist(), mean.tolist()))


def _per_class(
    labels: np.ndarray, probabilities: np.ndarray, confusion: np.ndarray, classes: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Returns the field per_class of eval.json."""
    columns = precision(confusion), recall(confusion), f1(confusion), confusion.sum(axis=1)
    found = {}
    for index, name in enumerate(classes):
        curves = ranking.compute_curves(labels == index, probabilities[:, index])
        found[name] = {
            **dict(zip(("precision", "recall", "f1", "support"), (column[index].item() for column in columns))),
            "roc_auc": curves and curves.roc_auc,
            "average_precision": curves and curves.average_precision,
        }
    return found


def _check(labels: np.ndarray, probabilities: np.ndarray, classes: int) -> None:
    if probabilities.shape != (len(labels), classes) or not len(labels):
        raise ValueError(
            f"labels {labels.shape} and probabilities {probabilities.shape} must be [n] and [n, {classes}], n > 0"
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels must be 0 to {classes - 1}")
    if not np.allclose(probabilities.sum(axis=1), 1.0, atol=1e-5):
        raise ValueError("each row of probabilities must sum to 1")


def accuracy_by_agreement(votes: np.ndarray, correct: np.ndarray) -> list[dict[str, Any]]:
    """Computes the accuracy by the number of votes for the column with the most votes, whichever column it is.

    Args:
      votes: [n, 10] integers, as for `fer.labels.majority_class`.
      correct: [n] bool, whether each prediction is correct.

    Returns:
      votes, examples and accuracy for each number of votes that occurs, in ascending order.
    """
    most = np.maximum(votes.max(axis=1), 0)
    return [
        {"votes": int(count), "examples": int((most == count).sum()), "accuracy": float(correct[most == count].mean())}
        for count in np.unique(most)
    ]
