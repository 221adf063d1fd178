"""Shared code of the programs: reads the CSV, times the stages, evaluates and writes the report."""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np

SIDE, CLASSES = 48, 7
LEARNING_RATE = 1e-3  # of Adam
ROTATION, SCALE, SHIFT = 15, 0.1, 0.1  # degrees; share of the image: the strongest geometric augmentation
MIXUP_ALPHA = 0.2


class Task(NamedTuple):
    """A training, from the file to the evaluation."""

    csv: str  # path of a file in the format of fer2013.csv
    network: str  # name of a model of fer
    epochs: int
    batch_size: int


class Split(NamedTuple):
    """The examples of a split."""

    images: np.ndarray  # [n, 48, 48, 1] uint8
    labels: np.ndarray  # [n] int64


class Classifier(NamedTuple):
    """A trained network."""

    predict: Callable[[np.ndarray], np.ndarray]  # images [n, 48, 48, 1] uint8 -> labels [n]
    parameters: int  # trained or not, as Keras counts them


def read_csv(path: str) -> dict[str, Split]:
    """Reads the splits of a file in the format of fer2013.csv, row by row, as most published notebooks do."""
    import numpy as np  # here, as scikit-learn below, so that fer.benchmark.candidates loads in a moment
    import pandas as pd

    frame = pd.read_csv(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # notebooks use np.fromstring, which NumPy deprecates
        rows = [np.fromstring(pixels, dtype=np.uint8, sep=" ") for pixels in frame["pixels"]]
    images, labels = np.stack(rows).reshape(-1, SIDE, SIDE, 1), frame["emotion"].to_numpy()
    usages = frame["Usage"].to_numpy()
    return {usage: Split(images[usages == usage], labels[usages == usage]) for usage in set(usages)}


def run(train: Callable[[Task, Split, Split, str], Classifier]) -> None:
    """Trains a classifier, evaluates it on the validation split and writes a report.

    The arguments of the program are the JSON file to write, the path of the weights of the best epoch on the validation
    split, without a suffix, and the values of `Task`.

    Args:
      train: returns a classifier that was trained on the first split, with the second for validation; the last argument
        is the path of the weights.
    """
    from sklearn import metrics

    report, weights, csv, network, epochs, batch_size = sys.argv[1:]
    splits = read_csv(csv)
    training, validation = splits["Training"], splits["PublicTest"]
    started = time.perf_counter()
    classifier = train(Task(csv, network, int(epochs), int(batch_size)), training, validation, weights)
    trained = time.perf_counter()
    predicted = classifier.predict(validation.images)
    print(metrics.classification_report(validation.labels, predicted, zero_division=0))
    print(metrics.confusion_matrix(validation.labels, predicted))
    content: dict[str, Any] = {
        "train_s": trained - started,
        "accuracy": float(metrics.accuracy_score(validation.labels, predicted)),
        "parameters": classifier.parameters,
        "evaluate_s": time.perf_counter() - trained,
    }
    with open(report, "w", encoding="utf-8") as file:
        json.dump(content, file)
