"""ROC and precision-recall curves of one class against the rest, and the areas under them.

They equal those of scikit-learn, which takes a second to load.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class RankingCurves(NamedTuple):
    """Rates with each distinct score as the threshold, in descending order, after a threshold above all scores."""

    false_positive_rate: np.ndarray  # [m + 1] float64 of m distinct scores, from 0 to 1
    recall: np.ndarray  # [m + 1], from 0 to 1: the true positive rate
    precision: np.ndarray  # [m + 1], 1 where no example is predicted to be of the class

    @property
    def roc_auc(self) -> float:
        """Area under the ROC curve, by the trapezoidal rule."""
        return _clip(np.diff(self.false_positive_rate) @ (self.recall[1:] + self.recall[:-1]) / 2)

    @property
    def average_precision(self) -> float:
        """Mean of the precisions, weighted by the increase in recall at each."""
        return _clip(np.diff(self.recall) @ self.precision[1:])


def compute_curves(is_class: np.ndarray, scores: np.ndarray) -> RankingCurves | None:
    """Computes the curves of a class.

    Args:
      is_class: [n] bool.
      scores: [n] float64, probabilities of the class.

    Returns:
      The curves; None if no example, or each, is of the class.
    """
    if is_class.all() or not is_class.any():
        return None
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # of the examples of each score
    hits, predicted = np.cumsum(is_class[order])[last], last + 1
    misses = predicted - hits
    return RankingCurves(
        np.append(0, misses / misses[-1]), np.append(0, hits / hits[-1]), np.append(1, hits / predicted)
    )


def _clip(area: np.floating) -> float:
    return min(1.0, float(area))  # a sum of rounded terms can exceed 1 in the last bit
