"""Accuracy of a model on corrupted faces."""

from __future__ import annotations

from typing import Any, Callable

import numpy as np

from fer.evaluation.metrics import metrics
from fer.evaluation.metrics.corruptions import KINDS, STRENGTHS, corrupt

SEED = 0
PASSES = len(KINDS) * STRENGTHS  # number of forward passes over the faces


def measure_robustness(
    predict: Callable[[np.ndarray], np.ndarray], images: np.ndarray, labels: np.ndarray, seed: int = SEED
) -> dict[str, Any]:
    """Measures the accuracy under each kind and strength of corruption.

    Args:
      predict: maps faces [n, 48, 48, 1] uint8 to probabilities [n, 7].
      images: [n, 48, 48, 1] uint8.
      labels: [n] integers in 0..6.
      seed: of the corruptions, 0 or more.

    Returns:
      The field corruptions of eval.json: seed, mean_accuracy (over all kinds and strengths) and, by kind, levels, their
      meaning, accuracy and its Wilson interval at each of the five strengths.
    """
    kinds: dict[str, Any] = {}
    for name, kind in KINDS.items():
        correct = [
            int((predict(corrupt(images, name, strength, seed)).argmax(axis=1) == labels).sum())
            for strength in range(1, STRENGTHS + 1)
        ]
        kinds[name] = {
            "meaning": kind.meaning,
            "levels": list(kind.levels),
            "accuracy": [count / len(labels) for count in correct],
            "accuracy_ci95": [list(metrics.wilson(count, len(labels))) for count in correct],
        }
    mean = float(np.mean([kind["accuracy"] for kind in kinds.values()]))
    return {"seed": seed, "mean_accuracy": mean, "kinds": kinds}
