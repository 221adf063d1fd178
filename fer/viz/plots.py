"""Draws the plots of an evaluation and of a training run as PNG.

The functions use matplotlib's Figure and the Agg canvas, without a display and without global state, so that a training
loop may call them from any thread. Colours are safe for colour-blind readers: a sequential map for amounts, the palette
of Okabe and Ito for categories.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from fer.evaluation.metrics import metrics, ranking
from fer.labels import COLOURS, class_colours
from fer.viz import rendering

BLUE, ORANGE = COLOURS[4], COLOURS[0]
GREY = "#666666"
MAX_GRID_ROWS, GRID_COLUMNS = 5, 8  # of the mistakes
CELL_WIDTH = 1.56  # of that grid, in inches
MIN_BIN_EXAMPLES = 10  # examples in a bin of the reliability diagram; smaller bins get no point
DARK_CELL = 0.7  # share of the true class above which a cell gets white text
MAX_LABELLED_CLASSES = 20  # of more classes, cells have no numbers and curves no legend
CELL_SIDE, DENSE_CELL_SIDE = 0.8, 0.17  # of a cell of the confusion matrix with and without numbers, in inches
LETTER = 0.09  # width of a letter in the names of the classes, in inches


def confusion_matrix(matrix: np.ndarray, classes: Sequence[str], title: str) -> bytes:
    """Draws a confusion matrix with counts and shares of the true class.

    Args:
      matrix: [k, k] counts, rows true, columns predicted.
      classes: the k names.
      title: first line of the title, such as "compact on validation"; accuracy and n are written below it.

    Returns:
      A PNG. Each cell shows the percentage of its row as colour and, of at most `MAX_LABELLED_CLASSES` classes, as text
      above the count.
    """
    counts = np.asarray(matrix, dtype=np.int64)
    totals = counts.sum(axis=1)
    shares = counts / np.maximum(totals, 1)[:, None]
    numbered, longest = len(classes) <= MAX_LABELLED_CLASSES, max(map(len, classes))
    upright = len(classes) > 8 or longest > 9  # names of columns, which would overlap
    side = max(4.0, len(classes) * (CELL_SIDE if numbered else DENSE_CELL_SIDE))
    margin = LETTER * max(0, longest - 9)
    figure = Figure(
        figsize=(side + 2.6 + margin, side + 1.3 + (LETTER * longest if upright else 0)), layout="constrained"
    )
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if numbered:
        _write_cells(axes, counts, shares)
    size, separator = (None, "\n") if numbered else (7, "  ")
    axes.set_xticks(range(len(classes)), classes, rotation=90 if upright else 0, fontsize=size)
    names = [f"{name}{separator}{total:,}" for name, total in zip(classes, totals)]
    axes.set_yticks(range(len(classes)), names, fontsize=size)
    axes.set_xlabel("predicted class", fontsize=11)
    axes.set_ylabel("true class and support", fontsize=11)
    _thin_grid(axes, len(classes), 2 if numbered else 0.5)
    accuracy = counts.trace() / max(counts.sum(), 1)
    figure.suptitle(f"{title}\naccuracy {100 * accuracy:.2f} %, n = {counts.sum():,}", fontsize=12, parse_math=False)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, format=PercentFormatter(1.0))
    bar.set_label("share of the true class")
    bar.outline.set_visible(False)
    return rendering.render_png(figure)


def curves(history: Sequence[dict[str, Any]]) -> bytes:
    """Draws the learning curves of a run: loss, accuracy and learning rate by epoch.

    Args:
      history: entries of history.json, at least one; each has epoch, learning_rate, loss and accuracy of train and
        validation, and validation_macro_f1.

    Returns:
      A PNG with the epoch of the best validation accuracy marked.
    """
    epochs = [entry["epoch"] for entry in history]
    figure = Figure(figsize=(13, 4.2))
    figure.subplots_adjust(left=0.04, right=0.985, top=0.93, bottom=0.12, wspace=0.2)
    loss, accuracy, rate = figure.subplots(1, 3)
    for axes, name in ((loss, "loss"), (accuracy, "accuracy")):
        for split, colour, marker in (("train", ORANGE, "o"), ("validation", BLUE, "s")):
            values = [entry[f"{split}_{name}"] for entry in history]
            axes.plot(epochs, values, color=colour, marker=marker, markersize=3, label=split)
        axes.set_title(name)
    macro_f1 = [entry["validation_macro_f1"] for entry in history]
    accuracy.plot(epochs, macro_f1, ".--", color=BLUE, linewidth=0.9, markersize=3, label="validation, macro F1")
    best = max(history, key=lambda entry: entry["validation_accuracy"])
    for axes in (loss, accuracy):
        axes.axvline(best["epoch"], color=GREY, linewidth=0.8, linestyle=":")
    accuracy.set_title(f"accuracy (best on validation: {best['validation_accuracy']:.2%}, epoch {best['epoch']})")
    accuracy.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    accuracy.set_ylim(bottom=0)
    loss.legend(frameon=False)
    accuracy.legend(frameon=False, loc="lower right")
    rate.plot(epochs, [entry["learning_rate"] for entry in history], color=GREY, marker="o", markersize=3)
    rate.set_title("learning rate")
    rate.set_ylim(bottom=0)
    for axes in (loss, accuracy, rate):
        axes.set_xlabel("epoch")
        axes.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    return rendering.render_png(figure)


def reliability(labels: np.ndarray, probabilities: np.ndarray, scaled: np.ndarray | None, title: str) -> bytes:
    """Draws a reliability diagram: accuracy against confidence, above the histogram of the confidence.

    Args:
      labels: [n] integers.
      probabilities: [n, C] float64.
      scaled: [n, C] float64 probabilities after temperature scaling, or None.
      title: title of the figure.

    Returns:
      A PNG. On the diagonal, accuracy equals confidence; below it, the network is over-confident. Bins of fewer than
      `MIN_BIN_EXAMPLES` examples have no point, because their accuracy varies too much.
    """
    figure = Figure(figsize=(6.4, 6.8))
    figure.subplots_adjust(left=0.12, right=0.96, top=0.955, bottom=0.075, hspace=0.06)
    axes, below = figure.subplots(2, 1, height_ratios=[4, 1], sharex=True)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
    series = [("as predicted", probabilities, ORANGE, "o")]
    series += [] if scaled is None else [("after temperature scaling", scaled, BLUE, "s")]
    for offset, (name, drawn, colour, marker) in enumerate(series):
        bins = np.array(metrics.reliability(labels, drawn))
        _, accuracy, confidence = bins[bins[:, 0] >= MIN_BIN_EXAMPLES].T
        error = metrics.expected_calibration_error(labels, drawn)
        label = f"{name}: ECE {error:.3f}"
        axes.plot(confidence, accuracy, color=colour, marker=marker, markersize=5, label=label, clip_on=False)
        width = 1 / metrics.CALIBRATION_BINS / (len(series) + 0.5)
        middle = (np.arange(len(bins)) + 0.5) / len(bins) + (offset - (len(series) - 1) / 2) * width
        below.bar(middle, bins[:, 0] / len(labels), width, color=colour)
    axes.set_title(title, fontsize=12, parse_math=False)
    axes.set_ylabel("accuracy")
    axes.legend(frameon=False, loc="upper left")
    axes.set_ylim(0, 1)
    below.set_xlim(0, 1)
    below.set_xlabel("confidence (probability of the predicted class)")
    below.set_ylabel("share of examples")
    for each in (axes, below):
        each.grid(alpha=0.25)
        each.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        each.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        each.spines[["top", "right"]].set_visible(False)
    return rendering.render_png(figure)


def roc_and_precision_recall(
    labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str], title: str
) -> bytes:
    """Draws the ROC curve and the precision-recall curve of each class against the rest.

    Args:
      labels: [n] integers.
      probabilities: [n, C] float64.
      classes: the C names.
      title: title of the figure.

    Returns:
      A PNG; the legends give the areas under the curves of at most `MAX_LABELLED_CLASSES` classes. A class that no
      example has, or that all have, has no curve.
    """
    figure = Figure(figsize=(14, 5.6), layout="constrained")
    figure.suptitle(title, fontsize=12, parse_math=False)
    roc, precision_recall = figure.subplots(1, 2)
    roc.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
    width = 1.6 if len(classes) <= MAX_LABELLED_CLASSES else 0.7
    for index, (name, colour) in enumerate(zip(rendering.shorten_names(classes), class_colours(tuple(classes)))):
        curve = ranking.compute_curves(labels == index, probabilities[:, index])
        if curve is None:
            continue
        style = {"color": colour, "linewidth": width}
        roc.plot(curve.false_positive_rate, curve.recall, label=f"{name}: {curve.roc_auc:.3f}", **style)
        # Average precision is a sum of such steps: each precision counts from the previous recall on.
        label = f"{name}: {curve.average_precision:.3f}"
        precision_recall.step(curve.recall, curve.precision, where="pre", label=label, **style)
    roc.set_title("ROC (area under the curve)")
    roc.set_xlabel("false positive rate")
    roc.set_ylabel("true positive rate")
    precision_recall.set_title("precision-recall (average precision)")
    precision_recall.set_xlabel("recall")
    precision_recall.set_ylabel("precision")
    for axes in (roc, precision_recall):
        if len(classes) <= MAX_LABELLED_CLASSES:
            axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.01)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    return rendering.render_png(figure)


def mistakes(
    images: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
    title: str,
    total: int | None = None,
) -> bytes:
    """Draws the misclassified faces with the highest confidence, the most confident first.

    Args:
      images: [n, 48, 48, 1] uint8.
      labels: [n] integers.
      probabilities: [n, C] float64.
      classes: the C names.
      title: first part of the title.
      total: number of mistakes, if `images` holds only some of them.

    Returns:
      A PNG of up to 40 faces with true class, predicted class and confidence. It shows faces of the data: publish it
      only where the data may be published.
    """
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    names = rendering.shorten_names(classes)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][: MAX_GRID_ROWS * GRID_COLUMNS]
    texts = [
        f"{names[labels[index]]}, predicted\n{names[predicted[index]]} ({100 * confidence[index]:.0f} %)"
        for index in worst
    ]
    heading = f"{title}: the {len(worst)} most confident of {total or len(wrong):,} mistakes"
    faces = np.repeat(images[worst], 3, axis=-1)
    rows = max(1, math.ceil(len(worst) / GRID_COLUMNS))
    figure = rendering.plot_face_sheet(faces, texts, (rows, GRID_COLUMNS), heading, CELL_WIDTH, fontsize=9)
    return rendering.render_png(figure)


def _write_cells(axes: Axes, counts: np.ndarray, shares: np.ndarray) -> None:
    """Writes the percentage of its row and the count into each cell of a confusion matrix."""
    for row, column in np.ndindex(*counts.shape):
        colour = "white" if shares[row, column] > DARK_CELL else "black"
        share = f"{100 * shares[row, column]:.0f} %" if counts[row].any() else "-"
        for text, y, size in ((share, row - 0.1, 11.5), (f"{counts[row, column]:,}", row + 0.24, 8.5)):
            axes.text(column, y, text, ha="center", va="center", color=colour, fontsize=size, in_layout=False)


def _thin_grid(axes: Axes, cells: int, width: float) -> None:
    """Draws white lines between the cells, and no frame."""
    edges = np.arange(cells + 1) - 0.5
    axes.vlines(edges, -0.5, cells - 0.5, color="white", linewidth=width)
    axes.hlines(edges, -0.5, cells - 0.5, color="white", linewidth=width)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
