"""Texts and table rows of an evaluation, for report.html and the model card."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fer.evaluation import eval_json
from fer.evaluation.metrics import bootstrap
from fer.labels import CLASSES

METRIC_HEADER = ("metric", "value", "95 % CI", "meaning")
CLASS_HEADER = ("class", "examples", "precision", "recall", "F1", "ROC AUC", "average precision")
TTA = {  # protocol.tta of eval.json: text
    "none": "No test-time augmentation.",
    "flip": "Test-time augmentation: mean probabilities of the image and its mirror image.",
    "tencrop": "Test-time augmentation: mean probabilities of ten crops (four corners and centre, each also mirrored).",
}
METRICS = {  # key of eval.json: name, and meaning, in which {classes} is the number of classes
    "accuracy": ("accuracy", "share of correct predictions"),
    "balanced_accuracy": ("balanced accuracy", "mean recall of the classes that occur"),
    "macro_f1": ("macro F1", "mean F1 of the {classes} classes"),
    "cohen_kappa": ("Cohen's kappa", "agreement beyond chance: 0 = chance, 1 = perfect"),
    "matthews": ("Matthews correlation", "labels against predictions: 0 = chance, 1 = perfect"),
    "log_loss": ("log loss", "cross-entropy in nats; lower is better; {log:.3f} = uniform guessing"),
    "brier": ("Brier score", "squared error of the probabilities: 0 = best, 2 = worst"),
    "ece": ("ECE", "expected calibration error, 15 bins; lower is better"),
}
COUNT_WORDS = ("two", "three", "four", "five", "six", "seven", "eight", "nine")  # from 2 on
INTERVALS = (
    "95 % confidence intervals: Wilson's for the accuracy, bootstrap with "
    f"{bootstrap.RESAMPLES:,} resamples for the other metrics. ECE has none, because resampling biases it upwards."
)


def protocol_sentences(content: Mapping[str, Any]) -> list[str]:
    """Describes how an evaluation was done, and its caveats.

    Args:
      content: of eval.json.

    Returns:
      Texts of one or two sentences.
    """
    protocol = content["protocol"]
    count = len(protocol["members"])
    sentences = [
        f"Ensemble of {count} networks (unweighted mean of their probabilities), {content['parameters']:,} parameters."
        if count > 1
        else f"One network, {content['model']}, {content['parameters']:,} parameters.",
        _selection(content),
        TTA[protocol["tta"]],
        _ground_truth(content),
    ]
    if protocol["num_unlabelled"]:
        sentences.append(f"{protocol['num_unlabelled']:,} examples without such a label are excluded.")
    return [*sentences, *_caveats(content)]


def count_word(classes: Sequence[str]) -> str:
    """Returns the number of classes, as a word if it is small."""
    return COUNT_WORDS[len(classes) - 2] if len(classes) < 10 else str(len(classes))


def _ground_truth(content: Mapping[str, Any]) -> str:
    if content["protocol"]["labels"] == "ferplus":
        return "Ground truth: majority of the FER+ votes."
    source = "FER-2013 labels" if tuple(content["classes"]) == CLASSES else "the labels of the data"
    return f"Ground truth: {source}."


def _selection(content: Mapping[str, Any]) -> str:
    """Describes which split selected the checkpoint, and whether the metrics are optimistic because of it."""
    split, selected_on = content["split"], content["protocol"]["selected_on"]
    if split == "train" and eval_json.is_training_data(content):
        trained = "The network was trained on these faces, so the metrics are optimistic."
        return f"Checkpoint selected on {selected_on}. {trained}"
    if split not in selected_on.split(", "):
        return f"Checkpoint selected on {selected_on}; {split} was not used for selection."
    if eval_json.is_training_data(content):
        return (
            f"Checkpoint selected on {split}, the split evaluated here, so these metrics are optimistic; a split that "
            "was not used for selection gives unbiased ones."
        )
    return (
        f"Checkpoint selected on a split named {split} of other shards; faces that are in both make these metrics "
        "optimistic."
    )


def _leakage(content: Mapping[str, Any]) -> list[str]:
    """Describes how many evaluated faces are also in the train split, and the accuracy without them."""
    sentences = []
    clean, photos = content["excluding_train_duplicates"], content.get("excluding_train_photos")
    train = "images of the training data"
    if not eval_json.is_training_data(content):
        train = "images of the train split of these shards (the network was trained on other shards)"
    if clean and clean["num_duplicates"]:
        sentences.append(
            f"Data leakage: {clean['num_duplicates']:,} of these faces are identical, pixel by pixel, to {train}. "
            f"Without them, the accuracy is {_percent(clean['accuracy'])}, "
            f"{_leakage_difference(100 * clean['accuracy_difference'])}."
        )
    if eval_json.is_all_in_train(content, "excluding_train_duplicates"):
        sentences.append(f"Data leakage: all of these faces are identical, pixel by pixel, to {train}.")
    if photos and photos["num_duplicates"]:
        sentences.append(
            f"Shared photographs: {photos['num_duplicates']:,} of these faces are cut from the same photographs as "
            f"{train}. Without them, the accuracy is {_percent(photos['accuracy'])}."
        )
        if photos["lookup_accuracy"] is not None:
            sentences.append(
                "With the labels of those images instead of predictions, the accuracy on all faces is "
                f"{_percent(photos['lookup_accuracy'])}."
            )
    if eval_json.is_all_in_train(content, "excluding_train_photos"):
        sentences.append(f"Shared photographs: all of these faces are cut from the same photographs as {train}.")
    return sentences


def _caveats(content: Mapping[str, Any]) -> list[str]:
    sentences, scaled = _leakage(content), content["calibration"]
    if scaled:
        confidence = "over-confident" if scaled["temperature"] > 1 else "under-confident"
        log_loss = _change("log loss", content["log_loss"], scaled["log_loss"])
        ece = _change("ECE", content["ece"], scaled["ece"])
        conjunction = "and" if log_loss.split()[0] == ece.split()[0] else "but"
        sentences.append(
            f"The network is {confidence}. Temperature {scaled['temperature']:.2f} (fitted on validation) {log_loss} "
            f"{conjunction} {ece}."
        )
    if "corruptions" in content:
        sentences.append(
            f"Mean accuracy under corruption ({len(content['corruptions']['kinds'])} kinds, 5 strengths each): "
            f"{_percent(content['corruptions']['mean_accuracy'])}."
        )
    return sentences


def _change(name: str, before: float, after: float) -> str:
    """Describes how a metric changes, such as "lowers ECE from 0.100 to 0.020"."""
    return f"{'lowers' if after <= before else 'raises'} {name} from {before:.3f} to {after:.3f}"


def _leakage_difference(difference: float) -> str:
    """Describes the accuracy without leaked images, which is `difference` percentage points lower than with them."""
    if abs(difference) < 0.005:
        return "the same as with them"
    return f"{abs(difference):.2f} points {'lower' if difference > 0 else 'higher'} than with them"


def metric_rows(content: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Returns the rows below `METRIC_HEADER`."""
    intervals = {**content.get("bootstrap_ci95", {}), "accuracy": content["accuracy_ci95"]}
    facts = {"classes": count_word(content["classes"]), "log": math.log(len(content["classes"]))}
    return [
        (name, _number(content[key]), _interval(intervals.get(key)), meaning.format(**facts))
        for key, (name, meaning) in METRICS.items()
    ]


def class_rows(content: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Returns the rows below `CLASS_HEADER`, one for each class in label order."""
    keys = ("precision", "recall", "f1", "roc_auc", "average_precision")
    return [
        (name, f"{metrics['support']:,}", *(_number(metrics[key]) for key in keys))
        for name, metrics in content["per_class"].items()
    ]


def corruption_rows(content: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Returns, for each corruption: name, accuracy at each of the 5 strengths, mean accuracy, and the levels."""
    return [
        (
            name.replace("_", " "),
            *map(_percent, kind["accuracy"]),
            _percent(float(np.mean(kind["accuracy"]))),
            f"{kind['meaning']}: {', '.join(f'{level:g}' for level in kind['levels'])}",
        )
        for name, kind in content["corruptions"]["kinds"].items()
    ]


def provenance_rows(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns names and values: the data, the members with their hashes, the throughput and the versions."""
    data = content["data"]
    rows = [("data", data["name"]), ("manifest SHA-256", data["manifest_sha256"])]
    for member in content["protocol"]["members"]:
        rows += [
            ("run", f"{member['workdir']}, step {member['checkpoint_step']:,}, {member['precision']}"),
            ("config SHA-256", member["config_sha256"]),
            ("weights SHA-256", member["weights_sha256"]),
            ("trained on", f"{member['trained_on']['name']}, manifest {member['trained_on']['manifest_sha256']}"),
        ]
        ancestors = eval_json.ancestors(member)
        averaged = [each for run in (member, *ancestors) for each in eval_json.averaged_runs(run)]
        for run in ancestors:
            text = f"{run['run']}, step {run['step']:,}, weights SHA-256 {run['weights_sha256']}"
            rows.append(("average of" if run in averaged else "started from", text))
        if "source_eval" in member:
            rows.append(("probabilities read from", member["source_eval"]))
        if "export" in member:
            export = member["export"]
            rows += [
                ("export evaluated", f"{export['format']}, {export['precision']}, {export['file']}"),
                ("export SHA-256", export["sha256"]),
            ]
    saved = any("source_eval" in member for member in content["protocol"]["members"])
    name = "throughput, with recorded times of saved predictions" if saved else "throughput"
    rows.append((name, f"{content['images_per_second']:.0f} images/s"))
    return [*rows, ("versions", ", ".join(f"{name} {version}" for name, version in content["versions"].items()))]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _interval(bounds: list[float] | None) -> str:
    return f"{bounds[0]:.4f}-{bounds[1]:.4f}" if bounds else "-"
