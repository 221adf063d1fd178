"""What an evaluation says, in plain words and rows of tables: eval.json for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fer.evaluation import eval_json

CLASS_HEADER = ("class", "faces", "precision", "recall", "F1", "ROC AUC", "average precision")
VIEWS = {
    "none": "Each face was looked at once, as it is.",
    "flip": "Each face was looked at twice, as it is and mirrored, and the probabilities averaged.",
    "tencrop": "Each face was looked at in ten cuts (four corners and the middle, each also mirrored), and the "
    "probabilities averaged.",
}
FIGURES = {  # name in eval.json: name for people, what it says
    "accuracy": ("accuracy", "share of faces recognised (interval: Wilson; the others: bootstrap)"),
    "balanced_accuracy": ("balanced accuracy", "mean share recognised over the classes, each counting alike"),
    "macro_f1": ("macro F1", "mean of the classes' F1, each counting alike"),
    "cohen_kappa": ("Cohen's kappa", "agreement beyond chance: 0 is chance, 1 is perfect"),
    "matthews": ("Matthews", "correlation of truth and prediction: 0 is chance, 1 is perfect"),
    "log_loss": ("log loss", "surprise at the true class, in nats: lower is better, 1.946 is guessing evenly"),
    "brier": ("Brier score", "squared distance of the probabilities to the truth: 0 is best, 2 worst"),
    "ece": ("calibration error", "distance between confidence and accuracy (15 bins): lower is better"),
}


def protocol(content: Mapping[str, Any]) -> list[str]:
    """How it was measured and what is to be kept in mind, a sentence or two each."""
    told = content["protocol"]
    several = len(told["members"]) > 1
    sentences = [
        f"{len(told['members'])} networks, their probabilities averaged with equal weights, with "
        f"{content['parameters']:,} parameters together."
        if several
        else f"One network, {content['model']}, with {content['parameters']:,} parameters.",
        _selection(content),
        VIEWS[told["tta"]],
        "True is what FER-2013's label says."
        if told["labels"] == "fer"
        else "True is the class that most of FER+'s ten people chose.",
    ]
    if told["left_out"]:
        sentences.append(f"{told['left_out']:,} faces without such a label are left out.")
    return [*sentences, *_caveats(content)]


def _selection(content: Mapping[str, Any]) -> str:
    split, selected_on = content["split"], content["protocol"]["selected_on"]
    if split not in selected_on.split(", "):
        return f"The split {selected_on} chose the weights; {split} had no say in it."
    if eval_json.is_training_data(content):
        return (
            f"The split {split} chose the weights and is scored here too, so the figures are a little too good; a "
            "split that had no say gives honest ones."
        )
    return (
        f"A split {split} chose the weights, but of other shards than these; where faces are in both, the figures are "
        "a little too good."
    )


def _caveats(content: Mapping[str, Any]) -> list[str]:
    sentences = []
    found = content["without_training_images"]
    if found and found["left_out"]:
        saw = "training saw" if eval_json.is_training_data(content) else "these shards would train on"
        sentences.append(
            f"{found['left_out']:,} of these faces are, pixel by pixel, faces that {saw}; without them the "
            f"accuracy is {_percent(found['accuracy'])}, {_points_from_leakage(100 * found['accuracy_difference'])}."
        )
    scaled = content["calibration"]
    if scaled:
        mood = "too confident" if scaled["temperature"] > 1 else "too modest"
        found = f"{content['ece']:.3f} to {scaled['ece']:.3f}"
        sentences.append(
            f"By its log loss the network is {mood}: dividing its logits by {scaled['temperature']:.2f} (fitted on "
            f"validation only) takes that from {content['log_loss']:.3f} to {scaled['log_loss']:.3f}, "
            + (
                f"and its calibration error from {found}."
                if scaled["ece"] <= content["ece"]
                else f"but its calibration error up from {found}: one number does not mend what is amiss."
            )
        )
    if "corruptions" in content:
        sentences.append(
            f"On faces made worse in {len(content['corruptions']['kinds'])} ways, at five strengths each, the mean "
            f"accuracy is {_percent(content['corruptions']['mean_accuracy'])}."
        )
    return sentences


def _points_from_leakage(difference: float) -> str:
    """Returns how an accuracy without leaked images differs from the one with them: `difference` points less."""
    if abs(difference) < 0.005:
        return "the same as with them"
    return f"{abs(difference):.2f} points {'lower' if difference > 0 else 'higher'} than with them"


def figures(content: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Name, value, interval and meaning."""
    resampled = {**content.get("bootstrap_ci95", {}), "accuracy": content["accuracy_ci95"]}
    return [
        (shown, _number(content[name]), _interval(resampled.get(name)), meaning)
        for name, (shown, meaning) in FIGURES.items()
    ]


def classes(content: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The rows under `CLASS_HEADER`."""
    names = ("precision", "recall", "f1", "roc_auc", "average_precision")
    return [
        (name, f"{of_class['support']:,}", *(_number(of_class[each]) for each in names))
        for name, of_class in content["per_class"].items()
    ]


def corruptions(content: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Kind, the accuracy at each strength, their mean, and what the levels are."""
    return [
        (
            name.replace("_", " "),
            *map(_percent, kind["accuracy"]),
            _percent(float(np.mean(kind["accuracy"]))),
            f"{kind['meaning']}: {', '.join(f'{level:g}' for level in kind['levels'])}",
        )
        for name, kind in content["corruptions"]["kinds"].items()
    ]


def provenance(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was measured with what, by name and hash."""
    data = content["data"]
    rows = [("data", data["name"]), ("data's manifest, SHA-256", data["manifest_sha256"])]
    for member in content["protocol"]["members"]:
        rows += [
            ("run", f"{member['workdir']}, step {member['checkpoint_step']:,}, {member['precision']}"),
            ("its configuration, SHA-256", member["config_sha256"]),
            ("its weights, SHA-256", member["weights_sha256"]),
            ("trained on", f"{member['trained_on']['name']}, manifest {member['trained_on']['manifest_sha256']}"),
        ]
        if "kept" in member:
            rows.append(("its probabilities, from the evaluation in", member["kept"]))
        if "export" in member:
            export = member["export"]
            what = f"{export['format']}, {export['precision']}, {export['file']}"
            rows += [("its export, which was measured", what), ("the export's SHA-256", export["sha256"])]
    earlier = any("kept" in member for member in content["protocol"]["members"])
    where = "speed, with the times of earlier evaluations as they were measured then" if earlier else "speed here"
    rows.append((where, f"{content['images_per_second']:.0f} images/s"))
    return [*rows, ("versions", ", ".join(f"{name} {version}" for name, version in content["versions"].items()))]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _interval(bounds: list[float] | None) -> str:
    return f"{bounds[0]:.4f} to {bounds[1]:.4f}" if bounds else "-"
