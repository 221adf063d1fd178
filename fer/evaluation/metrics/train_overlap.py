"""Effect on the accuracy of evaluated images that are also in the train split."""

from __future__ import annotations

from typing import Any

import numpy as np

from fer.data import example_codec
from fer.data.manifest import Manifest
from fer.data.photo_overlap import PhotoOverlap
from fer.evaluation.metrics import metrics


def find_overlap(manifest: Manifest, split: str, images: np.ndarray, rows: np.ndarray) -> np.ndarray | None:
    """Marks the examples of a split whose image is identical, pixel by pixel, to one of the train split.

    The manifest lists these rows. If an earlier version wrote it, all images of the train split are read and compared.

    Args:
      manifest: of the data.
      split: name of the split.
      images: [n, 48, 48, 1] uint8, examples of the split.
      rows: [n] int64, their row numbers in the source.

    Returns:
      [n] bool; None if the data have no train split.

    Raises:
      UserError: the manifest does not list the rows, and the train split cannot be read.
    """
    if "train" not in manifest.splits:
        return None
    if split == "train":
        return np.ones(len(rows), bool)
    duplicates = manifest.split(split).train_duplicates
    if duplicates is not None:
        return np.isin(rows, duplicates)
    return in_training_split(images, example_codec.read_split(manifest, "train").images)


def in_training_split(images: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Marks the images that are identical, pixel by pixel, to a training image.

    Args:
      images: [n, 48, 48, 1] uint8.
      train: [m, 48, 48, 1] uint8.

    Returns:
      [n] bool.
    """
    known = {image.tobytes() for image in train}
    return np.array([image.tobytes() in known for image in images], dtype=bool)


def exclude_overlap(overlap: np.ndarray, labels: np.ndarray, probabilities: np.ndarray) -> dict[str, Any] | None:
    """Computes the metrics without the examples that are in the train split.

    Args:
      overlap: [n] bool, as `find_overlap` returns it.
      labels, probabilities: of all examples, as in `fer.evaluation.metrics.metrics`.

    Returns:
      examples, num_duplicates, accuracy, accuracy_ci95, macro_f1, and accuracy_difference: accuracy on all examples
      minus accuracy without the overlap. None if all examples are in the train split.
    """
    if overlap.all():
        return None
    confusion = metrics.confusion_matrix(labels[~overlap], probabilities[~overlap])
    remaining, accuracy = float(metrics.accuracy(confusion)), float((probabilities.argmax(axis=1) == labels).mean())
    return {
        "examples": int((~overlap).sum()),
        "num_duplicates": int(overlap.sum()),
        "accuracy": remaining,
        "accuracy_ci95": list(metrics.wilson(int(confusion.trace()), int(confusion.sum()))),
        "macro_f1": float(metrics.macro_f1(confusion)),
        "accuracy_difference": accuracy - remaining,
    }


def exclude_photos(
    photos: PhotoOverlap, rows: np.ndarray, labels: np.ndarray, probabilities: np.ndarray
) -> dict[str, Any] | None:
    """Computes the metrics without the examples whose photograph is in the train split.

    Args:
      photos: the examples that share their photograph.
      rows: [n] int64, row numbers of the evaluated examples.
      labels, probabilities: of all examples, as in `fer.evaluation.metrics.metrics`.

    Returns:
      The fields of `exclude_overlap`, and lookup_accuracy: accuracy on all examples if each that shares its photograph
      gets the label of that train image instead of the prediction. None if all examples share their photograph.
    """
    _, shared, matches = np.intersect1d(rows, photos.rows, assume_unique=True, return_indices=True)
    metrics_without = exclude_overlap(np.isin(rows, photos.rows), labels, probabilities)
    if metrics_without is None:
        return None
    predicted = probabilities.argmax(axis=1)
    predicted[shared] = photos.train_labels[matches]
    return {**metrics_without, "lookup_accuracy": float((predicted == labels).mean())}
