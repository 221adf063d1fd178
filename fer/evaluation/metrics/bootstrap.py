"""Intervals by resampling: how far a figure would move if other faces had been drawn.

Source: B. Efron, "Bootstrap methods: another look at the jackknife", The Annals of Statistics 7 (1979): examples are
drawn with replacement, the figure is computed anew, and the middle 95 % of what it was is the interval.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fer.labels import CLASSES

RESAMPLES = 2000
SEED = 0
AT_ONCE = 50  # resamples of single examples held in memory


def intervals(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    """95 % intervals of the figures that `fer.evaluation.metrics.metrics.measure` gives as single numbers.

    Args:
      labels: [n] integers in 0..6, n at least 1.
      probabilities: [n, 7] float64.

    Returns:
      Of accuracy, balanced_accuracy, macro_f1, cohen_kappa, matthews, log_loss and brier: [low, high]. None for
      cohen_kappa where some resample leaves it undefined. The same arguments give the same intervals. The calibration
      error has none: it is biased upwards, more so in resamples, and an interval would not cover it.
    """
    random = np.random.default_rng(SEED)
    predicted = probabilities.argmax(axis=1)
    classes = len(CLASSES)
    shares = np.bincount(classes * labels + predicted, minlength=classes**2) / len(labels)
    # Drawing n examples with replacement draws the 49 counts of the confusion matrix from a multinomial.
    matrices = random.multinomial(len(labels), shares, RESAMPLES).reshape(RESAMPLES, classes, classes)
    chosen = probabilities[np.arange(len(labels)), labels]
    losses = np.stack(
        [
            -np.log(np.clip(chosen, np.finfo(probabilities.dtype).eps, 1)),
            ((probabilities - np.eye(classes)[labels]) ** 2).sum(axis=1),
        ],
        axis=1,
    )
    resampled = {**_of_matrices(matrices), **dict(zip(("log_loss", "brier"), _means(losses, random).T))}
    return {name: _middle(values) for name, values in resampled.items()}


def _of_matrices(matrices: np.ndarray) -> dict[str, np.ndarray]:
    """Figures of confusion matrices [r, 7, 7], each [r]; NaN where one is undefined. As scikit-learn defines them."""
    counts = matrices.astype(np.float64)
    total = counts.sum(axis=(1, 2))
    right = np.trace(counts, axis1=1, axis2=2)
    hits = np.diagonal(counts, axis1=1, axis2=2)
    true, predicted = counts.sum(axis=2), counts.sum(axis=1)
    agreement = (true * predicted).sum(axis=1)
    spread = np.sqrt((total**2 - (true**2).sum(axis=1)) * (total**2 - (predicted**2).sum(axis=1)))
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "accuracy": right / total,
            "balanced_accuracy": np.nanmean(np.where(true > 0, hits / true, np.nan), axis=1),
            "macro_f1": (2 * hits / np.maximum(true + predicted, 1)).mean(axis=1),
            "cohen_kappa": (total * right - agreement) / (total**2 - agreement),
            "matthews": np.where(spread > 0, (total * right - agreement) / spread, 0.0),
        }


def _means(values: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The means [r, k] of resampled rows of values [n, k]."""
    count = len(values)
    return np.concatenate(
        [
            random.multinomial(count, np.full(count, 1 / count), AT_ONCE) @ values / count
            for _ in range(RESAMPLES // AT_ONCE)
        ]
    )


def _middle(values: np.ndarray) -> list[float] | None:
    return None if np.isnan(values).any() else np.percentile(values, [2.5, 97.5]).tolist()
