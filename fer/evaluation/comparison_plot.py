"""Accuracy against parameters, ours among the published results, as PNG bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, PercentFormatter

from fer.evaluation.plots import png
from fer.labels import COLOURS

COLOUR = {"ours": COLOURS[4], "peers": COLOURS[0], "published": "#555555"}
LINE = 0.02  # of the drawn height between two names, so that they do not overlap
ABREAST = 6  # points beside each other where there is no axis to part them


def accuracy_by_parameters(
    runs: Sequence[dict[str, Any]], peers: Sequence[dict[str, Any]], published: Sequence[dict[str, Any]]
) -> bytes:
    """Draws every result with its 95 % interval.

    Args:
      runs, peers, published: as `fer.evaluation.comparison.compare` returns them; peers that could not be measured are
        not drawn.

    Returns:
      A PNG: on the left those whose parameters are known, on a logarithmic axis; on the right the others. Results
      that are not comparable are hollow.
    """
    kinds = {"ours": runs, "peers": [peer for peer in peers if peer["accuracy"] is not None], "published": published}
    results = [{**result, "kind": kind} for kind, of_kind in kinds.items() for result in of_kind]
    known = [result for result in results if result["parameters"]]
    unknown = [result for result in results if not result["parameters"]]
    figure = Figure(figsize=(15, 9.5), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[1.35, 1])
    left.set_xscale("log")
    sizes = [result["parameters"] for result in known] or [1e6]
    left.set_xlim(min(sizes) / 2, max(sizes) * 60)
    left.xaxis.set_major_formatter(EngFormatter(sep=""))
    left.set_xlabel("parameters")
    left.set_title("parameters told", fontsize=11)
    right.set_xlim(-0.3, 4)
    right.set_xticks([])
    right.set_title("parameters not told", fontsize=11)
    accuracies = [result["accuracy"] for result in results]
    line = LINE * max(max(accuracies) - min(accuracies), 0.1)
    abreast = np.argsort(np.argsort([result["accuracy"] for result in unknown])) % ABREAST
    _draw(left, known, [result["parameters"] for result in known], max(sizes) * 1.8, line)
    _draw(right, unknown, list(0.09 * abreast), 0.09 * ABREAST + 0.2, line)
    left.set_ylabel("accuracy, with its 95 % interval")
    left.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    for axes in (left, right):
        axes.grid(axis="y", alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(
        "Accuracy against parameters: ours in blue, peers measured on the same faces in orange, published in grey; "
        "hollow: not comparable, see the table",
        fontsize=12,
    )
    return png(figure)


def _draw(axes: Axes, results: Sequence[dict[str, Any]], places: Sequence[float], names_at: float, line: float) -> None:
    """Draws points, intervals, and the names in a column of their own, joined to their points."""
    heights = _apart([result["accuracy"] for result in results], line)
    for result, x, height in zip(results, places, heights):
        y, colour, measured = result["accuracy"], COLOUR[result["kind"]], result["kind"] != "published"
        if result["accuracy_ci95"]:
            axes.plot([x, x], result["accuracy_ci95"], color=colour, linewidth=1, alpha=0.6, zorder=2)
        filled = colour if result["comparable"] else "white"
        size = 9 if measured else 6
        axes.plot(x, y, marker="o", markersize=size, color=colour, markerfacecolor=filled, zorder=3)
        axes.plot([x, names_at * 0.97], [y, height], color=colour, linewidth=0.4, alpha=0.5, zorder=1)
        weight = "bold" if measured else "normal"
        text = f"{100 * y:.1f}  {_short(result['method'])}"
        axes.text(
            names_at, height, text, fontsize=8.5, va="center", color=colour, weight=weight, zorder=4, parse_math=False
        )


def _apart(values: Sequence[float], line: float) -> list[float]:
    """Moves heights apart until none is nearer to the next than `line`, keeping their order and their middle."""
    order = np.argsort(values, kind="stable")
    blocks: list[list[float]] = []  # each: sum of the wished heights, count
    for index in order:
        blocks.append([values[index], 1])
        while len(blocks) > 1:
            (below, count), (above, more) = blocks[-2:]
            top = below / count + (count - 1) / 2 * line
            bottom = above / more - (more - 1) / 2 * line
            if bottom - top >= line:
                break
            blocks[-2:] = [[below + above, count + more]]
    heights = [
        total / count + (place - (count - 1) / 2) * line for total, count in blocks for place in range(int(count))
    ]
    moved = [0.0] * len(values)
    for height, index in zip(heights, order):
        moved[index] = height
    return moved


def _short(text: str, longest: int = 48) -> str:
    return text if len(text) <= longest else text[: longest - 3] + "..."
