"""Plots for a first look at a data set: class counts by split, and sample faces of each class."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from fer.convert.ingest import IngestedDataset
from fer.convert.rows import SPLITS
from fer.data.manifest import Split
from fer.io import files
from fer.labels import CLASSES, COLOURS, SIDE
from fer.viz import rendering

BALANCE_FILE, PREVIEW_FILE = "class_balance.png", "preview.png"
FACES_PER_CLASS = 12  # faces of each class
DPI = 120


def write_plots(
    folder: str, written: Mapping[str, Split], dataset: IngestedDataset, splits: np.ndarray, seed: int
) -> None:
    """Writes class_balance.png and preview.png.

    Args:
      folder: output folder.
      written: the splits with their shards.
      dataset: the faces.
      splits: int64 [n], index into SPLITS.
      seed: selects the faces of preview.png.
    """
    files.write_bytes(os.path.join(folder, BALANCE_FILE), rendering.render_png(plot_class_balance(written), dpi=DPI))
    files.write_bytes(
        os.path.join(folder, PREVIEW_FILE),
        rendering.render_png(plot_sample_faces(dataset, splits, seed), dpi=DPI),
    )


def plot_class_balance(written: Mapping[str, Split]) -> Figure:
    """Plots the number of faces per class, a panel for each split that has labels."""
    labelled = [split for split in written.values() if sum(split.class_counts.values())]
    figure = Figure(figsize=(4.2 * max(1, len(labelled)), 3.6), layout="constrained")
    for split, axes in zip(labelled, figure.subplots(1, max(1, len(labelled)), squeeze=False)[0]):
        counts = list(split.class_counts.values())
        bars = axes.bar(CLASSES, counts, color=COLOURS)
        axes.bar_label(bars, [f"{count:,}" for count in counts], fontsize=8)
        axes.set_title(f"{split.name}: {sum(counts):,} labelled faces", fontsize=10)
        axes.tick_params(axis="x", rotation=40)
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(y=0.12)
    return figure


def plot_sample_faces(dataset: IngestedDataset, splits: np.ndarray, seed: int) -> Figure:
    """Plots a row of random faces for each class of the train split; of any split if there is no train split."""
    shown = splits == 0 if (splits == 0).any() else splits >= 0
    names = [*CLASSES, "unlabelled"]
    labels = np.where(dataset.labels < 0, len(CLASSES), dataset.labels)
    present = [label for label in range(len(names)) if (shown & (labels == label)).any()]
    random = np.random.default_rng(seed)
    figure = Figure(figsize=(0.75 * FACES_PER_CLASS + 1.2, 0.8 * len(present) + 0.5), layout="constrained")
    figure.suptitle(f"Random faces of the {SPLITS[0]} split" if (splits == 0).any() else "Random faces", fontsize=10)
    for label, row in zip(present, figure.subplots(len(present), FACES_PER_CLASS, squeeze=False)):
        members = np.flatnonzero(shown & (labels == label))
        chosen = np.sort(random.permutation(members)[:FACES_PER_CLASS])
        row[0].text(-0.15, 0.5, names[label], transform=row[0].transAxes, ha="right", va="center", fontsize=9)
        for axes, image in zip(row, dataset.store.read_faces(chosen)):
            axes.imshow(image.reshape(SIDE, SIDE), cmap="gray", vmin=0, vmax=255)
        for axes in row:
            axes.set_axis_off()
    return figure
