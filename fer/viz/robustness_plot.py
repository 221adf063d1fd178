"""Draws accuracy under corruption as a PNG."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from fer.evaluation.metrics.robustness import STRENGTHS, corrupt
from fer.labels import COLOURS
from fer.viz import rendering

COLUMNS = 5  # panels beside each other


def accuracy_by_corruption(results: dict[str, Any], clean: float, image: np.ndarray, title: str) -> bytes:
    """Draws accuracy against strength for each kind of corruption, above one face corrupted at each strength.

    Args:
      results: as `fer.evaluation.metrics.robustness.measure_robustness` returns them.
      clean: accuracy on the uncorrupted faces, in [0, 1].
      image: [48, 48, 1] uint8, the face.
      title: first line of the figure.

    Returns:
      A PNG. It shows a face of the data: publish it only where the data may be published.
    """
    figure = Figure(figsize=(16, 7.4), layout="constrained")
    figure.suptitle(
        f"{title}: mean accuracy under corruption {100 * results['mean_accuracy']:.1f} %", fontsize=12, parse_math=False
    )
    grid = figure.add_gridspec(4, COLUMNS, height_ratios=[3, 1, 3, 1])
    strengths = np.arange(1, STRENGTHS + 1)
    for place, (name, kind) in enumerate(results["kinds"].items()):
        row, column = 2 * (place // COLUMNS), place % COLUMNS
        _draw_accuracy(figure.add_subplot(grid[row, column]), name, kind, clean)
        below = figure.add_subplot(grid[row + 1, column])
        faces = [corrupt(image[np.newaxis], name, strength, results["seed"])[0, :, :, 0] for strength in strengths]
        below.imshow(np.concatenate(faces, axis=1), cmap="gray", vmin=0, vmax=255)
        below.set_axis_off()
    return rendering.render_png(figure)


def _draw_accuracy(axes: Axes, name: str, kind: dict[str, Any], clean: float) -> None:
    """Draws the accuracy of one kind with its 95 % intervals, and the accuracy on uncorrupted faces as a line."""
    low, high = np.transpose(kind["accuracy_ci95"])
    strengths = np.arange(1, STRENGTHS + 1)
    axes.axhline(clean, color="#666666", linewidth=0.8, linestyle=":")
    axes.fill_between(strengths, low, high, color=COLOURS[4], alpha=0.2, linewidth=0)
    axes.plot(strengths, kind["accuracy"], color=COLOURS[4], marker="o", markersize=4)
    axes.set_title(f"{name.replace('_', ' ')}: {100 * np.mean(kind['accuracy']):.1f} %", fontsize=11)
    axes.set_xticks(strengths, [f"{level:g}" for level in kind["levels"]])
    axes.set_xlim(0.5, STRENGTHS + 0.5)
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlabel(kind["meaning"], fontsize=8)
    axes.grid(axis="y", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
