"""The metrics of eval.json that follow from labels and probabilities alone: `fer.evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fer.errors import UserError
from fer.evaluation.metrics import bootstrap, metrics
from fer.evaluation.prediction_files import normalize
from fer.labels import CLASSES, check_classes

SUM_TOLERANCE = 1e-3  # of a row of probabilities, which may come from float16


def summarize(labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """Computes the metrics and their bootstrap intervals, by the keys of eval.json.

    Args:
      labels: [n] integers in 0..C-1, n at least 1.
      probabilities: [n, C] float64, as `fer.evaluation.prediction_files.normalize` returns them.
      classes: the C names in label order.
    """
    return {
        **metrics.compute_metrics(labels, probabilities, classes),
        "bootstrap_ci95": bootstrap.intervals(labels, probabilities),
    }


def evaluate(labels: Any, probabilities: Any, classes: Sequence[str] | None = None) -> dict[str, Any]:
    """Computes the metrics of eval.json for one's own predictions.

    Args:
      labels: n integers, indices of the classes, as an array or a list.
      probabilities: [n, C] numbers; each row sums to 1.
      classes: the C names in label order; None for those of FER-2013.

    Returns:
      examples, classes, and what `summarize` returns, as Python numbers that JSON can hold.

    Raises:
      UserError: names the first row at fault, or the name of a class that is wrong.
    """
    labels, probabilities = np.asarray(labels), np.asarray(probabilities)
    try:
        names = CLASSES if classes is None else check_classes(classes)
    except ValueError as error:
        raise UserError(f"classes are wrong. {error}") from error
    count = len(names)
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or not len(labels):
        raise UserError(f"labels are {labels.dtype} {list(labels.shape)}; evaluate takes integers [n], n above 0.")
    if probabilities.shape != (len(labels), count) or probabilities.dtype.kind != "f":
        own = ": name other classes than those of FER-2013 with classes=[...]" if classes is None else ""
        raise UserError(
            f"probabilities are {probabilities.dtype} {list(probabilities.shape)}; for {len(labels):,} labels evaluate "
            f"takes float [{len(labels)}, {count}]{own}."
        )
    wrong = np.flatnonzero((labels < 0) | (labels >= count))
    if len(wrong):
        raise UserError(
            f"labels[{wrong[0]}] is {labels[wrong[0]]}; labels must be 0 to {count - 1}: leave out unlabelled faces."
        )
    wide = probabilities.astype(np.float64)
    sums = wide.sum(axis=1)
    wrong = np.flatnonzero(~((wide >= 0).all(axis=1) & (abs(sums - 1) <= SUM_TOLERANCE)))
    if len(wrong):
        raise UserError(
            f"probabilities[{wrong[0]}] is {wide[wrong[0]].round(4).tolist()}; its values must be 0 or more and sum to "
            "1: apply softmax to logits."
        )
    return {"examples": len(labels), "classes": list(names), **summarize(labels, normalize(probabilities), names)}
