"""eval.json: put together from its parts, held against its schema, written and read."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.resources
import json
import platform
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import fer
from fer.data.manifest import Manifest
from fer.errors import UserError
from fer.io import files
from fer.labels import CLASSES
from fer.models.loading import Run

if TYPE_CHECKING:
    import jsonschema

SCHEMA_VERSION = 1


def build(
    members: Sequence[dict[str, Any]],
    manifest: Manifest,
    split: str,
    figures: dict[str, Any],
    images_per_second: float | None,
    tta: str,
    labels: str,
    left_out: int,
) -> dict[str, Any]:
    """The content of eval.json; eval.schema.json says what each field means.

    Args:
      members: what `member` says of each, at least one.
      manifest, split: what was evaluated.
      figures: what `fer.evaluation.metrics.metrics.measure` returned, and calibration, without_training_images and
        by_agreement.
      images_per_second: of the inference.
      tta: one of `fer.config.TTA`.
      labels: fer or ferplus.
      left_out: examples of the split that have no such label.
    """
    import numpy
    import sklearn
    import tensorflow as tf

    alone = members[0] if len(members) == 1 else {}
    return {
        "schema_version": SCHEMA_VERSION,
        "model": " + ".join(each["model"] for each in members),
        "parameters": sum(each["parameters"] for each in members),
        "split": split,
        "examples": sum(map(sum, figures["confusion_matrix"])),
        **figures,
        "classes": list(CLASSES),
        "images_per_second": images_per_second,
        "protocol": {
            "selected_on": _joined(members, "selected_on"),
            "tta": tta,
            "members": members,
            "precision": _joined(members, "precision"),
            "labels": labels,
            "left_out": left_out,
        },
        "data": of_data(manifest),
        "config_sha256": alone.get("config_sha256"),
        "checkpoint_step": alone.get("checkpoint_step"),
        "versions": {
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "keras": importlib.metadata.version(fer.KERAS),
            "numpy": numpy.__version__,
            "scikit-learn": sklearn.__version__,
            "fer": fer.__version__,
        },
    }


def member(run: Run) -> dict[str, Any]:
    """What eval.json says of one of the networks whose probabilities are averaged."""
    return {
        "workdir": run.workdir,
        "model": run.config.model.name,
        "parameters": run.parameters,
        "precision": run.precision,
        "selected_on": run.selected_on,
        "config_sha256": run.config_sha256,
        "checkpoint_step": run.step,
        "weights_sha256": run.weights_sha256,
        "trained_on": run.trained_on,
        "learned_from": {
            "weights": run.config.model.weights,
            "targets": run.config.train.targets,
            "teacher": run.config.train.teacher,
        },
        **({"export": run.export} if run.export else {}),
    }


def of_data(manifest: Manifest) -> dict[str, Any]:
    """What eval.json says under data."""
    return {
        "name": manifest.name,
        "manifest_sha256": manifest.sha256,
        "examples_per_split": {name: part.examples for name, part in manifest.splits.items()},
    }


def write_eval(path: str, evaluation: dict[str, Any]) -> None:
    """Writes eval.json, once it is what the schema says.

    Raises:
      jsonschema.ValidationError: it is not (a fault of the program, not of its user).
      UserError: the file cannot be written.
    """
    _validator().validate(evaluation)
    files.write_json(path, evaluation)


def read_eval(path: str) -> dict[str, Any]:
    """Reads an eval.json.

    Raises:
      UserError: it is missing, damaged, or not what this version's schema says.
    """
    import jsonschema

    evaluation = files.read_json(path, "the evaluation")
    fault = jsonschema.exceptions.best_match(_validator().iter_errors(evaluation))
    if fault is not None:
        raise UserError(f"{path} is no eval.json of this version: {fault.json_path}: {fault.message}.")
    return evaluation


def summary_line(evaluation: dict[str, Any]) -> str:
    """What a person wants to know first, in three lines."""
    low, high = (100 * bound for bound in evaluation["accuracy_ci95"])
    protocol, examples = evaluation["protocol"], evaluation["examples"]
    exports = [each["export"] for each in protocol["members"] if "export" in each]
    exported = f", of them exported: {', '.join(named(export) for export in exports)}" if exports else ""
    known = sum("kept" in each for each in protocol["members"])
    earlier = f", {known} of them as evaluated earlier" if known else ""
    return (
        f"{evaluation['model']} on {evaluation['data']['name']}, {evaluation['split']}: {examples:,} examples, labels "
        f"{protocol['labels']} ({protocol['left_out']} left out), test-time augmentation {protocol['tta']}, "
        f"{len(protocol['members'])} model(s){exported}{earlier}\n"
        f"accuracy {100 * evaluation['accuracy']:.2f} % (95 %: {low:.2f} to {high:.2f}), "
        f"balanced {100 * evaluation['balanced_accuracy']:.2f} %, macro F1 {evaluation['macro_f1']:.4f}\n"
        f"log loss {evaluation['log_loss']:.4f}, calibration error {evaluation['ece']:.4f}, "
        f"{evaluation['images_per_second']:.0f} images/s"
    )


def is_training_data(evaluation: Mapping[str, Any]) -> bool:
    """Whether the shards that were scored are those that every member was trained on, and whose splits chose it."""
    scored = evaluation["data"]["manifest_sha256"]
    return all(each["trained_on"]["manifest_sha256"] == scored for each in evaluation["protocol"]["members"])


def named(export: Mapping[str, str]) -> str:
    """A member's export in words, as "tflite int8"."""
    return f"{export['format']} {export['precision']}"


@functools.cache
def _validator() -> jsonschema.Draft202012Validator:
    import jsonschema

    text = importlib.resources.files("fer.evaluation").joinpath("eval.schema.json").read_text(encoding="utf-8")
    return jsonschema.Draft202012Validator(json.loads(text))


def _joined(members: Sequence[dict[str, Any]], field: str) -> str:
    """The value that all members share, or the different ones."""
    return ", ".join(dict.fromkeys(each[field] for each in members))
