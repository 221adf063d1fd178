"""What FER+'s ten people say of a face: the label that most chose, and how many chose it."""

from __future__ import annotations

from typing import Any

import numpy as np

from fer.labels import FERPLUS_COLUMNS, FERPLUS_OF_CLASS

LEFT_OUT = -1


def majority(votes: np.ndarray) -> np.ndarray:
    """The class with the most votes.

    Args:
      votes: [n, 10] integers in the order of `fer.labels.FERPLUS_COLUMNS`; a row without votes holds nothing above 0.

    Returns:
      [n] int32: an index into `fer.labels.CLASSES`, or -1 where there are no votes, where two columns share the most,
      or where the most say contempt, unknown or not a face. Source of the votes and of taking their majority:
      Barsoum et al. 2016 (arXiv:1608.01041).
    """
    most = votes.max(axis=1, keepdims=True)
    alone = (votes == most).sum(axis=1) == 1  # a row without votes is a tie of all ten
    classes = [FERPLUS_OF_CLASS.index(name) if name in FERPLUS_OF_CLASS else LEFT_OUT for name in FERPLUS_COLUMNS]
    return np.where(alone, np.array(classes)[votes.argmax(axis=1)], LEFT_OUT).astype(np.int32)


def by_agreement(votes: np.ndarray, right: np.ndarray) -> list[dict[str, Any]]:
    """Accuracy by how many people chose the most chosen column, whatever it is.

    Args:
      votes: [n, 10] as for `majority`.
      right: [n] bool, whether the prediction was.

    Returns:
      votes, examples and accuracy for each number of votes that occurs, in rising order.
    """
    most = np.maximum(votes.max(axis=1), 0)
    return [
        {"votes": int(count), "examples": int((most == count).sum()), "accuracy": float(right[most == count].mean())}
        for count in np.unique(most)
    ]
