"""How a model's accuracy falls as faces get worse."""

from __future__ import annotations

from typing import Any, Callable

import numpy as np

from fer.evaluation.metrics import metrics
from fer.evaluation.metrics.corruptions import KINDS, STRENGTHS, corrupt

SEED = 0
PASSES = len(KINDS) * STRENGTHS  # over the faces


def measure(
    predict: Callable[[np.ndarray], np.ndarray], images: np.ndarray, labels: np.ndarray, seed: int = SEED
) -> dict[str, Any]:
    """Scores every kind and strength of corruption.

    Args:
      predict: from faces [n, 48, 48, 1] uint8 to probabilities [n, 7].
      images, labels: the faces and their classes [n].
      seed: of the corruptions.

    Returns:
      What eval.json says under corruptions: seed, mean_accuracy (over all kinds and strengths) and, by kind, levels,
      their meaning, accuracy and its Wilson interval at each of the five strengths.
    """
    kinds: dict[str, Any] = {}
    for name, kind in KINDS.items():
        right = [
            int((predict(corrupt(images, name, strength, seed)).argmax(axis=1) == labels).sum())
            for strength in range(1, STRENGTHS + 1)
        ]
        kinds[name] = {
            "meaning": kind.meaning,
            "levels": list(kind.levels),
            "accuracy": [count / len(labels) for count in right],
            "accuracy_ci95": [list(metrics.wilson(count, len(labels))) for count in right],
        }
    mean = float(np.mean([kind["accuracy"] for kind in kinds.values()]))
    return {"seed": seed, "mean_accuracy": mean, "kinds": kinds}
