"""Pictures of an evaluation and of a run, as PNG bytes.

Drawn with matplotlib's objects on the Agg canvas: no display and no global state, so that a training loop may call
them from any thread. Colours are safe for colour-blind readers: one sequential map for amounts, Okabe and Ito's for
kinds.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from sklearn import metrics as curve

from fer.evaluation.metrics import metrics
from fer.labels import CLASSES, COLOURS

DOTS_PER_INCH = 150
BLUE, ORANGE = COLOURS[4], COLOURS[0]
GREY = "#666666"
WORST_ROWS, WORST_COLUMNS = 5, 8  # of the grid of mistakes
CELL_WIDTH, CELL_HEIGHT, FACE, MARGIN, HEADING = 1.56, 1.75, 1.36, 0.05, 0.45  # of that grid, in inches
BIN_EXAMPLES = 10  # that a point of the reliability diagram stands for, at least
DARK_CELL = 0.7  # of the map: from here on white is the colour that reads better


def confusion_matrix(matrix: np.ndarray, classes: Sequence[str], title: str) -> bytes:
    """Draws counts and shares of the true class in one table.

    Args:
      matrix: [k, k] counts, rows true, columns predicted.
      classes: the k names.
      title: a line above, such as "compact on validation"; accuracy and n are written below it.

    Returns:
      A PNG. Each cell holds the percentage of its row and, beneath it, the count; its colour is the percentage.
    """
    counts = np.asarray(matrix, dtype=np.int64)
    totals = counts.sum(axis=1)
    shares = counts / np.maximum(totals, 1)[:, None]
    figure = Figure(figsize=(7.6, 6.9), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(*counts.shape):
        colour = "white" if shares[row, column] > DARK_CELL else "black"
        share = f"{100 * shares[row, column]:.0f} %" if totals[row] else "-"
        axes.text(column, row - 0.1, share, ha="center", va="center", color=colour, fontsize=11.5)
        axes.text(column, row + 0.24, f"{counts[row, column]:,}", ha="center", va="center", color=colour, fontsize=8.5)
    axes.set_xticks(range(len(classes)), classes)
    axes.set_yticks(range(len(classes)), [f"{name}\n{total:,}" for name, total in zip(classes, totals)])
    axes.set_xlabel("predicted", fontsize=11)
    axes.set_ylabel("true (and how many)", fontsize=11)
    _thin_grid(axes, len(classes))
    accuracy = counts.trace() / max(counts.sum(), 1)
    axes.set_title(f"{title}\naccuracy {100 * accuracy:.2f} %, n = {counts.sum():,}", fontsize=12, parse_math=False)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, format=PercentFormatter(1.0))
    bar.set_label("share of the true class")
    bar.outline.set_visible(False)
    return png(figure)


def curves(history: Sequence[dict[str, Any]]) -> bytes:
    """Draws a run: loss, accuracy and learning rate by epoch.

    Args:
      history: one entry an epoch with epoch, learning_rate, train_ and validation_ loss and accuracy, and
        validation_macro_f1, as history.json holds them; at least one.

    Returns:
      A PNG with the epoch of the best validation accuracy marked.
    """
    epochs = [entry["epoch"] for entry in history]
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    loss, accuracy, rate = figure.subplots(1, 3)
    for axes, name in ((loss, "loss"), (accuracy, "accuracy")):
        for split, colour, marker in (("train", ORANGE, "o"), ("validation", BLUE, "s")):
            values = [entry[f"{split}_{name}"] for entry in history]
            axes.plot(epochs, values, color=colour, marker=marker, markersize=3, label=split)
        axes.set_title(name)
    macro_f1 = [entry["validation_macro_f1"] for entry in history]
    accuracy.plot(
        epochs,
        macro_f1,
        color=BLUE,
        linewidth=0.9,
        linestyle="--",
        marker=".",
        markersize=3,
        label="validation, macro F1",
    )
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
    return png(figure)


def reliability(labels: np.ndarray, probabilities: np.ndarray, scaled: np.ndarray | None, title: str) -> bytes:
    """Draws accuracy against confidence, with how many examples have that confidence.

    Args:
      labels: [n] integers.
      probabilities: [n, 7] float64.
      scaled: the same after temperature scaling, or None.
      title: a line above.

    Returns:
      A PNG. A point on the diagonal is as right as it is confident; below it, too confident. Bins of fewer than 10
      examples have no point, for their accuracy says nothing.
    """
    figure = Figure(figsize=(6.4, 6.8), layout="constrained")
    axes, below = figure.subplots(2, 1, height_ratios=[4, 1], sharex=True)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
    series = [("as predicted", probabilities, ORANGE, "o")]
    series += [] if scaled is None else [("after temperature scaling", scaled, BLUE, "s")]
    for offset, (name, drawn, colour, marker) in enumerate(series):
        bins = np.array(metrics.reliability(labels, drawn))
        _, accuracy, confidence = bins[bins[:, 0] >= BIN_EXAMPLES].T
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
    return png(figure)


def roc_and_precision_recall(labels: np.ndarray, probabilities: np.ndarray, title: str) -> bytes:
    """Draws, for each class against the rest, the ROC curve and precision against recall.

    Args:
      labels: [n] integers.
      probabilities: [n, 7] float64.
      title: a line above.

    Returns:
      A PNG; the legends tell the areas. Classes without examples, or without others, have no curve.
    """
    figure = Figure(figsize=(14, 5.6), layout="constrained")
    figure.suptitle(title, fontsize=12, parse_math=False)
    roc, precision_recall = figure.subplots(1, 2)
    roc.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
    for index, (name, colour) in enumerate(zip(CLASSES, COLOURS)):
        is_class, scores = labels == index, probabilities[:, index]
        if is_class.all() or not is_class.any():
            continue
        false_positive, true_positive, _ = curve.roc_curve(is_class, scores)
        area = curve.roc_auc_score(is_class, scores)
        roc.plot(false_positive, true_positive, color=colour, linewidth=1.6, label=f"{name}: {area:.3f}")
        precision, recall, _ = curve.precision_recall_curve(is_class, scores)
        area = curve.average_precision_score(is_class, scores)
        # A step holds its precision back to the recall before it, as the average precision counts it.
        precision_recall.step(recall, precision, where="post", color=colour, linewidth=1.6, label=f"{name}: {area:.3f}")
    roc.set_title("ROC (area)")
    roc.set_xlabel("false positive rate")
    roc.set_ylabel("true positive rate")
    precision_recall.set_title("precision and recall (average precision)")
    precision_recall.set_xlabel("recall")
    precision_recall.set_ylabel("precision")
    for axes in (roc, precision_recall):
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.01)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    return png(figure)


def mistakes(
    images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, title: str, total: int | None = None
) -> bytes:
    """Draws the faces that were classified wrongly with the greatest confidence, the worst first.

    Args:
      images: [n, 48, 48, 1] uint8.
      labels: [n] integers.
      probabilities: [n, 7] float64.
      title: a line above.
      total: how many mistakes there are, where these are some of them.

    Returns:
      A PNG of up to 40 faces with their true and predicted class and the confidence. It holds faces of the data: do
      not publish it where these may not be.
    """
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][: WORST_ROWS * WORST_COLUMNS]
    width, height = WORST_COLUMNS * CELL_WIDTH, WORST_ROWS * CELL_HEIGHT
    figure = Figure(figsize=(width, height + HEADING))
    figure.suptitle(
        f"{title}: the {len(worst)} most confident of {total or len(wrong):,} mistakes", fontsize=12, parse_math=False
    )
    # One pair of axes for all: a pair for each face takes a second of every epoch to lay out and to draw.
    axes = figure.add_axes([0, 0, 1, height / (height + HEADING)])
    axes.set_axis_off()
    for place, index in enumerate(worst):
        row, column = divmod(place, WORST_COLUMNS)
        middle, bottom = (column + 0.5) * CELL_WIDTH, (row + 1) * CELL_HEIGHT
        square = (middle - FACE / 2, middle + FACE / 2, bottom - MARGIN, bottom - MARGIN - FACE)
        axes.imshow(images[index, :, :, 0], cmap="gray", vmin=0, vmax=255, extent=square)
        true, taken = CLASSES[labels[index]], CLASSES[predicted[index]]
        told = f"{true}, taken for\n{taken} ({100 * confidence[index]:.0f} %)"
        axes.text(middle, bottom - MARGIN - FACE - 0.03, told, ha="center", va="bottom", fontsize=9)
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    return png(figure)


def png(figure: Figure) -> bytes:
    """Renders a figure. The bytes depend on the figure alone (no time or version is written into them)."""
    FigureCanvasAgg(figure)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return file.getvalue()


def _thin_grid(axes: Axes, cells: int) -> None:
    """White lines between the cells instead of a frame."""
    axes.set_xticks(np.arange(cells + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(cells + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
