"""Preview of an augmentation policy as a picture, to check before a run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from fer import log_suppression
from fer.augment import policy
from fer.config import Experiment
from fer.data import example_codec, manifest
from fer.errors import UserError
from fer.io import files
from fer.rng import BatchRng
from fer.viz import rendering

MAX_CLASSES = 20  # classes that are drawn: the first ones
VERSIONS = 8  # augmented versions of each face; a run draws other random numbers
TITLE_WIDTH = 110  # characters that fit on a line of the title


def write_preview(experiment: Experiment, data: str, path: str) -> None:
    """Plots one face of each class, and one more, beside versions augmented by the experiment's policy.

    Args:
      experiment: names the policy, its backend and the seed.
      data: a folder that scripts/convert.py wrote; faces of its train split are drawn.
      path: of the PNG file.

    Raises:
      UserError: the policy is invalid, or the data cannot be read or have no labels.
    """
    policy.parse(experiment.augment.policy, experiment.augment.backend)
    shards = manifest.read_manifest(data).seal_test_split()
    faces = example_codec.read_split(shards, "train")
    if not (faces.labels >= 0).any():
        raise UserError(f"The train split of {data} has no labelled face, so there is none to draw.")
    rows = _choose_rows(faces.labels, experiment.seed)
    files.write_bytes(path, render_png(experiment, faces.images[rows], faces.labels[rows], shards.classes))
    print(f"wrote {path}")


def render_png(experiment: Experiment, images: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> bytes:
    """Renders a PNG: a row for each face, the original at the left; mixed faces are titled with their classes.

    Args:
      experiment: names the policy, its backend and the seed.
      images: [N, 48, 48, 1] uint8; mixing pairs them with each other.
      labels: [N] int32.
      classes: their names, in label order.
    """
    augment = policy.augmenter(experiment.augment.policy, backend=experiment.augment.backend)
    count, targets = len(images), tf.one_hot(labels, len(classes))
    columns = [(images, targets.numpy())]
    for step in range(VERSIONS):
        draws = BatchRng(tf.constant([experiment.seed, step]), tf.range(count), count)
        with log_suppression.suppress_stderr():  # XLA logs its first compilation
            changed, mixed = augment(tf.constant(images), targets, draws)
        columns.append((changed.numpy(), mixed.numpy()))
    names = rendering.shorten_names(classes)
    figure = Figure(figsize=(1.05 * len(columns), 1.25 * count + 0.6), layout="constrained")
    figure.suptitle(_wrap_policy(experiment.augment.policy), fontsize=8, family="monospace")
    axes = figure.subplots(count, len(columns), squeeze=False)
    for column, (shown, shares) in enumerate(columns):
        for row in range(count):
            axes[row, column].imshow(shown[row, ..., 0], cmap="gray", vmin=0, vmax=255)
            axes[row, column].set_axis_off()
            title = _make_title(shares[row], labels[row], names, original=column == 0)
            axes[row, column].set_title(title, fontsize=7, pad=2)
    return rendering.render_png(figure, dpi=120)


def _choose_rows(labels: np.ndarray, seed: int) -> np.ndarray:
    """Chooses a random labelled face of each class, in the order of the classes, and one more if the number is odd.

    With an even number, mixing pairs no face with itself.
    """
    shuffled = np.random.default_rng(seed).permutation(np.flatnonzero(labels >= 0))
    firsts = [shuffled[labels[shuffled] == label][:1] for label in np.unique(labels[shuffled])[:MAX_CLASSES]]
    rows = np.concatenate(firsts)
    return np.append(rows, np.setdiff1d(shuffled, rows, assume_unique=True)[: len(rows) % 2])


def _make_title(shares: np.ndarray, label: int, names: Sequence[str], original: bool) -> str:
    """Returns the title of a face: its class for an original, the classes and shares for a mixture, else ""."""
    if original:
        return names[label]
    parts = [name for name in np.argsort(-shares) if shares[name] >= 0.005]
    return "" if len(parts) < 2 else "\n".join(f"{names[part]} {shares[part]:.2f}" for part in parts)


def _wrap_policy(text: str) -> str:
    """Wraps the policy into lines of `TITLE_WIDTH` characters, broken between ops."""
    lines = [""]
    for part in text.replace("|", "|\0").split("\0"):
        if lines[-1] and len(lines[-1]) + len(part) > TITLE_WIDTH:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)
