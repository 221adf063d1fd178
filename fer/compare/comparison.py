"""Compares our evaluations with each other, with baselines and with published results."""

from __future__ import annotations

import dataclasses
import importlib.resources
import itertools
import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fer.compare import baselines
from fer.data.manifest import read_manifest
from fer.errors import UserError, join_names
from fer.evaluation import ensemble_members, eval_json, prediction_files
from fer.evaluation.metrics import metrics, significance
from fer.io import files
from fer.labels import CLASSES
from fer.run_dir import RunDir

SCHEMA_VERSION = 2
# Faces of each class in PrivateTest, in label order: totals of FER-2013 minus Training and PublicTest.
PRIVATE_TEST = (491, 55, 528, 879, 594, 416, 626)


# The folder that scripts/evaluate.py writes into a run by default, such as eval-validation-flip.
EVALUATION_FOLDER = re.compile(r"eval-(train|validation|test)((?:-[a-z]+)*)")


class Side(NamedTuple):
    """One side of a paired test: predictions and their examples."""

    name: str
    # Split, name of the data, kind of labels and classes; sides that differ in one are not compared. The manifests may
    # differ, as after a conversion without PrivateTest: rows and labels identify the examples.
    measured_on: dict[str, Any]
    predictions: prediction_files.Predictions | None
    missing: str  # reason if there are no predictions


@dataclasses.dataclass(frozen=True)
class Ours:
    """One of our evaluations and, if it has them, its predictions."""

    name: str
    path: str
    content: dict[str, Any]  # of eval.json
    predictions: prediction_files.Predictions | None


def compare(paths: Sequence[str], measured: Sequence[baselines.BaselineResult] = ()) -> dict[str, Any]:
    """Compares evaluations with each other, with baselines and with published results.

    Args:
      paths: of eval.json files. Paired tests of the runs need predictions.npz beside them.
      measured: as `fer.compare.baselines.measure` returns them; each is tested against each run.

    Returns:
      The content of comparison.json: runs, baselines and published, each by descending accuracy, and pairs. Published
      results are left out if no run has the classes of FER-2013.

    Raises:
      UserError: a file is missing or damaged, or is named twice.
    """
    if len({os.path.realpath(path) for path in paths}) < len(paths):
        raise UserError(f"--evals names a file twice: {', '.join(paths)}.")
    ours = [_read(path, name) for path, name in zip(paths, short_names(paths))]
    sides = [
        Side(
            one.name,
            _measured_on(one.content),
            one.predictions,
            f"there is no predictions.npz beside {one.path}",
        )
        for one in ours
    ]
    others = [
        Side(
            one.baseline.method,
            {"splits": one.split, "data": one.data["name"], "labels": "fer", "classes": CLASSES},
            one.predictions,
            "",
        )
        for one in measured
        if one.predictions is not None
    ]
    published = read_published() if any(_has_fer2013_classes(one.content) for one in ours) else []
    return {
        "schema_version": SCHEMA_VERSION,
        "runs": sorted(map(_describe_run, ours), key=lambda run: -run["accuracy"]),
        "baselines": sorted(map(_describe_baseline, measured), key=lambda one: -(one["accuracy"] or 0)),
        "pairs": _pairs([*itertools.combinations(sides, 2), *itertools.product(sides, others)]),
        "published": sorted(published, key=lambda result: -result["accuracy"]),
    }


def check_baselines(paths: Sequence[str], data: str, split: str) -> None:
    """Checks, before baselines are measured, that a paired test with at least one evaluation is possible.

    Args:
      paths: of eval.json files.
      data: folder of the shards for the baselines.
      split: to measure them on.

    Raises:
      UserError: all evaluations are of another split, of other data, labels or classes; or a file cannot be read.
    """
    manifest = read_manifest(data)
    wanted = {"splits": split, "data": manifest.name, "labels": "fer", "classes": manifest.classes}
    found = [_measured_on(eval_json.read_eval(path)) for path in paths]
    if not found or wanted in found:
        return
    name = next(name for name, value in wanted.items() if found[0][name] != value)
    own, theirs = (join_names(value) if isinstance(value, tuple) else value for value in (found[0][name], wanted[name]))
    advice = {"splits": f"choose --split={own}", "data": "name the shards of the evaluation in --data"}
    raise UserError(
        f"{paths[0]} has the {'split' if name == 'splits' else name} {own}, and --baselines would measure {theirs}: "
        f"{advice.get(name, 'leave --baselines out')}."
    )


def _measured_on(content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the field `Side.measured_on` of an eval.json."""
    return {
        "splits": content["split"],
        "data": content["data"]["name"],
        "labels": content["protocol"]["labels"],
        "classes": tuple(content["classes"]),
    }


def read_published() -> list[dict[str, Any]]:
    """Reads published.json and adds accuracy_ci95: Wilson's interval, or None if the number of faces is unknown."""
    text = importlib.resources.files("fer.compare").joinpath("published.json").read_text(encoding="utf-8")
    return [
        {**result, "accuracy_ci95": _interval(result["accuracy"], result["examples"])}
        for result in json.loads(text)["results"]
    ]


def _interval(accuracy: float, examples: int | None) -> list[float] | None:
    return None if examples is None else list(metrics.wilson(round(accuracy * examples), examples))


def short_names(paths: Sequence[str]) -> list[str]:
    """Names evaluations by their folders, as briefly as they differ.

    runs/a/eval-test-flip/eval.json is "a, flip" and results/b/eval.json is "b". Names that are equal get the next
    folder in front: "runs/a" and "ensembles/a".

    Args:
      paths: of eval.json files, which differ.
    """
    folders = [os.path.normpath(os.path.dirname(path)).split(os.sep) for path in paths]
    views = []
    for folder in folders:
        found = EVALUATION_FOLDER.fullmatch(folder[-1]) if len(folder) > 1 else None
        views.append(", ".join(["", *filter(None, (found[2] or "").split("-"))]) if found else "")
        if found:
            folder.pop()
    parts = [1] * len(paths)
    while True:
        names = ["/".join(folder[-count:]) + view for folder, count, view in zip(folders, parts, views)]
        longer = [
            index for index, name in enumerate(names) if names.count(name) > 1 and parts[index] < len(folders[index])
        ]
        if not longer:
            break
        for index in longer:
            parts[index] += 1
    return [name if names.count(name) == 1 and name != "." else path for name, path in zip(names, paths)]


def _read(path: str, name: str) -> Ours:
    content = eval_json.read_eval(path)
    folder = os.path.dirname(path)
    has_predictions = files.exists(RunDir(folder).predictions_file)
    found = ensemble_members.read_predictions(folder, content) if has_predictions else None
    return Ours(name, path, content, found)


def _has_fer2013_classes(content: Mapping[str, Any]) -> bool:
    return tuple(content["classes"]) == CLASSES


def _describe_run(ours: Ours) -> dict[str, Any]:
    """Builds an entry of runs in comparison.json."""
    content, protocol = ours.content, ours.content["protocol"]
    selects = content["split"] in protocol["selected_on"].split(", ")
    same_shards = eval_json.is_training_data(content)
    # The class counts of FER+ majorities do not identify PrivateTest; such labels are a fault of their own.
    own_classes = not _has_fer2013_classes(content)
    identifiable = not own_classes and (protocol["labels"] == "fer" or content["split"] != "test")
    split_fault = _split_fault(content["split"], np.sum(content["confusion_matrix"], axis=1)) if identifiable else ""
    lineages = [(member, *eval_json.ancestors(member)) for member in protocol["members"]]
    learned = [each.get("learned_from") for lineage in lineages for each in lineage]
    unknown = _undocumented_sources(lineages)
    other_data = _other_training_data(content)
    faults = [
        fault
        for holds, fault in (
            (own_classes, "other classes than FER-2013's"),
            (bool(split_fault), split_fault),
            (selects and same_shards, "the split that selected the checkpoint"),
            (selects and not same_shards, "a split of this name, from other shards, selected the checkpoint"),
            (protocol["labels"] != "fer", "evaluated against FER+ majorities"),
            (bool(unknown), f"{', '.join(unknown)} may be trained on other faces"),
            (bool(other_data), f"{', '.join(other_data)} may hold other faces"),
        )
        if holds
    ]
    trained_on = dict.fromkeys(member["trained_on"]["name"] for member in protocol["members"])
    votes = any(each and each["label_source"] != "fer" for each in learned)
    return {
        "method": ours.name,
        "model": content["model"],
        "bundled": any(member["workdir"] == "bundled" for member in protocol["members"]),
        "accuracy": content["accuracy"],
        "accuracy_ci95": content["accuracy_ci95"],
        "macro_f1": content["macro_f1"],
        "images_per_second": content["images_per_second"],
        "data": content["data"]["name"],
        "split": content["split"],
        "examples": content["examples"],
        "selected_on": protocol["selected_on"],
        "tta": protocol["tta"],
        "labels": protocol["labels"],
        "members": len(protocol["members"]),
        "parameters": content["parameters"],
        "comparable": not faults,
        "extra_data": True if unknown or other_data else False if all(learned) else None,
        "remark": "; ".join([*faults, f"trained on {', '.join(trained_on)}{' with FER+ votes' if votes else ''}"]),
        "source": ours.path,
    }


def _split_fault(split: str, faces_of_class: Sequence[int]) -> str:
    """Returns why a split is not the one of published results, or "" for PrivateTest, known by its class counts."""
    if split != "test":
        return "not the test split"
    return "" if tuple(faces_of_class) == PRIVATE_TEST else "a test split that is not FER-2013's PrivateTest"


def _other_training_data(content: Mapping[str, Any]) -> list[str]:
    """Returns the names of training data, of members and runs that they average, other than the evaluated data."""
    evaluated = content["data"]
    names = [
        each["name"]
        for each in eval_json.training_data(content)
        if each["manifest_sha256"] != evaluated["manifest_sha256"] and each["name"] != evaluated["name"]
    ]
    return list(dict.fromkeys(names))


def _undocumented_sources(lineages: Sequence[Sequence[Mapping[str, Any]]]) -> list[str]:
    """Returns initial weights, teachers and initial runs that may have learned from other faces than a member.

    Args:
      lineages: of each member: its entry in protocol.members, and its initial runs.
    """
    names = []
    for member, *runs in lineages:
        for each in [member, *runs]:
            sources = each.get("learned_from", {"weights": "none", "teacher_runs": ""})
            names += [os.path.basename(sources["weights"]), sources["teacher_runs"]]
        names += [each["run"] for each in runs if each.get("trained_on") != member["trained_on"]]
    return list(dict.fromkeys(name for name in names if name not in ("", "none", "imagenet")))


def _describe_baseline(measured: baselines.BaselineResult) -> dict[str, Any]:
    """Builds an entry of baselines in comparison.json; if the baseline was not measured, the remark is the reason."""
    predicted = measured.predictions
    scores: dict[str, Any] | None = None
    fault = ""
    if predicted is not None:
        probabilities = prediction_files.normalize(predicted.probabilities)
        scores = metrics.compute_metrics(predicted.labels, probabilities, CLASSES)
        fault = _split_fault(measured.split, np.bincount(predicted.labels, minlength=len(CLASSES)).tolist())
    remark = "; ".join([*filter(None, [fault]), "the data that selected its weights are not published"])
    return {
        "method": measured.baseline.method,
        **{name: scores and scores[name] for name in ("accuracy", "accuracy_ci95", "macro_f1")},
        "images_per_second": measured.images_per_second,
        "data": measured.data["name"],
        "split": measured.split,
        "examples": None if predicted is None else len(predicted.labels),
        "tta": "none",
        "members": 1,
        "parameters": measured.parameters,
        "comparable": predicted is not None and not fault,
        "remark": f"not measured: it {measured.failure}" if predicted is None else remark,
        "source": measured.baseline.source,
    }


def _pairs(sides: Sequence[tuple[Side, Side]]) -> list[dict[str, Any]]:
    """Returns each pair with McNemar's test, or with the reason why the test is not possible."""
    pairs: list[dict[str, Any]] = []
    for first, second in sides:
        reason = _reason_not_compared(first, second)
        pair: dict[str, Any] = {"first": first.name, "second": second.name, "not_compared": reason}
        if not reason:
            assert first.predictions is not None
            assert second.predictions is not None
            pair.update(significance.mcnemar(first.predictions.correct, second.predictions.correct)._asdict())
        pairs.append(pair)
    tested = [pair for pair in pairs if not pair["not_compared"]]
    for pair, corrected in zip(tested, significance.holm([pair["p"] for pair in tested])):
        pair["p_corrected"] = corrected
        pair["sentence"] = _sentence(pair, len(tested))
    return pairs


def _reason_not_compared(first: Side, second: Side) -> str | None:
    """Returns why two sides cannot be compared example by example, or None."""
    if first.predictions is None:
        return first.missing
    if second.predictions is None:
        return second.missing
    for name, value in first.measured_on.items():
        if value != second.measured_on[name]:
            return f"they were measured {'against' if name == 'labels' else 'on'} different {name}"
    same = first.predictions.has_same_examples(second.predictions)
    return None if same else "they were measured on different examples"


def _sentence(pair: dict[str, Any], tests: int) -> str:
    """Describes the result of a paired test in a sentence."""
    first, second = pair["first"], pair["second"]
    corrected = f", {pair['p_corrected']:.2g} after Holm's correction for {tests} comparisons" if tests > 1 else ""
    result = (
        f"only {first} classifies {pair['only_first']} faces correctly, only {second} {pair['only_second']}; "
        f"McNemar p = {pair['p']:.2g}{corrected}"
    )
    if pair["p_corrected"] >= significance.LEVEL:
        return f"{first} and {second} do not differ significantly: {result}."
    better, other = (first, second) if pair["only_first"] > pair["only_second"] else (second, first)
    return f"{better} is better than {other}: {result}."
