"""One evaluation, from run folders and shards to eval.json, predictions and pictures."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any, Callable, Union

import numpy as np
import tensorflow as tf

from fer.data import example_codec
from fer.data.manifest import Manifest, read_manifest
from fer.errors import UserError
from fer.evaluation import eval_dataset, eval_json, inference, predictions, saved_predictions
from fer.evaluation.metrics import (
    annotator_agreement,
    bootstrap,
    calibration,
    metrics,
    robustness,
    train_overlap,
)
from fer.evaluation.report import report_html
from fer.evaluation.requests import EvalRequest
from fer.io import files
from fer.labels import CLASSES
from fer.models import loading
from fer.viz import gradcam, plots, robustness_plot

Member = Union[loading.Run, saved_predictions.SavedPredictions]

OPTIONAL = ("corruptions.json", "corruptions.png", "gradcam.png", "curves.png")  # not every evaluation writes these


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What was found."""

    content: dict[str, Any]  # of eval.json
    predictions: predictions.Predictions
    images: np.ndarray  # [n, 48, 48, 1] uint8, of the predictions
    history: list[dict[str, Any]]  # of a single run that kept it
    maps: dict[int, np.ndarray]  # by position in images, what spoke for the predicted class (Grad-CAM); none of exports


def evaluate(
    request: EvalRequest,
    progress: Callable[[int, int], None] = lambda done, total: None,
    opened: Sequence[Member] | None = None,
) -> Evaluation:
    """Predicts the split and measures the predictions.

    Args:
      request: what and how.
      progress: called after each batch with the faces done in it and how many there are in all. Where another split
        than validation is scored, validation is predicted too, for the temperature.
      opened: what `request.workdirs` name, where it is open already.

    Raises:
      UserError: a run or the data cannot be read, or the split has no labels of the wanted kind.
    """
    manifest = read_manifest(request.data)
    scored = eval_dataset.read(manifest, request.split, request.labels)
    opened = opened or _open(request, manifest, scored)
    members = _members(opened)
    earlier = any(isinstance(member, saved_predictions.SavedPredictions) for member in opened)
    validation = None if earlier else _validation(manifest, request)  # what was said of it then was not kept
    models = [member.model for member in opened if isinstance(member, loading.Run)]
    count = len(scored.images)
    images = scored.images if validation is None else np.concatenate([scored.images, validation.images])
    total = len(images) + (robustness.PASSES * count if request.corruptions else 0)
    prediction = _predict(opened, images, request.tta, lambda done: progress(done, total))
    probabilities, beyond = np.split(predictions.normalize(prediction.probabilities), [count])
    fit = (
        (scored.labels, probabilities) if request.split == "validation" else validation and (validation.labels, beyond)
    )
    figures = {
        **metrics.measure(scored.labels, probabilities),
        "bootstrap_ci95": bootstrap.intervals(scored.labels, probabilities),
        "calibration": calibration.calibration_report(scored.labels, probabilities, fit) if fit else None,
        "without_training_images": _without_training_images(manifest, scored, probabilities),
        "by_agreement": _by_agreement(scored, probabilities),
    }
    if request.corruptions:
        figures["corruptions"] = _corruptions(models, scored, request.tta, lambda done: progress(done, total))
    content = eval_json.build(
        members,
        manifest,
        request.split,
        figures,
        images_per_second=prediction.images_per_second,
        tta=request.tta,
        labels=request.labels,
        left_out=scored.left_out,
    )
    said = predictions.Predictions(scored.labels, prediction.probabilities[:count], scored.rows)
    # An export has no layers to look into, and an evaluation of before no network.
    blind = earlier or any(isinstance(member, loading.Run) and member.export for member in opened)
    maps = {} if blind else _maps(models, scored, probabilities)
    return Evaluation(content, said, scored.images, _history(opened), maps)


def write(evaluation: Evaluation, output: str) -> list[str]:
    """Writes predictions.npz, the pictures, report.html and, last, eval.json into the folder `output`.

    Where faces made worse were scored, corruptions.json too. Returns the paths.

    Raises:
      UserError: a file cannot be written; an eval.json from before is then untouched.
    """
    content, said = evaluation.content, evaluation.predictions
    pictures = _pictures(evaluation)
    page = report_html.build_page(
        content, said.labels, predictions.normalize(said.probabilities), said.rows, evaluation.images, pictures
    )
    predictions.write_npz(os.path.join(output, "predictions.npz"), said)
    for name, picture in pictures.items():
        files.write_bytes(os.path.join(output, name), picture)
    files.write_text(os.path.join(output, "report.html"), page)
    names = ["eval.json", "predictions.npz", "report.html", *pictures]
    if "corruptions" in content:
        clean = {name: content[name] for name in ("model", "split", "examples", "accuracy", "accuracy_ci95")}
        files.write_json(os.path.join(output, "corruptions.json"), {**clean, **content["corruptions"]})
        names.append("corruptions.json")
    trained_here = files.exists(os.path.join(output, "history.json"))  # and so were its curves drawn
    stale = set(OPTIONAL) - set(names) - ({"curves.png"} if trained_here else set())
    for name in stale:  # an earlier evaluation's, which would be taken for this one's
        if files.exists(os.path.join(output, name)):
            tf.io.gfile.remove(os.path.join(output, name))
    eval_json.write_eval(os.path.join(output, "eval.json"), content)
    return [os.path.join(output, name) for name in names]


def _pictures(evaluation: Evaluation) -> dict[str, bytes]:
    """PNG bytes by file name."""
    content, images = evaluation.content, evaluation.images
    title = f"{content['model']} on {content['data']['name']}, {content['split']}"
    labels, probabilities = evaluation.predictions.labels, predictions.normalize(evaluation.predictions.probabilities)
    found = content["calibration"]
    scaled = calibration.scale(probabilities, found["temperature"]) if found else None
    pictures = {
        "confusion_matrix.png": plots.confusion_matrix(content["confusion_matrix"], CLASSES, title),
        "reliability.png": plots.reliability(labels, probabilities, scaled, title),
        "roc_pr.png": plots.roc_and_precision_recall(labels, probabilities, title),
        "mistakes.png": plots.mistakes(images, labels, probabilities, title),
    }
    if evaluation.maps:
        chosen = gradcam.pick_examples(labels, probabilities)
        pictures["gradcam.png"] = gradcam.plot_examples(chosen, images, evaluation.maps, probabilities, title)
    if "corruptions" in content:
        example = images[probabilities.max(axis=1).argmax()]
        pictures["corruptions.png"] = robustness_plot.accuracy_by_corruption(
            content["corruptions"], content["accuracy"], example, title
        )
    if evaluation.history:
        pictures["curves.png"] = plots.curves(evaluation.history)
    return pictures


def _open(request: EvalRequest, manifest: Manifest, scored: eval_dataset.EvalDataset) -> list[Member]:
    """Each of `request.workdirs`: a run, or what was kept of an earlier evaluation."""
    known = request.known()
    alike = (manifest, request.split, request.tta, request.labels, scored)
    return [
        saved_predictions.read(each, *alike) if each in known else loading.open_run(each) for each in request.workdirs
    ]


def _predict(
    opened: Sequence[Member], images: np.ndarray, tta: str, progress: Callable[[int], None]
) -> inference.Prediction:
    """The mean of what the networks say now and of what was kept of others."""
    models = [member.model for member in opened if isinstance(member, loading.Run)]
    known = [member for member in opened if isinstance(member, saved_predictions.SavedPredictions)]
    if not known:
        return inference.predict(models, images, tta=tta, progress=progress)
    fresh = inference.predict(models, images, tta=tta, progress=progress) if models else None
    return saved_predictions.average(fresh, len(models), known)


def _members(opened: Sequence[Member]) -> list[dict[str, Any]]:
    """What eval.json says of each network.

    Raises:
      UserError: results of before hold one that is there already, and that would weigh double.
    """
    members: list[dict[str, Any]] = []
    for member in opened:
        if isinstance(member, loading.Run):
            members.append(eval_json.member(member))
        else:
            members += [{**each, "kept": member.folder} for each in member.members]
    seen: dict[tuple[str, str], dict[str, Any]] = {}
    for entry in members:
        network = (entry["weights_sha256"], entry.get("export", {}).get("sha256", ""))
        other = seen.setdefault(network, entry)
        if other is not entry and ("kept" in entry or "kept" in other):
            first, second = (each.get("kept", each["workdir"]) for each in (other, entry))
            raise UserError(
                f"{first} and {second} hold the same network (step {entry['checkpoint_step']:,} of "
                f"{entry['workdir']}), which would weigh double: name it once."
            )
    return members


def _validation(manifest: Manifest, request: EvalRequest) -> eval_dataset.EvalDataset | None:
    """The labelled validation split where another one is scored; None where the data have none."""
    split = manifest.splits.get("validation")
    if request.split == "validation" or split is None or not sum(split.class_counts.values()):
        return None
    return eval_dataset.read(manifest, "validation", request.labels)


def _without_training_images(
    manifest: Manifest, scored: eval_dataset.EvalDataset, probabilities: np.ndarray
) -> dict[str, Any] | None:
    if "train" not in manifest.splits:
        return None
    seen = train_overlap.in_training_split(scored.images, example_codec.read_split(manifest, "train").images)
    return train_overlap.without(seen, scored.labels, probabilities)


def _corruptions(
    models: Sequence[tf.keras.Model], scored: eval_dataset.EvalDataset, tta: str, progress: Callable[[int], None]
) -> dict[str, Any]:
    compute = inference.predictor(models, tta=tta)
    return robustness.measure(lambda images: compute(images, progress), scored.images, scored.labels)


def _maps(
    models: Sequence[tf.keras.Model], scored: eval_dataset.EvalDataset, probabilities: np.ndarray
) -> dict[int, np.ndarray]:
    chosen = gradcam.pick_examples(scored.labels, probabilities)
    positions = [position for pair in chosen for position in pair if position is not None]
    maps = gradcam.mean_heatmaps(models, scored.images[positions], probabilities[positions].argmax(axis=1))
    return dict(zip(positions, maps))


def _by_agreement(scored: eval_dataset.EvalDataset, probabilities: np.ndarray) -> list[dict[str, Any]] | None:
    if scored.votes is None:
        return None
    return annotator_agreement.accuracy_by_agreement(scored.votes, probabilities.argmax(axis=1) == scored.labels)


def _history(opened: Sequence[Member]) -> list[dict[str, Any]]:
    """The epochs of a single run, where it kept them."""
    if len(opened) != 1 or not isinstance(opened[0], loading.Run):
        return []
    workdir = opened[0].workdir
    return loading.read_history(workdir) if files.exists(os.path.join(workdir, "history.json")) else []
