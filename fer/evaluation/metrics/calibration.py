"""Temperature scaling: one number that makes a model as confident as it is right.

Source: Guo et al. 2017 (arXiv:1706.04599), section 4.2: the logits are divided by a temperature that is fitted on
validation examples; the predicted class stays the same. Here the logits are the logarithms of the probabilities, which
differ from a network's own by a constant a row, so that means over views and models can be scaled too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import optimize, special

from fer.evaluation.metrics import metrics

TEMPERATURES = (0.05, 20.0)  # searched; a model that is always right would ask for 0
SMALLEST = float(np.finfo(np.float32).tiny)  # in place of a probability that float32 rounded to 0


def fit_temperature(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """The temperature whose scaled probabilities have the least log loss.

    Args:
      labels: [n] integers in 0..6, n at least 1, of the validation split only.
      probabilities: [n, 7] float64.

    Returns:
      Above 1 where the model is too confident, below 1 where it is too modest, within `TEMPERATURES`.
    """
    logits = np.log(np.maximum(probabilities, SMALLEST))
    chosen = logits[np.arange(len(labels)), labels]

    def log_loss(sharpness: float) -> float:  # convex in 1 / temperature, so there is one minimum
        return float((special.logsumexp(sharpness * logits, axis=1) - sharpness * chosen).mean())

    low, high = 1 / TEMPERATURES[1], 1 / TEMPERATURES[0]
    found = optimize.minimize_scalar(log_loss, bounds=(low, high), method="bounded", options={"xatol": 1e-7})
    return float(1 / found.x)


def scale(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities [n, 7] float64 at another temperature; each row sums to 1."""
    return special.softmax(np.log(np.maximum(probabilities, SMALLEST)) / temperature, axis=1)


def calibration_report(
    labels: np.ndarray, probabilities: np.ndarray, validation: tuple[np.ndarray, np.ndarray]
) -> dict[str, Any]:
    """What eval.json says under calibration.

    Args:
      labels, probabilities: what is scored, as in `fer.evaluation.metrics.metrics`.
      validation: labels and probabilities of the validation split, on which the temperature is fitted.

    Returns:
      temperature, fitted_on, examples (that it was fitted on), and log_loss, brier and ece at that temperature.
    """
    temperature = fit_temperature(*validation)
    figures = metrics.measure(labels, scale(probabilities, temperature))
    changed = {name: figures[name] for name in ("log_loss", "brier", "ece")}
    return {"temperature": temperature, "fitted_on": "validation", "examples": len(validation[0]), **changed}
