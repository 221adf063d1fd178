"""Temperature scaling: one parameter that matches confidence and accuracy.

Source: Guo et al. 2017 (arXiv:1706.04599), section 4.2: the logits are divided by a temperature fitted on validation
examples; the predicted class stays the same. Here the logits are the logarithms of the probabilities, which differ from
the logits of a network by a constant a row, so that means over views and models can be scaled too.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fer.evaluation.metrics import metrics

TEMPERATURES = (0.05, 20.0)  # range of the search; the optimum of a model that is always correct is 0
BISECTIONS = 40  # of this range; the error is 2e-11
MIN_PROBABILITY = float(np.finfo(np.float32).tiny)  # replaces probabilities that float32 rounded to 0


def fit_temperature(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Finds the temperature that minimizes the log loss of the scaled probabilities.

    Args:
      labels: [n] integers in 0..C-1, n at least 1, of the validation split only.
      probabilities: [n, C] float64.

    Returns:
      Above 1 if the model is over-confident, below 1 if it is under-confident; within `TEMPERATURES`.
    """
    logits = np.log(np.maximum(probabilities, MIN_PROBABILITY))
    true_class = logits[np.arange(len(labels)), labels]

    low, high = 1 / TEMPERATURES[1], 1 / TEMPERATURES[0]
    for _ in range(BISECTIONS):  # the log loss is convex in 1 / temperature, so its derivative has one root
        inverse = (low + high) / 2
        derivative = (_softmax(inverse * logits) * logits).sum(axis=1).mean() - true_class.mean()
        low, high = (inverse, high) if derivative < 0 else (low, inverse)
    return 2 / (low + high)


def scale(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Scales probabilities [n, C] float64 to a temperature; each row of the result sums to 1."""
    return _softmax(np.log(np.maximum(probabilities, MIN_PROBABILITY)) / temperature)


def _softmax(logits: np.ndarray) -> np.ndarray:
    """Computes the softmax of logits [n, C]; SciPy's takes a third of a second to load."""
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def calibration_report(
    labels: np.ndarray, probabilities: np.ndarray, validation: tuple[np.ndarray, np.ndarray]
) -> dict[str, Any]:
    """Builds the field calibration of eval.json.

    Args:
      labels, probabilities: of the evaluated examples, as in `fer.evaluation.metrics.metrics`.
      validation: labels and probabilities of the validation split, on which the temperature is fitted.

    Returns:
      temperature, fitted_on, examples (number it was fitted on), and log_loss, brier and ece at this temperature.
    """
    temperature = fit_temperature(*validation)
    scaled = scale(probabilities, temperature)
    return {
        "temperature": temperature,
        "fitted_on": "validation",
        "examples": len(validation[0]),
        "log_loss": float(metrics.cross_entropies(labels, scaled).mean()),
        "brier": float(metrics.brier_scores(labels, scaled).mean()),
        "ece": metrics.expected_calibration_error(labels, scaled),
    }
