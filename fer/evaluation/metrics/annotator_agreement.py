"""Accuracy by the agreement of FER+'s ten raters."""

from __future__ import annotations

from typing import Any

import numpy as np


def accuracy_by_agreement(votes: np.ndarray, right: np.ndarray) -> list[dict[str, Any]]:
    """Accuracy by how many people chose the most chosen column, whatever it is.

    Args:
      votes: [n, 10] as for `fer.labels.majority_class`.
      right: [n] bool, whether the prediction was.

    Returns:
      votes, examples and accuracy for each number of votes that occurs, in rising order.
    """
    most = np.maximum(votes.max(axis=1), 0)
    return [
        {"votes": int(count), "examples": int((most == count).sum()), "accuracy": float(right[most == count].mean())}
        for count in np.unique(most)
    ]
