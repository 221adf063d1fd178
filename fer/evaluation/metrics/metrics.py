"""The figures of an evaluation, as functions of labels and probabilities alone.

Everywhere: labels are [n] integers, indices into `fer.labels.CLASSES`; probabilities are [n, 7] float64, each row
summing to 1; the predicted class is the row's largest (the first of equals). scikit-learn computes where it can.
What has no value (the ROC AUC of a class without examples) is None, never NaN.
"""

from __future__ import annotations

import math
import warnings
from typing import Any, Callable

import numpy as np
from sklearn import metrics

from fer.labels import CLASSES

CALIBRATION_BINS = 15
NORMAL_QUANTILE_95 = 1.959963984540054  # of 0.975, the two-sided 95 %


def measure(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    """All figures that eval.json reports, under its names.

    Args:
      labels: [n] integers in 0..6, n at least 1.
      probabilities: [n, 7] float64.

    Returns:
      accuracy, accuracy_ci95 (see `wilson`), balanced_accuracy (the mean recall of the classes that occur), macro_f1
      (the mean of the seven F1), cohen_kappa (None where labels and predictions are all one class), matthews,
      log_loss (natural logarithm), brier, ece, per_class (precision, recall and F1, 0 where undefined; support; ROC
      AUC and average precision against the rest, None where undefined) and
      confusion_matrix (rows true, columns predicted, counts). Plain Python numbers throughout.

    Raises:
      ValueError: no examples, or labels and probabilities that do not fit together.
    """
    _check(labels, probabilities)
    predicted = probabilities.argmax(axis=1)
    correct = int((predicted == labels).sum())
    every = list(range(len(CLASSES)))
    with warnings.catch_warnings():
        # A class that does not occur makes scikit-learn warn; the docstring says what is done then.
        warnings.simplefilter("ignore")
        return {
            "accuracy": correct / len(labels),
            "accuracy_ci95": list(wilson(correct, len(labels))),
            "balanced_accuracy": float(metrics.balanced_accuracy_score(labels, predicted)),
            "macro_f1": float(metrics.f1_score(labels, predicted, labels=every, average="macro", zero_division=0)),
            "cohen_kappa": _number_or_none(metrics.cohen_kappa_score(labels, predicted)),
            "matthews": float(metrics.matthews_corrcoef(labels, predicted)),
            "log_loss": float(metrics.log_loss(labels, probabilities, labels=every)),
            "brier": brier(labels, probabilities),
            "ece": expected_calibration_error(labels, probabilities),
            "per_class": _per_class(labels, probabilities, predicted),
            "confusion_matrix": metrics.confusion_matrix(labels, predicted, labels=every).tolist(),
        }


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % score interval of a proportion, within [0, 1].

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal of the
    American Statistical Association 22 (1927): the proportions p whose distance from the observed one is at most
    1.96 standard errors sqrt(p (1 - p) / trials).
    """
    share, weight = successes / trials, NORMAL_QUANTILE_95**2 / trials
    centre = (share + weight / 2) / (1 + weight)
    half = math.sqrt(weight * share * (1 - share) + weight**2 / 4) / (1 + weight)
    return max(0.0, centre - half), min(1.0, centre + half)


def brier(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """The mean over examples of the squared distance to the one-hot label, summed over classes: 0 is best, 2 worst.

    Source: G. W. Brier, "Verification of forecasts expressed in terms of probability", Monthly Weather Review 78
    (1950), in its original form over all classes.
    """
    return float(((probabilities - np.eye(len(CLASSES))[labels]) ** 2).sum(axis=1).mean())


def expected_calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """How far confidence is from accuracy: 0 is best, 1 worst.

    Sum over bins of (examples in the bin / n) * |accuracy - mean confidence|, with the confidence the largest
    probability of a row. Source: Guo et al. 2017 (arXiv:1706.04599), equation 3, 15 bins of equal width.
    """
    return float(
        sum(count * abs(accuracy - confidence) for count, accuracy, confidence in reliability(labels, probabilities))
        / len(labels)
    )


def reliability(labels: np.ndarray, probabilities: np.ndarray) -> list[tuple[int, float, float]]:
    """Examples, accuracy and mean confidence of each of the 15 bins ((m - 1) / 15, m / 15]; zeros for an empty one."""
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
    bins = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, CALIBRATION_BINS - 1)
    count = np.bincount(bins, minlength=CALIBRATION_BINS)
    examples = np.maximum(count, 1)
    accuracy = np.bincount(bins, weights=correct, minlength=CALIBRATION_BINS) / examples
    mean = np.bincount(bins, weights=confidence, minlength=CALIBRATION_BINS) / examples
    return list(zip(count.tolist(), accuracy.tolist(), mean.tolist()))


def _per_class(labels: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray) -> dict[str, dict[str, Any]]:
    """Precision, recall and F1 (0 where undefined), support, and two areas of each class against the rest."""
    columns = metrics.precision_recall_fscore_support(
        labels, predicted, labels=list(range(len(CLASSES))), zero_division=0
    )
    return {
        name: {
            "precision": float(precision),
            "recall": float(recall),
            "f1": float(f1),
            "support": int(support),
            "roc_auc": _area(metrics.roc_auc_score, labels == index, probabilities[:, index]),
            "average_precision": _area(metrics.average_precision_score, labels == index, probabilities[:, index]),
        }
        for index, (name, precision, recall, f1, support) in enumerate(zip(CLASSES, *columns))
    }


def _area(score: Callable[..., float], is_class: np.ndarray, scores: np.ndarray) -> float | None:
    if is_class.all() or not is_class.any():
        return None
    return min(1.0, float(score(is_class, scores)))  # a sum of rounded terms may end a bit above it


def _number_or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _check(labels: np.ndarray, probabilities: np.ndarray) -> None:
    if probabilities.shape != (len(labels), len(CLASSES)) or not len(labels):
        raise ValueError(f"labels {labels.shape} and probabilities {probabilities.shape} must be [n] and [n, 7], n > 0")
    if labels.min() < 0 or labels.max() >= len(CLASSES):
        raise ValueError("labels must be 0 to 6")
    if not np.allclose(probabilities.sum(axis=1), 1.0, atol=1e-5):
        raise ValueError("each row of probabilities must sum to 1")
