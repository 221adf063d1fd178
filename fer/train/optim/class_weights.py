"""How much each class counts in the loss."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fer.config import Data
from fer.labels import CLASSES


def compute_class_weights(counts: Mapping[str, int], settings: Data) -> np.ndarray:
    """The factor of each class's losses; their mean over the examples is 1, so that the loss keeps its size.

    "inverse" weighs a class of n examples by 1 / n. "effective" weighs it by 1 / E(n), where
    E(n) = (1 - beta**n) / (1 - beta) is its effective number of examples (Cui et al. 2019, arXiv:1901.05555,
    equation 2); the paper scales the weights to a sum of the number of classes instead.

    Args:
      counts: examples by class, as the manifest's class_counts; a class without examples gets 0.
      settings: which weights, and beta.

    Returns:
      float32 [7], in the order of the labels.
    """
    examples = np.array([counts[name] for name in CLASSES], np.float64)
    there = examples > 0
    numbers = np.where(there, examples, 1)
    if settings.class_weights == "none":
        return np.ones(len(CLASSES), np.float32)
    if settings.class_weights == "effective":
        numbers = (1 - settings.effective_beta**numbers) / (1 - settings.effective_beta)
    weights = there / numbers
    return (weights * examples.sum() / (weights * examples).sum()).astype(np.float32)
