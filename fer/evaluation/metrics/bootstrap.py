"""Bootstrap confidence intervals of the metrics.

Source: B. Efron, "Bootstrap methods: another look at the jackknife", The Annals of Statistics 7 (1979). Examples are
drawn with replacement and the metric is computed on each resample; the interval holds the middle 95 % of these values.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fer.labels import CLASSES

RESAMPLES = 2000
SEED = 0
CHUNK = 50  # resamples of single examples that are in memory at once


def intervals(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    """Computes 95 % confidence intervals of the scalar metrics of `fer.evaluation.metrics.metrics.compute_metrics`.

    Args:
      labels: [n] integers in 0..6, n at least 1.
      probabilities: [n, 7] float64.

    Returns:
      [low, high] by name: accuracy, balanced_accuracy, macro_f1, cohen_kappa, matthews, log_loss and brier. None for
      cohen_kappa if it is undefined in a resample. Equal arguments give equal intervals. The calibration error has no
      interval: it is biased upwards, more so in resamples, so that the interval would not cover it.
    """
    random = np.random.default_rng(SEED)
    predicted = probabilities.argmax(axis=1)
    classes = len(CLASSES)
    shares = np.bincount(classes * labels + predicted, minlength=classes**2) / len(labels)
    # Drawing n examples with replacement equals drawing the 49 counts of the confusion matrix from a multinomial.
    matrices = random.multinomial(len(labels), shares, RESAMPLES).reshape(RESAMPLES, classes, classes)
    true_class = probabilities[np.arange(len(labels)), labels]
    losses = np.stack(
        [
            -np.log(np.clip(true_class, np.finfo(probabilities.dtype).eps, 1)),
            ((probabilities - np.eye(classes)[labels]) ** 2).sum(axis=1),
        ],
        axis=1,
    )
    resampled = {**_matrix_metrics(matrices), **dict(zip(("log_loss", "brier"), _resampled_means(losses, random).T))}
    return {name: _percentile_interval(values) for name, values in resampled.items()}


def _matrix_metrics(matrices: np.ndarray) -> dict[str, np.ndarray]:
    """Computes metrics [r] of confusion matrices [r, 7, 7] as scikit-learn defines them; NaN if undefined."""
    counts = matrices.astype(np.float64)
    total = counts.sum(axis=(1, 2))
    correct = np.trace(counts, axis1=1, axis2=2)
    hits = np.diagonal(counts, axis1=1, axis2=2)
    true, predicted = counts.sum(axis=2), counts.sum(axis=1)
    agreement = (true * predicted).sum(axis=1)
    spread = np.sqrt((total**2 - (true**2).sum(axis=1)) * (total**2 - (predicted**2).sum(axis=1)))
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "accuracy": correct / total,
            "balanced_accuracy": np.nanmean(np.where(true > 0, hits / true, np.nan), axis=1),
            "macro_f1": (2 * hits / np.maximum(true + predicted, 1)).mean(axis=1),
            "cohen_kappa": (total * correct - agreement) / (total**2 - agreement),
            "matthews": np.where(spread > 0, (total * correct - agreement) / spread, 0.0),
        }


def _resampled_means(values: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Returns the means [RESAMPLES, k] of resampled rows of values [n, k]."""
    count = len(values)
    return np.concatenate(
        [
            random.multinomial(count, np.full(count, 1 / count), CHUNK) @ values / count
            for _ in range(RESAMPLES // CHUNK)
        ]
    )


def _percentile_interval(values: np.ndarray) -> list[float] | None:
    return None if np.isnan(values).any() else np.percentile(values, [2.5, 97.5]).tolist()
