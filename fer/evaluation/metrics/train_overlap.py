"""Effect on the accuracy of evaluated images that are also in the train split."""

from __future__ import annotations

from typing import Any

import numpy as np

from fer.evaluation.metrics import metrics


def in_training_split(images: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Marks the images that are identical, pixel by pixel, to a training image.

    Args:
      images: [n, 48, 48, 1] uint8.
      train: [m, 48, 48, 1] uint8.

    Returns:
      [n] bool.
    """
    known = {image.tobytes() for image in train}
    return np.array([image.tobytes() in known for image in images], dtype=bool)


def exclude_overlap(overlap: np.ndarray, labels: np.ndarray, probabilities: np.ndarray) -> dict[str, Any] | None:
    """Computes the metrics without the examples that are in the train split.

    Args:
      overlap: [n] bool, as `in_training_split` returns it.
      labels, probabilities: of all examples, as in `fer.evaluation.metrics.metrics`.

    Returns:
      examples, left_out, accuracy, accuracy_ci95, macro_f1, and accuracy_difference: accuracy on all examples
      minus accuracy without the overlap. None if all examples are in the train split.
    """
    if overlap.all():
        return None
    remaining = metrics.compute_metrics(labels[~overlap], probabilities[~overlap])
    accuracy = float((probabilities.argmax(axis=1) == labels).mean())
    return {
        "examples": int((~overlap).sum()),
        "left_out": int(overlap.sum()),
        **{name: remaining[name] for name in ("accuracy", "accuracy_ci95", "macro_f1")},
        "accuracy_difference": accuracy - remaining["accuracy"],
    }
