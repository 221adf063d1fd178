"""What it is worth that the training split holds some of the scored faces too, pixel by pixel."""

from __future__ import annotations

from typing import Any

import numpy as np

from fer.evaluation.metrics import metrics


def in_training_split(images: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Marks the images that are identical to one of the training images.

    Args:
      images: [n, 48, 48, 1] uint8.
      train: [m, 48, 48, 1] uint8.

    Returns:
      [n] bool.
    """
    known = {image.tobytes() for image in train}
    return np.array([image.tobytes() in known for image in images], dtype=bool)


def without(seen: np.ndarray, labels: np.ndarray, probabilities: np.ndarray) -> dict[str, Any] | None:
    """The score of the examples that training did not see.

    Args:
      seen: [n] bool, see `seen_in_training`.
      labels, probabilities: of all examples, as in `fer.evaluation.metrics.metrics`.

    Returns:
      examples, left_out, accuracy, accuracy_ci95, macro_f1, and accuracy_difference: the accuracy on all examples less
      this one. None where nothing is left.
    """
    if seen.all():
        return None
    figures = metrics.measure(labels[~seen], probabilities[~seen])
    of_all = float((probabilities.argmax(axis=1) == labels).mean())
    return {
        "examples": int((~seen).sum()),
        "left_out": int(seen.sum()),
        **{name: figures[name] for name in ("accuracy", "accuracy_ci95", "macro_f1")},
        "accuracy_difference": of_all - figures["accuracy"],
    }
