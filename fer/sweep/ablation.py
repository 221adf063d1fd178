"""What each change of a sweep is worth against its base: the mean difference over seeds, with an interval.

Both the faces and the seeds are samples, so both count (a two-way layout with random effects; Searle, Casella and
McCulloch, "Variance components", 1992, chapter 4). With r the matrix of what was right, faces by seeds, the difference
d of two means has the variance

    (var over faces of d  -  what seeds alone add to it) / faces  +  (1/seeds + 1/seeds of the base) * s2

where s2 is the variance of a run's accuracy between seeds, pooled over all changes; its degrees of freedom give
Student's t for the interval. With one seed it is the first term, without the subtraction: it speaks of faces alone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import style
from matplotlib.figure import Figure
from scipy import stats

from fer.errors import UserError
from fer.evaluation import eval_json, predictions
from fer.labels import COLOURS
from fer.models import loading
from fer.sweep.search_space import BASE
from fer.viz import rendering

WIDTH = 60  # characters of a change's name in the picture


class Runs(NamedTuple):
    """The runs of one change, which differ in their seed alone."""

    right: np.ndarray  # [runs, faces] bool
    macro_f1: np.ndarray  # [runs]
    minutes: np.ndarray  # [runs], of training and validation


def read(folders: Mapping[str, Sequence[str]]) -> dict[str, Runs]:
    """Reads the run folders of each change, which hold an evaluation of the validation split.

    Raises:
      UserError: a file is missing or damaged, or a run was evaluated on other faces than the first.
    """
    kept = {
        folder: predictions.read_npz(os.path.join(folder, "predictions.npz"))
        for of_change in folders.values()
        for folder in of_change
    }
    first = next(iter(kept))
    for folder, each in kept.items():
        if not each.has_same_examples(kept[first]):
            raise UserError(f"{folder} was evaluated on other faces than {first}; they cannot be compared.")
    return {
        name: _runs(of_change, np.stack([kept[folder].correct for folder in of_change]))
        for name, of_change in folders.items()
    }


def _runs(folders: Sequence[str], right: np.ndarray) -> Runs:
    evaluations = [eval_json.read_eval(os.path.join(folder, "eval.json")) for folder in folders]
    histories = [loading.read_history(folder) for folder in folders]
    return Runs(
        right,
        np.array([each["macro_f1"] for each in evaluations]),
        np.array([history[-1]["seconds"] / 60 for history in histories]),
    )


def effects(runs: Mapping[str, Runs]) -> list[dict[str, Any]]:
    """What each change is worth, in the order given; the base's difference is None.

    Args:
      runs: by change, with `BASE` among them, all evaluated on the same faces.
    """
    base = runs[BASE]
    between, freedom = _between_seeds(list(runs.values()))
    found = []
    for name, each in runs.items():
        entry = {
            "change": name,
            "seeds": len(each.right),
            "accuracies": each.right.mean(axis=1).tolist(),
            "accuracy": float(each.right.mean()),
            "macro_f1": float(each.macro_f1.mean()),
            "minutes": round(float(each.minutes.mean()), 1),
            "difference": None,
            "difference_ci95": None,
        }
        if name != BASE:
            difference = float(each.right.mean() - base.right.mean())
            reach = _quantile(freedom) * _deviation(each.right, base.right, between)
            entry.update(difference=difference, difference_ci95=[difference - reach, difference + reach])
        found.append(entry)
    return found


def _between_seeds(runs: Sequence[Runs]) -> tuple[float, int]:
    """The variance of an accuracy between seeds, pooled over changes, and its degrees of freedom."""
    accuracies = [each.right.mean(axis=1) for each in runs]
    freedom = sum(len(each) - 1 for each in accuracies)
    squares = sum(float(((each - each.mean()) ** 2).sum()) for each in accuracies)
    return (squares / freedom if freedom else 0.0), freedom


def _quantile(freedom: int) -> float:
    return float(stats.t.ppf(0.975, freedom) if freedom else stats.norm.ppf(0.975))


def _deviation(changed: np.ndarray, base: np.ndarray, between: float) -> float:
    """The standard deviation of the difference of two means; see the top of this file."""
    both = [side.astype(np.float64) for side in (changed, base)]
    differences = both[0].mean(axis=0) - both[1].mean(axis=0)
    added = sum(side.var(axis=0, ddof=1).mean() / len(side) for side in both if len(side) > 1)
    of_faces = max(0.0, differences.var(ddof=1) - added) / len(differences)
    return float(np.sqrt(of_faces + sum(between / len(side) for side in both)))


def picture(found: Sequence[dict[str, Any]]) -> bytes:
    """The differences with their intervals, the best on top, as PNG bytes."""
    changed = sorted((entry for entry in found if entry["difference"] is not None), key=lambda each: each["difference"])
    with style.context("default"):  # Optuna's pictures leave another one behind
        return rendering.render_png(_drawn(changed))


def _drawn(changed: Sequence[dict[str, Any]]) -> Figure:
    figure = Figure(figsize=(10, 1.4 + 0.28 * len(changed)), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(changed))
    middle = 100 * np.array([entry["difference"] for entry in changed])
    ends = 100 * np.array([entry["difference_ci95"] for entry in changed])
    axes.errorbar(middle, places, xerr=abs(ends.T - middle), fmt="o", color=COLOURS[4], capsize=3)
    axes.axvline(0, color="#555555", linewidth=1)
    axes.set_yticks(places, [_short(entry["change"]) for entry in changed])
    figure.supxlabel(
        "points of validation accuracy against the base, with 95 % intervals over faces and seeds", size=10
    )
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


def _short(name: str) -> str:
    return name if len(name) <= WIDTH else f"{name[: WIDTH // 2 - 1]} … {name[-(WIDTH // 2 - 2) :]}"
