"""Bootstrap confidence intervals of the metrics.

Source: B. Efron, "Bootstrap methods: another look at the jackknife", The Annals of Statistics 7 (1979). Examples are
drawn with replacement and the metric is computed on each resample; the interval holds the middle 95 % of these values.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fer.evaluation.metrics import metrics

RESAMPLES = 2000
SEED = 0
CHUNK = 50  # resamples of single examples that are in memory at once
MAX_CHUNKED = 10_000  # examples; of more, resamples are drawn one by one, in an eighth of the time
MATRIX_METRICS = {
    "accuracy": metrics.accuracy,
    "balanced_accuracy": metrics.balanced_accuracy,
    "macro_f1": metrics.macro_f1,
    "cohen_kappa": metrics.cohen_kappa,
    "matthews": metrics.matthews,
}
LOSSES = {"log_loss": metrics.cross_entropies, "brier": metrics.brier_scores}


def intervals(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    """Computes 95 % confidence intervals of the scalar metrics of `fer.evaluation.metrics.metrics.compute_metrics`.

    Args:
      labels: [n] integers in 0..C-1, n at least 1.
      probabilities: [n, C] float64.

    Returns:
      [low, high] by name: accuracy, balanced_accuracy, macro_f1, cohen_kappa, matthews, log_loss and brier. None for
      cohen_kappa if it is undefined in a resample. Equal arguments give equal intervals. The calibration error has no
      interval: it is biased upwards, more so in resamples, so that the interval would not cover it.
    """
    random = np.random.default_rng(SEED)
    confusion = metrics.confusion_matrix(labels, probabilities)
    # Drawing n examples with replacement equals drawing the C * C counts of the confusion matrix from a multinomial.
    matrices = random.multinomial(len(labels), confusion.ravel() / len(labels), RESAMPLES)
    matrices = matrices.reshape(RESAMPLES, *confusion.shape)
    losses = np.stack([loss(labels, probabilities) for loss in LOSSES.values()], axis=1)
    resampled = {name: metric(matrices) for name, metric in MATRIX_METRICS.items()}
    resampled.update(zip(LOSSES, _resampled_means(losses, random).T))
    return {name: _percentile_interval(values) for name, values in resampled.items()}


def _resampled_means(values: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Returns the means [RESAMPLES, k] of resampled rows of values [n, k]."""
    count = len(values)
    if count > MAX_CHUNKED:
        draws = (np.bincount(random.integers(count, size=count), minlength=count) for _ in range(RESAMPLES))
        return np.stack([drawn @ values / count for drawn in draws])
    return np.concatenate(
        [
            random.multinomial(count, np.full(count, 1 / count), CHUNK) @ values / count
            for _ in range(RESAMPLES // CHUNK)
        ]
    )


def _percentile_interval(values: np.ndarray) -> list[float] | None:
    return None if np.isnan(values).any() else np.percentile(values, [2.5, 97.5]).tolist()
