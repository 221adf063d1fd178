"""Accuracy by the agreement of the ten FER+ annotators."""

from __future__ import annotations

from typing import Any

import numpy as np


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
