"""Estimates the effect of each ablation: the mean difference to the base over seeds, with a confidence interval.

Images and seeds are both random samples (a two-way layout with random effects; Searle, Casella and McCulloch, "Variance
components", 1992, chapter 4). With r the matrix of correct predictions, images by seeds, and d the difference of two
means over seeds per image, the difference of two accuracies has the variance

    (var over images of d  -  contribution of the seeds to it) / images  +  (1/seeds + 1/seeds of the base) * s2

where s2 is the variance of a run's accuracy between seeds, pooled over all ablations; its degrees of freedom give
Student's t for the interval. With one seed the variance is the first term without the subtraction, so that the interval
covers the images only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import style
from matplotlib.figure import Figure
from scipy import stats

from fer.errors import UserError, shorten
from fer.evaluation import eval_json, prediction_files
from fer.labels import COLOURS
from fer.run_dir import RunDir
from fer.sweep.search_space import BASE
from fer.viz import rendering

MAX_NAME_LENGTH = 60  # characters of a name in the plot


class Runs(NamedTuple):
    """Results of the runs of one ablation, which differ only in their seed."""

    right: np.ndarray  # [runs, images] bool: correct predictions
    macro_f1: np.ndarray  # [runs]
    minutes: np.ndarray  # [runs], time of training and validation


def read_runs(folders: Mapping[str, Sequence[str]]) -> dict[str, Runs]:
    """Reads the evaluations of the runs of each ablation on the validation split.

    Args:
      folders: run directories by the name of the ablation.

    Raises:
      UserError: a file is missing or damaged, or a run was evaluated on other images than the first run.
    """
    saved = {
        folder: prediction_files.read_npz(RunDir(folder).predictions_file)
        for folders_of_change in folders.values()
        for folder in folders_of_change
    }
    first = next(iter(saved))
    for folder, each in saved.items():
        if not each.has_same_examples(saved[first]):
            raise UserError(f"{folder} was evaluated on other images than {first}. Evaluate both on the same data.")
    return {
        name: _load_runs(folders_of_change, np.stack([saved[folder].correct for folder in folders_of_change]))
        for name, folders_of_change in folders.items()
    }


def _load_runs(folders: Sequence[str], right: np.ndarray) -> Runs:
    evaluations = [eval_json.read_eval(RunDir(folder).eval_file) for folder in folders]
    histories = [RunDir(folder).read_history(required=True) for folder in folders]
    return Runs(
        right,
        np.array([each["macro_f1"] for each in evaluations]),
        np.array([history[-1]["seconds"] / 60 for history in histories]),
    )


def estimate_effects(runs: Mapping[str, Runs]) -> list[dict[str, Any]]:
    """Estimates the difference of each ablation to the base.

    Args:
      runs: results by the name of the ablation, with the base as `BASE`, all evaluated on the same images.

    Returns:
      An entry of JSON values for each ablation, in order. `difference` and `difference_ci95` are None for the base.
    """
    base = runs[BASE]
    seed_variance, freedom = _seed_variance(list(runs.values()))
    entries = []
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
            margin = _t_quantile(freedom) * _standard_error(each.right, base.right, seed_variance)
            entry.update(difference=difference, difference_ci95=[difference - margin, difference + margin])
        entries.append(entry)
    return entries


def _seed_variance(runs: Sequence[Runs]) -> tuple[float, int]:
    """Returns the variance of the accuracy between seeds, pooled over ablations, and its degrees of freedom."""
    accuracies = [each.right.mean(axis=1) for each in runs]
    freedom = sum(len(each) - 1 for each in accuracies)
    squares = sum(float(((each - each.mean()) ** 2).sum()) for each in accuracies)
    return (squares / freedom if freedom else 0.0), freedom


def _t_quantile(freedom: int) -> float:
    return float(stats.t.ppf(0.975, freedom) if freedom else stats.norm.ppf(0.975))


def _standard_error(changed: np.ndarray, base: np.ndarray, seed_variance: float) -> float:
    """Returns the standard deviation of the difference of two accuracies; see the docstring of this module."""
    both = [side.astype(np.float64) for side in (changed, base)]
    differences = both[0].mean(axis=0) - both[1].mean(axis=0)
    seed_share = sum(side.var(axis=0, ddof=1).mean() / len(side) for side in both if len(side) > 1)
    image_variance = max(0.0, differences.var(ddof=1) - seed_share) / len(differences)
    return float(np.sqrt(image_variance + sum(seed_variance / len(side) for side in both)))


def interval_scope(entries: Sequence[dict[str, Any]]) -> str:
    """Returns what the intervals of `estimate_effects` cover: with one seed in each ablation, not the seeds."""
    return "images and seeds" if any(entry["seeds"] > 1 for entry in entries) else "images only"


def plot_effects(entries: Sequence[dict[str, Any]]) -> bytes:
    """Draws the differences with their intervals, the best on top. Returns the bytes of a PNG file."""
    changed = sorted(
        (entry for entry in entries if entry["difference"] is not None), key=lambda each: each["difference"]
    )
    with style.context("default"):  # Optuna's plots change the global style
        return rendering.render_png(_draw(changed, interval_scope(entries)))


def _draw(changed: Sequence[dict[str, Any]], scope: str) -> Figure:
    figure = Figure(figsize=(10, 1.4 + 0.28 * len(changed)), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(changed))
    middle = 100 * np.array([entry["difference"] for entry in changed])
    ends = 100 * np.array([entry["difference_ci95"] for entry in changed])
    axes.errorbar(middle, places, xerr=abs(ends.T - middle), fmt="o", color=COLOURS[4], capsize=3)
    axes.axvline(0, color="#555555", linewidth=1)
    axes.set_yticks(places, [shorten(entry["change"], MAX_NAME_LENGTH) for entry in changed])
    figure.supxlabel(f"difference to the base in points of validation accuracy, 95 % CI over {scope}", size=10)
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right", "left"]].set_visible(False)
    return figure
