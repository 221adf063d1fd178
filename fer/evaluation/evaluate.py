"""One evaluation, from run folders and shards to eval.json, predictions and pictures."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any, Callable

import numpy as np
import tensorflow as tf

from fer import files
from fer.data import manifest as manifests
from fer.data import records
from fer.errors import UserError
from fer.evaluation import calibration, eval_json, ferplus, inference, labelled, leakage, metrics, plots, predictions
from fer.evaluation import run as runs
from fer.labels import CLASSES

SPLITS = ("validation", "test")


@dataclasses.dataclass(frozen=True)
class Request:
    """What is to be evaluated, and how."""

    workdirs: Sequence[str]  # one run, or several whose probabilities are averaged
    data: str  # folder of shards
    split: str = "validation"
    tta: str = "none"  # one of `fer.evaluation.inference.TTA`
    labels: str = "fer"  # fer | ferplus


def default_output(request: Request) -> str:
    """Where the results go if nothing else is said.

    The plain evaluation on validation belongs to the run itself: <workdir>. Every other one gets
    <workdir>/eval-<split>[-<tta>][-ferplus].

    Raises:
      UserError: an ensemble belongs to no single run, so its output must be named.
    """
    if len(request.workdirs) > 1:
        raise UserError("--output is missing: the results of an ensemble belong to none of its runs; name a folder.")
    tta = [] if request.tta == "none" else [request.tta]
    labels = [] if request.labels == "fer" else [request.labels]
    if request.split == "validation" and not tta and not labels:
        return request.workdirs[0]
    return os.path.join(request.workdirs[0], "-".join(["eval", request.split, *tta, *labels]))


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What was found."""

    content: dict[str, Any]  # of eval.json
    predictions: predictions.Predictions
    images: np.ndarray  # [n, 48, 48, 1] uint8, of the predictions
    history: list[dict[str, Any]]  # of a single run that kept it


def evaluate(request: Request, progress: Callable[[int, int], None] = lambda done, total: None) -> Evaluation:
    """Predicts the split and measures the predictions.

    Args:
      request: what and how.
      progress: called after each batch with the faces done in it and how many there are in all. Where another split
        than validation is scored, validation is predicted too, for the temperature.

    Raises:
      UserError: a run or the data cannot be read, or the split has no labels of the wanted kind.
    """
    manifest = manifests.read(request.data)
    scored = labelled.read(manifest, request.split, request.labels)
    validation = _validation(manifest, request)
    opened = [runs.open_run(workdir) for workdir in request.workdirs]
    count = len(scored.images)
    images = scored.images if validation is None else np.concatenate([scored.images, validation.images])
    prediction = inference.predict(
        [run.model for run in opened], images, tta=request.tta, progress=lambda done: progress(done, len(images))
    )
    probabilities, beyond = np.split(normalised(prediction.probabilities), [count])
    fit = (
        (scored.labels, probabilities) if request.split == "validation" else validation and (validation.labels, beyond)
    )
    figures = {
        **metrics.measure(scored.labels, probabilities),
        "calibration": calibration.calibrated(scored.labels, probabilities, fit) if fit else None,
        "without_training_images": _without_training_images(manifest, scored, probabilities),
        "by_agreement": _by_agreement(scored, probabilities),
    }
    content = eval_json.build(
        opened,
        manifest,
        request.split,
        figures,
        images_per_second=prediction.images_per_second,
        tta=request.tta,
        labels=request.labels,
        left_out=scored.left_out,
    )
    kept = predictions.Predictions(scored.labels, prediction.probabilities[:count], scored.rows)
    return Evaluation(content, kept, scored.images, _history(opened))


def write(evaluation: Evaluation, output: str) -> list[str]:
    """Writes predictions.npz, the pictures and, last, eval.json into the folder `output`. Returns their paths.

    Raises:
      UserError: a file cannot be written; an eval.json from before is then untouched.
    """
    content = evaluation.content
    title = f"{content['model']} on {content['data']['name']}, {content['split']}"
    labels, probabilities = evaluation.predictions.labels, normalised(evaluation.predictions.probabilities)
    found = content["calibration"]
    scaled = calibration.scale(probabilities, found["temperature"]) if found else None
    pictures = {
        "confusion_matrix.png": plots.confusion_matrix(content["confusion_matrix"], CLASSES, title),
        "reliability.png": plots.reliability(labels, probabilities, scaled, title),
        "roc_pr.png": plots.roc_and_precision_recall(labels, probabilities, title),
        "mistakes.png": plots.mistakes(evaluation.images, labels, probabilities, title),
    }
    if evaluation.history:
        pictures["curves.png"] = plots.curves(evaluation.history)
    predictions.write_npz(os.path.join(output, "predictions.npz"), evaluation.predictions)
    for name, picture in pictures.items():
        files.write_bytes(os.path.join(output, name), picture)
    eval_json.write(os.path.join(output, "eval.json"), content)
    return [os.path.join(output, name) for name in ("eval.json", "predictions.npz", *pictures)]


def normalised(probabilities: np.ndarray) -> np.ndarray:
    """float32 probabilities as float64 whose rows sum to 1 to the last bit but one, as log loss wants them."""
    wide = probabilities.astype(np.float64)
    return wide / wide.sum(axis=1, keepdims=True)


def _validation(manifest: manifests.Manifest, request: Request) -> labelled.Labelled | None:
    """The labelled validation split where another one is scored; None where the data have none."""
    split = manifest.splits.get("validation")
    if request.split == "validation" or split is None or not sum(split.class_counts.values()):
        return None
    return labelled.read(manifest, "validation", request.labels)


def _without_training_images(
    manifest: manifests.Manifest, scored: labelled.Labelled, probabilities: np.ndarray
) -> dict[str, Any] | None:
    if "train" not in manifest.splits:
        return None
    seen = leakage.seen_in_training(scored.images, records.read_split(manifest, "train").images)
    return leakage.without(seen, scored.labels, probabilities)


def _by_agreement(scored: labelled.Labelled, probabilities: np.ndarray) -> list[dict[str, Any]] | None:
    if scored.votes is None:
        return None
    return ferplus.by_agreement(scored.votes, probabilities.argmax(axis=1) == scored.labels)


def _history(opened: Sequence[runs.Run]) -> list[dict[str, Any]]:
    """The epochs of a single run, where it kept them."""
    alone = len(opened) == 1 and tf.io.gfile.exists(os.path.join(opened[0].workdir, "history.json"))
    return runs.read_history(opened[0].workdir) if alone else []
