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
from fer.labels import SIDE, class_colours, fit_in_row
from fer.viz import rendering

BALANCE_FILE, PREVIEW_FILE = "class_balance.png", "preview.png"
FACES_PER_CLASS = 12  # faces of each class
GAP = 4  # white pixels between the faces of a strip
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
    classes = tuple(labelled[0].class_counts) if labelled else ()
    many = not fit_in_row(classes)
    height = max(2.0, 1 + 0.16 * len(classes)) if many else 3.6
    figure = Figure(figsize=(4.2 * max(1, len(labelled)), height), layout="constrained")
    for split, axes in zip(labelled, figure.subplots(1, max(1, len(labelled)), squeeze=False)[0]):
        counts = list(split.class_counts.values())
        bars = (axes.barh if many else axes.bar)(classes, counts, color=class_colours(classes))
        axes.bar_label(bars, [f"{count:,}" for count in counts], fontsize=6 if many else 8)
        axes.set_title(f"{split.name}: {sum(counts):,} labelled faces", fontsize=10)
        if many:
            axes.tick_params(axis="y", labelsize=6)
            axes.set_ylim(len(classes) - 0.5, -0.5)  # the first class on top
        else:
            axes.tick_params(axis="x", rotation=40)
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(**{"x" if many else "y": 0.12})
    return figure


def plot_sample_faces(dataset: IngestedDataset, splits: np.ndarray, seed: int) -> Figure:
    """Plots a row of random faces for each class of the train split; of any split if there is no train split."""
    shown = splits == 0 if (splits == 0).any() else splits >= 0
    names = [*dataset.classes, "unlabelled"]
    labels = np.where(dataset.labels < 0, len(dataset.classes), dataset.labels)
    random = np.random.default_rng(seed)
    faces = {}
    for label, name in enumerate(names):
        members = np.flatnonzero(shown & (labels == label))
        if len(members):
            faces[name] = dataset.read_faces(np.sort(random.permutation(members)[:FACES_PER_CLASS]))
    title = f"Random faces of the {SPLITS[0]} split" if (splits == 0).any() else "Random faces"
    return _plot_rows(faces, title) if fit_in_row(dataset.classes) else _plot_strips(faces, title)


def _plot_rows(faces: Mapping[str, np.ndarray], title: str) -> Figure:
    """Plots a row of faces, uint8 [n, 2304], for each class, with its name at the left."""
    figure = Figure(figsize=(0.75 * FACES_PER_CLASS + 1.2, 0.8 * len(faces) + 0.5), layout="constrained")
    figure.suptitle(title, fontsize=10)
    for (name, images), row in zip(faces.items(), figure.subplots(len(faces), FACES_PER_CLASS, squeeze=False)):
        row[0].text(-0.15, 0.5, name, transform=row[0].transAxes, ha="right", va="center", fontsize=9)
        for axes, image in zip(row, images):
            axes.imshow(image.reshape(SIDE, SIDE), cmap="gray", vmin=0, vmax=255)
        for axes in row:
            axes.set_axis_off()
    return figure


def _plot_strips(faces: Mapping[str, np.ndarray], title: str) -> Figure:
    """Plots a strip of faces, uint8 [n, 2304], for each of many classes, in two columns, with its name above."""
    rows = -(-len(faces) // 2)
    figure = Figure(figsize=(12, 0.72 * rows + 0.5), layout="constrained")
    figure.suptitle(title, fontsize=10)
    panels = figure.subplots(rows, 2, squeeze=False).T.ravel()
    for axes in panels:
        axes.set_axis_off()
    for (name, images), axes in zip(faces.items(), panels):
        strip = np.full((SIDE, FACES_PER_CLASS, SIDE + GAP), 255, np.uint8)
        strip[:, : len(images), :SIDE] = images.reshape(-1, SIDE, SIDE).swapaxes(0, 1)
        axes.imshow(strip.reshape(SIDE, -1), cmap="gray", vmin=0, vmax=255)
        axes.set_title(name, fontsize=7, loc="left", pad=2)
    return figure
