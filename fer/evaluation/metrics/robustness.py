"""How a model's accuracy falls as faces get worse."""

from __future__ import annotations

from typing import Any, Callable

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from fer.evaluation.metrics import metrics
from fer.evaluation.metrics.corruptions import KINDS, STRENGTHS, corrupt
from fer.labels import COLOURS
from fer.viz.plots import png

SEED = 0
PASSES = len(KINDS) * STRENGTHS  # over the faces


def measure(
    predict: Callable[[np.ndarray], np.ndarray], images: np.ndarray, labels: np.ndarray, seed: int = SEED
) -> dict[str, Any]:
    """Scores every kind and strength of corruption.

    Args:
      predict: from faces [n, 48, 48, 1] uint8 to probabilities [n, 7].
      images, labels: the faces and their classes [n].
      seed: of the corruptions.

    Returns:
      What eval.json says under corruptions: seed, mean_accuracy (over all kinds and strengths) and, by kind, levels,
      their meaning, accuracy and its Wilson interval at each of the five strengths.
    """
    kinds: dict[str, Any] = {}
    for name, kind in KINDS.items():
        right = [
            int((predict(corrupt(images, name, strength, seed)).argmax(axis=1) == labels).sum())
            for strength in range(1, STRENGTHS + 1)
        ]
        kinds[name] = {
            "meaning": kind.meaning,
            "levels": list(kind.levels),
            "accuracy": [count / len(labels) for count in right],
            "accuracy_ci95": [list(metrics.wilson(count, len(labels))) for count in right],
        }
    mean = float(np.mean([kind["accuracy"] for kind in kinds.values()]))
    return {"seed": seed, "mean_accuracy": mean, "kinds": kinds}


def plot(found: dict[str, Any], clean: float, image: np.ndarray, title: str) -> bytes:
    """Draws accuracy against strength for each kind, with one face as it then looks.

    Args:
      found: what `measure` returned.
      clean: the accuracy on the faces as they are.
      image: [48, 48, 1] uint8.
      title: a line above.

    Returns:
      A PNG. It holds a face of the data: do not publish it where these may not be.
    """
    figure = Figure(figsize=(13, 7.4), layout="constrained")
    figure.suptitle(
        f"{title}: mean accuracy under corruption {100 * found['mean_accuracy']:.1f} %", fontsize=12, parse_math=False
    )
    grid = figure.add_gridspec(4, 4, height_ratios=[3, 1, 3, 1])
    for place, (name, kind) in enumerate(found["kinds"].items()):
        row, column = 2 * (place // 4), place % 4
        axes = figure.add_subplot(grid[row, column])
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
        shown = figure.add_subplot(grid[row + 1, column])
        faces = [corrupt(image[np.newaxis], name, strength, found["seed"])[0, :, :, 0] for strength in strengths]
        shown.imshow(np.concatenate(faces, axis=1), cmap="gray", vmin=0, vmax=255)
        shown.set_axis_off()
    return png(figure)
