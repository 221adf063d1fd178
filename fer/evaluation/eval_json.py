"""Builds, validates, writes and reads eval.json."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.resources
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from fer import run_dir
from fer.data.manifest import Manifest
from fer.errors import UserError
from fer.io import files
from fer.models.loading import LoadedRun

if TYPE_CHECKING:
    import jsonschema

SCHEMA_VERSION = 2
# Keys of schema version 1 and their present names, by the key of the object that they are in ("" is the file itself).
ALIASES = {
    ("", "without_training_images"): "excluding_train_duplicates",
    ("", "by_agreement"): "accuracy_by_agreement",
    ("without_training_images", "left_out"): "num_duplicates",
    ("protocol", "left_out"): "num_unlabelled",
    ("members", "kept"): "source_eval",
    ("learned_from", "targets"): "label_source",
    ("learned_from", "teacher"): "teacher_runs",
}


class Protocol(NamedTuple):
    """Protocol of an evaluation."""

    split: str
    tta: str  # one of `fer.config.TTA`
    labels: str  # fer | ferplus
    num_unlabelled: int  # examples of the split without such a label, which are left out


def build(
    members: Sequence[dict[str, Any]],
    manifest: Manifest,
    protocol: Protocol,
    metrics: dict[str, Any],
    images_per_second: float | None,
) -> dict[str, Any]:
    """Builds the content of eval.json, whose fields eval.schema.json describes.

    Args:
      members: at least one, as `describe_member` returns them.
      manifest: of the evaluated data.
      protocol: how the split was evaluated.
      metrics: as `fer.evaluation.metrics.metrics.compute_metrics` returns them, and calibration,
        excluding_train_duplicates and accuracy_by_agreement.
      images_per_second: throughput of the inference.
    """
    single = members[0] if len(members) == 1 else {}
    return {
        "schema_version": SCHEMA_VERSION,
        "model": " + ".join(each["model"] for each in members),
        "parameters": sum(each["parameters"] for each in members),
        "split": protocol.split,
        "examples": sum(map(sum, metrics["confusion_matrix"])),
        **metrics,
        "classes": list(manifest.classes),
        "images_per_second": images_per_second,
        "protocol": {
            "selected_on": _join_distinct(members, "selected_on"),
            "tta": protocol.tta,
            "members": members,
            "precision": _join_distinct(members, "precision"),
            "labels": protocol.labels,
            "num_unlabelled": protocol.num_unlabelled,
        },
        "data": manifest.record(),
        "config_sha256": single.get("config_sha256"),
        "checkpoint_step": single.get("checkpoint_step"),
        "versions": {**run_dir.software_versions(), "scikit-learn": importlib.metadata.version("scikit-learn")},
    }


def describe_member(run: LoadedRun) -> dict[str, Any]:
    """Builds an entry of the field protocol.members, which describes one network."""
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
        "learned_from": run.learned_from(),
        **({"export": run.export} if run.export else {}),
    }


def write_eval(path: str, evaluation: dict[str, Any]) -> None:
    """Validates an evaluation against the schema and writes it.

    Raises:
      jsonschema.ValidationError: the evaluation does not match the schema, which is an error of the program.
      UserError: the file cannot be written.
    """
    import jsonschema

    _validator().validate(evaluation)
    if _find_fault(evaluation):
        raise jsonschema.ValidationError(_find_fault(evaluation))
    files.write_json(path, evaluation)


def read_eval(path: str) -> dict[str, Any]:
    """Reads an eval.json of this schema version or of version 1, whose keys get their present names.

    Raises:
      UserError: the file is missing or damaged, or does not match the schema of this version.
    """
    import jsonschema

    evaluation = files.read_json(path, "the evaluation")
    if isinstance(evaluation, dict) and evaluation.get("schema_version") == 1:
        evaluation = {**_rename_keys(evaluation), "schema_version": SCHEMA_VERSION}
    error = jsonschema.exceptions.best_match(_validator().iter_errors(evaluation))
    fault = _find_fault(evaluation) if error is None else f"{error.json_path}: {error.message}"
    if fault:
        raise UserError(f"{path} is no eval.json of this version: {fault}.")
    return evaluation


def _find_fault(evaluation: Mapping[str, Any]) -> str:
    """Returns which field does not fit the classes, which the schema cannot express; "" if all do."""
    classes = evaluation["classes"]
    if sorted(evaluation["per_class"]) != sorted(classes):
        return "$.per_class: its names are not those of $.classes"
    if {len(row) for row in [*evaluation["confusion_matrix"], evaluation["confusion_matrix"]]} != {len(classes)}:
        return f"$.confusion_matrix: it is not {len(classes)} rows of {len(classes)} counts, one for each class"
    return ""


def _rename_keys(value: Any, parent: str = "") -> Any:
    """Returns `value`, the content of the key `parent`, with the keys of `ALIASES` renamed."""
    if isinstance(value, list):
        return [_rename_keys(each, parent) for each in value]
    if isinstance(value, dict):
        return {ALIASES.get((parent, key), key): _rename_keys(inner, key) for key, inner in value.items()}
    return value


def summary_line(evaluation: dict[str, Any]) -> str:
    """Describes an evaluation in three lines: protocol, accuracy, and other metrics."""
    low, high = (100 * bound for bound in evaluation["accuracy_ci95"])
    protocol, examples = evaluation["protocol"], evaluation["examples"]
    exports = [each["export"] for each in protocol["members"] if "export" in each]
    exported = f", exports: {', '.join(export_name(export) for export in exports)}" if exports else ""
    num_saved = sum("source_eval" in each for each in protocol["members"])
    saved = f", {num_saved} from saved predictions" if num_saved else ""
    return (
        f"{evaluation['model']} on {evaluation['data']['name']}, {evaluation['split']}: {examples:,} examples, labels "
        f"{protocol['labels']} ({protocol['num_unlabelled']} without label), test-time augmentation {protocol['tta']}, "
        f"{len(protocol['members'])} model(s){exported}{saved}\n"
        f"accuracy {100 * evaluation['accuracy']:.2f} % (95 % CI {low:.2f}-{high:.2f}), "
        f"balanced accuracy {100 * evaluation['balanced_accuracy']:.2f} %, macro F1 {evaluation['macro_f1']:.4f}\n"
        f"log loss {evaluation['log_loss']:.4f}, ECE {evaluation['ece']:.4f}, "
        f"{evaluation['images_per_second']:.0f} images/s"
    )


def is_training_data(evaluation: Mapping[str, Any]) -> bool:
    """Returns whether a member, or a run that a model soup averages, was trained on the evaluated shards."""
    evaluated = evaluation["data"]["manifest_sha256"]
    return any(data.get("manifest_sha256") == evaluated for data in training_data(evaluation))


def is_all_in_train(evaluation: Mapping[str, Any], key: str) -> bool:
    """Returns whether the metrics of a split other than train are null because all of its faces are in train.

    Args:
      evaluation: content of eval.json.
      key: excluding_train_duplicates or excluding_train_photos.
    """
    has_train = evaluation["split"] != "train" and "train" in evaluation["data"]["examples_per_split"]
    return has_train and evaluation.get(key, {}) is None


def training_data(evaluation: Mapping[str, Any]) -> list[Mapping[str, str]]:
    """Returns the records of the data that members, and the runs that a model soup averages, were trained on."""
    runs = [run for member in evaluation["protocol"]["members"] for run in (member, *averaged_runs(member))]
    return [run["trained_on"] for run in runs if "trained_on" in run]


def averaged_runs(member: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Returns the records of the runs that a model soup averages; none for another entry or record of a run."""
    return member.get("learned_from", {}).get("averaged", [])


def ancestors(member: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Returns the records of all runs that an entry of protocol.members descends from."""
    return run_dir.ancestors(member.get("learned_from", {}))


def export_name(export: Mapping[str, str]) -> str:
    """Names an export by format and precision, such as "tflite int8"."""
    return f"{export['format']} {export['precision']}"


@functools.cache
def _validator() -> jsonschema.Draft202012Validator:
    import jsonschema

    text = importlib.resources.files("fer.evaluation").joinpath("eval.schema.json").read_text(encoding="utf-8")
    return jsonschema.Draft202012Validator(json.loads(text))


def _join_distinct(members: Sequence[dict[str, Any]], field: str) -> str:
    """Joins the distinct values of a field of the members with commas."""
    return ", ".join(dict.fromkeys(each[field] for each in members))
