"""Weights of the classes in the loss."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fer.config import Data
from fer.labels import CLASSES


def compute_class_weights(counts: Mapping[str, int], settings: Data) -> np.ndarray:
    """Computes the weight of each class; its mean over the examples is 1, so that the scale of the loss is unchanged.

    "inverse" gives a class of n examples the weight 1 / n. "effective" gives it the weight 1 / E(n), where
    E(n) = (1 - beta**n) / (1 - beta) is its effective number of examples (Cui et al. 2019, arXiv:1901.05555,
    equation 2). The paper normalizes differently: its weights sum to the number of classes.

    Args:
      counts: examples by class, as in the manifest's class_counts; a class without examples gets weight 0.
      settings: the kind of weights, and beta.

    Returns:
      float32 [7], in the order of the labels.
    """
    examples = np.array([counts[name] for name in CLASSES], np.float64)
    present = examples > 0
    numbers = np.where(present, examples, 1)
    if settings.class_weights == "none":
        return np.ones(len(CLASSES), np.float32)
    if settings.class_weights == "effective":
        numbers = (1 - settings.class_balanced_beta**numbers) / (1 - settings.class_balanced_beta)
    weights = present / numbers
    return (weights * examples.sum() / (weights * examples).sum()).astype(np.float32)
