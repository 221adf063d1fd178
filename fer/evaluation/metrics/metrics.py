"""Classification metrics, as functions of labels and probabilities.

In all functions, labels are [n] integers, indices into `fer.labels.CLASSES`; probabilities are [n, 7] float64 whose
rows sum to 1; the predicted class has the largest probability (the first of equals). scikit-learn computes most of
them. An undefined value, such as the ROC AUC of a class without examples, is None, never NaN.
"""

from __future__ import annotations

import math
import warnings
from typing import Any, Callable

import numpy as np
from sklearn import metrics

from fer.labels import CLASSES

CALIBRATION_BINS = 15
NORMAL_QUANTILE_975 = 1.959963984540054  # for a two-sided interval of 95 %


def compute_metrics(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    """Computes all metrics of eval.json.

    Args:
      labels: [n] integers in 0..6, n at least 1.
      probabilities: [n, 7] float64.

    Returns:
      By the keys of eval.json, as Python numbers: accuracy, accuracy_ci95 (see `wilson`), balanced_accuracy (mean
      recall of the classes that occur), macro_f1 (mean F1 of the seven classes), cohen_kappa (None if all labels and
      predictions are one class), matthews, log_loss (natural logarithm), brier, ece, per_class (precision, recall and
      F1, 0 if undefined; support; ROC AUC and average precision against the rest, None if undefined) and
      confusion_matrix (counts; rows true, columns predicted).

    Raises:
      ValueError: there are no examples, or the shapes or values of labels and probabilities are invalid.
    """
    _check(labels, probabilities)
    predicted = probabilities.argmax(axis=1)
    correct = int((predicted == labels).sum())
    classes = list(range(len(CLASSES)))
    with warnings.catch_warnings():
        # scikit-learn warns of classes that do not occur; the docstring defines their metrics.
        warnings.simplefilter("ignore")
        return {
            "accuracy": correct / len(labels),
            "accuracy_ci95": list(wilson(correct, len(labels))),
            "balanced_accuracy": float(metrics.balanced_accuracy_score(labels, predicted)),
            "macro_f1": float(metrics.f1_score(labels, predicted, labels=classes, average="macro", zero_division=0)),
            "cohen_kappa": _number_or_none(metrics.cohen_kappa_score(labels, predicted)),
            "matthews": float(metrics.matthews_corrcoef(labels, predicted)),
            "log_loss": float(metrics.log_loss(labels, probabilities, labels=classes)),
            "brier": brier(labels, probabilities),
            "ece": expected_calibration_error(labels, probabilities),
            "per_class": _per_class(labels, probabilities, predicted),
            "confusion_matrix": metrics.confusion_matrix(labels, predicted, labels=classes).tolist(),
        }


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


def brier(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Computes the Brier score: mean squared distance of the probabilities to the one-hot label; 0 is best, 2 worst.

    Source: G. W. Brier, "Verification of forecasts expressed in terms of probability", Monthly Weather Review 78
    (1950), in its original form over all classes.
    """
    return float(((probabilities - np.eye(len(CLASSES))[labels]) ** 2).sum(axis=1).mean())


def expected_calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Computes the expected calibration error (ECE): 0 is best, 1 worst.

    Sum over bins of (examples in the bin / n) * |accuracy - mean confidence|, with the confidence the largest
    probability of a row. Source: Guo et al. 2017 (arXiv:1706.04599), equation 3, 15 bins of equal width.
    """
    return float(
        sum(count * abs(accuracy - confidence) for count, accuracy, confidence in reliability(labels, probabilities))
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
    accuracy = np.bincount(bins, weights=correct, minlength=CALIBRATION_BINS) / examples
    mean = np.bincount(bins, weights=confidence, minlength=CALIBRATION_BINS) / examples
    return list(zip(count.tolist(), accuracy.tolist(), mean.tolist()))


def _per_class(labels: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray) -> dict[str, dict[str, Any]]:
    """Returns the field per_class of eval.json."""
    columns = metrics.precision_recall_fscore_support(
        labels, predicted, labels=list(range(len(CLASSES))), zero_division=0
    )
    return {
        name: {
            "precision": float(precision),
            "recall": float(recall),
            "f1": float(f1),
            "support": int(support),
            "roc_auc": _score_or_none(metrics.roc_auc_score, labels == index, probabilities[:, index]),
            "average_precision": _score_or_none(
                metrics.average_precision_score, labels == index, probabilities[:, index]
            ),
        }
        for index, (name, precision, recall, f1, support) in enumerate(zip(CLASSES, *columns))
    }


def _score_or_none(score: Callable[..., float], is_class: np.ndarray, scores: np.ndarray) -> float | None:
    """Computes an area under a curve of one class against the rest; None if it is undefined."""
    if is_class.all() or not is_class.any():
        return None
    return min(1.0, float(score(is_class, scores)))  # a sum of rounded terms can exceed 1 in the last bit


def _number_or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _check(labels: np.ndarray, probabilities: np.ndarray) -> None:
    if probabilities.shape != (len(labels), len(CLASSES)) or not len(labels):
        raise ValueError(f"labels {labels.shape} and probabilities {probabilities.shape} must be [n] and [n, 7], n > 0")
    if labels.min() < 0 or labels.max() >= len(CLASSES):
        raise ValueError("labels must be 0 to 6")
    if not np.allclose(probabilities.sum(axis=1), 1.0, atol=1e-5):
        raise ValueError("each row of probabilities must sum to 1")
