"""Draws accuracy against number of parameters for our runs, baselines and published results, as a PNG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogFormatter, MaxNLocator, PercentFormatter
from sklearn.isotonic import isotonic_regression

from fer.labels import COLOURS
from fer.viz import rendering

COLOUR = {"ours": COLOURS[4], "baselines": COLOURS[0], "published": "#555555"}
LABEL_SPACING = 0.026  # share of the height of the axes between two names, so that they do not overlap
COLUMNS = 6  # of points whose number of parameters is unknown
MAX_RUNS = 5  # of our runs
MAX_NAME_LENGTH = 42  # characters of the name of a result
MARGIN = 0.005  # accuracy beyond the lowest and the highest interval


def accuracy_by_parameters(
    runs: Sequence[dict[str, Any]], baselines: Sequence[dict[str, Any]], published: Sequence[dict[str, Any]]
) -> bytes:
    """Draws results with their 95 % intervals: at most `MAX_RUNS` of our runs, all measured baselines, all published.

    Args:
      runs, baselines, published: as `fer.compare.comparison.compare` returns them; baselines that could not be
        measured are not drawn.

    Returns:
      A PNG: on the left, results with a known number of parameters on a logarithmic axis; on the right, the others, if
      there are any. Results that are not comparable are hollow.
    """
    kinds = {
        "ours": headline_runs(runs),
        "baselines": [one for one in baselines if one["accuracy"] is not None],
        "published": published,
    }
    results = [{**result, "kind": kind} for kind, of_kind in kinds.items() for result in of_kind]
    return rendering.render_png(_figure(results, _legend(results, len(runs))))


def headline_runs(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Chooses at most `MAX_RUNS` of our runs.

    These are the best ensemble, the best single network with and without test-time augmentation, the bundled network
    and the smallest network; then others by descending accuracy.

    Args:
      runs: by descending accuracy.
    """
    single = [run for run in runs if run["members"] == 1]
    groups = (
        [run for run in runs if run["members"] > 1],
        [run for run in single if run["tta"] != "none"],
        [run for run in single if run["tta"] == "none"],
        [run for run in runs if run["bundled"]],
        sorted(single, key=lambda run: run["parameters"]),
        runs,
        *([run] for run in runs),
    )
    chosen = {id(group[0]): group[0] for group in groups if group}
    return sorted(list(chosen.values())[:MAX_RUNS], key=lambda run: -run["accuracy"])


def _legend(results: Sequence[dict[str, Any]], num_runs: int) -> str:
    """Describes the colours and markers of the drawn results; `num_runs` counts our runs, drawn or not."""
    kinds = [result["kind"] for result in results]
    drawn = kinds.count("ours")
    sentences = [
        "Blue: our runs." if drawn == num_runs else f"Blue: {drawn} of our {num_runs} runs, see the table.",
        "Orange: other packages on the same faces." if "baselines" in kinds else "",
        "Grey: published." if "published" in kinds else "",
        "" if all(result["comparable"] for result in results) else "Hollow: not comparable, see the table.",
    ]
    return " ".join(filter(None, sentences))


def _figure(results: Sequence[dict[str, Any]], title: str) -> Figure:
    known = [result for result in results if result["parameters"]]
    unknown = [result for result in results if not result["parameters"]]
    figure = Figure(figsize=(15 if unknown else 11, 9.5), layout="constrained")
    figure.suptitle(title, fontsize=12)
    ratios = [1.35, 1] if unknown else [1]
    left, *others = figure.subplots(1, len(ratios), sharey=True, squeeze=False, width_ratios=ratios)[0]
    sizes = [result["parameters"] for result in known] or [1e6]
    left.set_xscale("log")
    left.set_xlim(min(sizes) / 1.5, max(sizes) * 1.5)
    left.xaxis.set_major_formatter(EngFormatter(sep=""))
    left.xaxis.set_minor_formatter(_MinorFormatter())
    left.set_xlabel("parameters")
    ends = [bound for result in results for bound in (result["accuracy_ci95"] or [result["accuracy"]])]
    bottom, top = (min(ends) - MARGIN, max(ends) + MARGIN) if ends else (0, 1)
    left.set_ylim(bottom, top)
    spacing = LABEL_SPACING * (top - bottom)
    _draw(left, known, [result["parameters"] for result in known], spacing)
    for right in others:
        left.set_title("number of parameters known", fontsize=11, loc="left")
        _draw_in_columns(right, unknown, spacing)
    left.set_ylabel("accuracy with 95 % CI")
    left.yaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10]))
    left.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    for axes in (left, *others):
        axes.grid(axis="y", alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


class _MinorFormatter(LogFormatter):
    """Labels the minor ticks of a short logarithmic axis, such as 2M."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        """Returns the label of a tick; "" where LogFormatter leaves out the label."""
        return EngFormatter(sep="")(x) if super().__call__(x, pos) else ""


def _draw_in_columns(axes: Axes, results: Sequence[dict[str, Any]], spacing: float) -> None:
    """Draws results whose number of parameters is unknown."""
    places = np.argsort(np.argsort([result["accuracy"] for result in results])) % COLUMNS
    axes.set_xlim(-0.05, 0.09 * COLUMNS)
    axes.set_xticks([])
    axes.set_title("number of parameters not published", fontsize=11, loc="left")
    _draw(axes, results, list(0.09 * places), spacing)


def _draw(axes: Axes, results: Sequence[dict[str, Any]], places: Sequence[float], spacing: float) -> None:
    """Draws points, intervals and, in a column right of the axes, names with lines to their points."""
    heights = _spread([result["accuracy"] for result in results], spacing)
    beside = axes.get_yaxis_transform()  # x from 0 to 1 across the axes, y in data
    for result, x, height in zip(results, places, heights):
        y, colour, measured = result["accuracy"], COLOUR[result["kind"]], result["kind"] != "published"
        if result["accuracy_ci95"]:
            axes.plot([x, x], result["accuracy_ci95"], color=colour, linewidth=1, alpha=0.6, zorder=2)
        filled = colour if result["comparable"] else "white"
        size = 9 if measured else 6
        axes.plot(x, y, marker="o", markersize=size, color=colour, markerfacecolor=filled, zorder=3)
        axes.annotate(
            f"{100 * y:.1f}  {rendering.truncate(result['method'], MAX_NAME_LENGTH)}",
            xy=(x, y), xytext=(1.03, height), textcoords=beside, fontsize=9.5, va="center", color=colour, zorder=4,
            weight="bold" if measured else "normal", parse_math=False, annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5, "alpha": 0.5, "relpos": (0, 0.5),
                        "shrinkA": 0, "shrinkB": 0},
        )  # fmt: skip


def _spread(values: Sequence[float], spacing: float) -> np.ndarray:
    """Moves values apart until they differ by at least `spacing`, in their order and by the least squared distance."""
    if not values:
        return np.empty(0)
    order, steps = np.argsort(values, kind="stable"), spacing * np.arange(len(values))
    moved = np.empty(len(values))
    moved[order] = isotonic_regression(np.take(values, order) - steps) + steps
    return moved
