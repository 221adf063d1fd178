"""Evaluates run folders on shards and writes eval.json, predictions, plots and report."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from fer.data import photo_overlap
from fer.data.manifest import Manifest, read_manifest
from fer.data.photo_overlap import PhotoOverlap
from fer.errors import UserError
from fer.evaluation import ensemble_members, eval_dataset, eval_json, inference, prediction_files
from fer.evaluation.eval_dataset import EvalDataset
from fer.evaluation.eval_options import EvalRequest
from fer.evaluation.metrics import calibration, metrics, robustness, summary, train_overlap
from fer.evaluation.report import report_html
from fer.io import files
from fer.io.transaction import transaction
from fer.labels import CLASSES
from fer.models import loading
from fer.run_dir import CURVES_FILE, EVAL_FILE, PREDICTIONS_FILE, RunDir
from fer.viz import gradcam, plots, rendering, robustness_plot

Member = loading.LoadedRun | ensemble_members.SavedPredictions
Progress = Callable[[int, int], None]  # called after each batch with the number of images in it and in total

MAX_NAME_LENGTH = 24  # characters of the name of the data in the title of a plot

# Files that only some evaluations write.
OPTIONAL_FILES = ("corruptions.json", "corruptions.png", "gradcam.png", CURVES_FILE)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Result of `evaluate`."""

    content: dict[str, Any]  # of eval.json
    predictions: prediction_files.Predictions
    images: np.ndarray  # [n, 48, 48, 1] uint8, in the order of the predictions
    history: list[dict[str, Any]]  # epochs of a single run; empty if it has no history.json
    maps: dict[int, np.ndarray]  # Grad-CAM heatmap of the predicted class by position in images; empty for exports


def evaluate(
    request: EvalRequest, progress: Progress = lambda count, total: None, members: Sequence[Member] | None = None
) -> Evaluation:
    """Predicts a split and computes the metrics.

    If another split than validation is evaluated, validation is predicted too, to fit the temperature on it.

    Args:
      request: what to evaluate, and how.
      progress: called after each batch with the number of faces in it and the total number of faces to predict.
      members: the opened `request.workdirs`; None opens them here.

    Raises:
      UserError: a run or the data cannot be read, they have different classes, or the split has no labels of the
        requested kind.
    """
    manifest = read_manifest(request.data)
    photos = (photo_overlap.read(manifest) or {}).get(request.split)
    dataset = eval_dataset.read(manifest, request.split, request.labels)
    members = members or _open_members(request, manifest, dataset)
    descriptions = _describe_members(members, manifest)
    runs = [member for member in members if isinstance(member, loading.LoadedRun)]
    models = [run.model for run in runs]
    only_runs = len(runs) == len(members)
    validation = _read_validation(manifest, request) if only_runs else None  # saved predictions are of one split
    images = dataset.images if validation is None else np.concatenate([dataset.images, validation.images])
    count = len(dataset.images)
    total = len(images) + (robustness.PASSES * count if request.robustness else 0)
    prediction = _predict(members, images, request.tta, lambda done: progress(done, total))
    probabilities, rest = np.split(prediction_files.normalize(prediction.probabilities), [count])
    fit = (dataset.labels, probabilities) if request.split == "validation" else validation and (validation.labels, rest)
    results = _compute_metrics(dataset, probabilities, fit, manifest.classes)
    results |= _measure_leakage(manifest, request, dataset, probabilities, photos)
    if request.robustness:
        compute = inference.make_predict_fn(models, tta=request.tta)
        results["corruptions"] = robustness.measure_robustness(
            lambda faces: compute(faces, lambda done: progress(done, total)), dataset.images, dataset.labels
        )
    protocol = eval_json.Protocol(request.split, request.tta, request.labels, dataset.num_unlabelled)
    content = eval_json.build(descriptions, manifest, protocol, results, prediction.images_per_second)
    has_layers = only_runs and not any(run.export for run in runs)  # Grad-CAM needs the layers of every network
    return Evaluation(
        content,
        prediction_files.Predictions(dataset.labels, prediction.probabilities[:count], dataset.rows),
        dataset.images,
        _read_history(members),
        _heatmaps(models, dataset, probabilities) if has_layers else {},
    )


def write(evaluation: Evaluation, output: str) -> list[str]:
    """Writes predictions.npz, the plots, report.html and, last, eval.json into the folder `output`.

    An evaluation under corruption also writes corruptions.json. Optional files of an earlier evaluation are removed.
    In a local folder, all files are replaced together.

    Returns:
      The paths of the written files.

    Raises:
      UserError: a file cannot be written; existing local files are then unchanged.
    """
    content, predicted = evaluation.content, evaluation.predictions
    drawn = _draw_plots(evaluation)
    probabilities = prediction_files.normalize(predicted.probabilities)
    page = report_html.build_page(content, predicted.labels, probabilities, predicted.rows, evaluation.images, drawn)
    texts = {"report.html": page}
    if "corruptions" in content:
        clean = {name: content[name] for name in ("model", "split", "examples", "accuracy", "accuracy_ci95")}
        texts["corruptions.json"] = files.json_text({**clean, **content["corruptions"]})
    paths = {name: os.path.join(output, name) for name in (EVAL_FILE, PREDICTIONS_FILE, "report.html", *drawn, *texts)}
    for path in paths.values():
        files.check_writable(path)  # a folder of this name would be replaced
    with transaction(_list_stale(output, paths)) as stage:
        prediction_files.write_npz(stage(paths[PREDICTIONS_FILE]), predicted)
        for name, plot in drawn.items():
            files.write_bytes(stage(paths[name]), plot)
        for name, text in texts.items():
            files.write_text(stage(paths[name]), text)
        eval_json.write_eval(stage(paths[EVAL_FILE]), content)
    return list(paths.values())


def _list_stale(output: str, written: Collection[str]) -> list[str]:
    """Returns the paths of the optional files of an earlier evaluation.

    Args:
      output: the folder of the results.
      written: names of the files that this evaluation writes.
    """
    is_run_folder = files.exists(RunDir(output).history_file)  # training wrote its curves.png
    names = set(OPTIONAL_FILES) - set(written) - ({CURVES_FILE} if is_run_folder else set())
    paths = [os.path.join(output, name) for name in sorted(names)]
    return [path for path in paths if files.exists(path) and not files.isdir(path)]


def _draw_plots(evaluation: Evaluation) -> dict[str, bytes]:
    """Draws the plots of an evaluation; returns PNG bytes by file name."""
    content, images = evaluation.content, evaluation.images
    classes = content["classes"]
    title = _title(content)
    labels, probabilities = (
        evaluation.predictions.labels,
        prediction_files.normalize(evaluation.predictions.probabilities),
    )
    fitted = content["calibration"]
    scaled = calibration.scale(probabilities, fitted["temperature"]) if fitted else None
    drawn = {
        "confusion_matrix.png": plots.confusion_matrix(content["confusion_matrix"], classes, title),
        "reliability.png": plots.reliability(labels, probabilities, scaled, title),
        "roc_pr.png": plots.roc_and_precision_recall(labels, probabilities, classes, title),
        "mistakes.png": plots.mistakes(images, labels, probabilities, classes, title),
    }
    if evaluation.maps:
        examples = gradcam.pick_examples(labels, probabilities)
        drawn["gradcam.png"] = gradcam.plot_examples(examples, images, evaluation.maps, probabilities, classes, title)
    if "corruptions" in content:
        example = images[probabilities.max(axis=1).argmax()]
        drawn["corruptions.png"] = robustness_plot.accuracy_by_corruption(
            content["corruptions"], content["accuracy"], example, title
        )
    if evaluation.history:
        drawn[CURVES_FILE] = plots.curves(evaluation.history)
    return drawn


def _title(content: dict[str, Any]) -> str:
    """Names networks, data and split of an evaluation, in at most the width of the narrowest plot."""
    count = len(content["protocol"]["members"])
    model = f"ensemble of {count} networks" if count > 1 else content["model"]
    return f"{model} on {rendering.truncate(content['data']['name'], MAX_NAME_LENGTH)}, {content['split']}"


def _open_members(request: EvalRequest, manifest: Manifest, dataset: EvalDataset) -> list[Member]:
    """Opens each of `request.workdirs`: a run, or saved predictions."""
    saved = request.saved_workdirs()
    protocol = (manifest, request.split, request.tta, request.labels, dataset)
    return [
        ensemble_members.read(workdir, *protocol) if workdir in saved else loading.open_run(workdir)
        for workdir in request.workdirs
    ]


def _predict(
    members: Sequence[Member], images: np.ndarray, tta: str, progress: Callable[[int], None]
) -> inference.Prediction:
    """Returns the mean probabilities of all networks, computed or saved."""
    models = [member.model for member in members if isinstance(member, loading.LoadedRun)]
    saved = [member for member in members if isinstance(member, ensemble_members.SavedPredictions)]
    if not saved:
        return inference.predict(models, images, tta=tta, progress=progress)
    computed = inference.predict(models, images, tta=tta, progress=progress) if models else None
    return ensemble_members.average(computed, len(models), saved)


def _describe_members(members: Sequence[Member], manifest: Manifest) -> list[dict[str, Any]]:
    """Builds the field protocol.members of eval.json.

    Raises:
      UserError: a network has other classes than the data, or is a member twice and would count twice.
    """
    descriptions: list[dict[str, Any]] = []
    for member in members:
        if isinstance(member, loading.LoadedRun):  # saved predictions were checked when they were read
            loading.check_same_classes(member.workdir, member.classes, manifest.folder, manifest.classes)
            descriptions.append(eval_json.describe_member(member))
        else:
            descriptions += [{**each, "source_eval": member.folder} for each in member.members]
    by_network: dict[tuple[str, str], dict[str, Any]] = {}
    for entry in descriptions:
        network = (entry["weights_sha256"], entry.get("export", {}).get("sha256", ""))
        other = by_network.setdefault(network, entry)
        if other is not entry:
            first, second = (each.get("source_eval", each["workdir"]) for each in (other, entry))
            raise UserError(
                f"{first} and {second} hold the same network (step {entry['checkpoint_step']:,} of "
                f"{entry['workdir']}), which would count twice. Name it once."
            )
    return descriptions


def _read_validation(manifest: Manifest, request: EvalRequest) -> EvalDataset | None:
    """Reads the validation split, unless it is the evaluated split or the data have no labelled one."""
    split = manifest.splits.get("validation")
    if request.split == "validation" or split is None or not sum(split.class_counts.values()):
        return None
    return eval_dataset.read(manifest, "validation", request.labels)


def _measure_leakage(
    manifest: Manifest,
    request: EvalRequest,
    dataset: EvalDataset,
    probabilities: np.ndarray,
    photos: PhotoOverlap | None,
) -> dict[str, Any]:
    """Computes the metrics of eval.json without the examples that are in the train split."""
    labels, rows = dataset.labels, dataset.rows
    overlap = train_overlap.find_overlap(manifest, request.split, dataset.images, rows)
    leakage: dict[str, Any] = {
        "excluding_train_duplicates": (
            None if overlap is None else train_overlap.exclude_overlap(overlap, labels, probabilities)
        )
    }
    if photos is not None:
        found = train_overlap.exclude_photos(photos, rows, labels, probabilities)
        if found and request.labels != "fer":  # the labels of the train faces are of another kind
            found["lookup_accuracy"] = None
        leakage["excluding_train_photos"] = found
    return leakage


def _compute_metrics(
    dataset: EvalDataset,
    probabilities: np.ndarray,
    fit: tuple[np.ndarray, np.ndarray] | None,
    classes: tuple[str, ...],
) -> dict[str, Any]:
    """Computes the metrics of eval.json, except for those under corruption and of leakage.

    Args:
      dataset: n examples.
      probabilities: [n, C] float64.
      fit: labels and probabilities of validation, on which the temperature is fitted; None gives no temperature.
      classes: the C names. Votes of FER+ are for those of FER-2013, so others have no accuracy by agreement.
    """
    agreement = None
    if dataset.votes is not None and classes == CLASSES:
        correct = probabilities.argmax(axis=1) == dataset.labels
        agreement = metrics.accuracy_by_agreement(dataset.votes, correct)
    return {
        **summary.summarize(dataset.labels, probabilities, classes),
        "calibration": calibration.calibration_report(dataset.labels, probabilities, fit) if fit else None,
        "accuracy_by_agreement": agreement,
    }


def _heatmaps(
    models: Sequence[tf.keras.Model], dataset: EvalDataset, probabilities: np.ndarray
) -> dict[int, np.ndarray]:
    """Computes the Grad-CAM heatmaps of the example faces, by position."""
    examples = gradcam.pick_examples(dataset.labels, probabilities)
    positions = [position for pair in examples for position in pair if position is not None]
    maps = gradcam.mean_heatmaps(models, dataset.images[positions], probabilities[positions].argmax(axis=1))
    return dict(zip(positions, maps))


def _read_history(members: Sequence[Member]) -> list[dict[str, Any]]:
    """Reads the epochs of a single run; returns an empty list for an ensemble or a run without history.json."""
    if len(members) != 1 or not isinstance(members[0], loading.LoadedRun):
        return []
    return RunDir(members[0].workdir).read_history()
