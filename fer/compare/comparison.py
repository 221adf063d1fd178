"""Compares evaluations of ours with each other, with other packages and with published results."""

from __future__ import annotations

import dataclasses
import importlib.resources
import itertools
import json
import os
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fer.compare import baselines
from fer.errors import UserError
from fer.evaluation import eval_json, predictions, saved_predictions
from fer.evaluation.metrics import metrics, significance
from fer.io import files

SCHEMA_VERSION = 1
# Faces of each class in PrivateTest, in the order of the labels: FER-2013's totals less Training and PublicTest.
PRIVATE_TEST = (491, 55, 528, 879, 594, 416, 626)


# The folder that scripts/evaluate.py writes into a run by default, such as eval-validation-flip.
EVALUATION_FOLDER = re.compile(r"eval-(train|validation|test)((?:-[a-z]+)*)")


class Scored(NamedTuple):
    """One side of a pair: its predictions and the examples they are of."""

    name: str
    # Split, name of the data and labels; sides that differ in one are not compared. The manifest may be another, that
    # of an earlier version or of rows without PrivateTest: rows and labels tell whether the examples are the same.
    measured_on: dict[str, Any]
    predictions: predictions.Predictions | None
    missing: str  # why there are no predictions, where there are none


@dataclasses.dataclass(frozen=True)
class Ours:
    """One of our evaluations and, where they were kept, its predictions."""

    name: str
    path: str
    content: dict[str, Any]  # of eval.json
    predictions: predictions.Predictions | None


def compare(paths: Sequence[str], measured: Sequence[baselines.BaselineResult] = ()) -> dict[str, Any]:
    """Compares evaluations with each other, with peers and with the published results.

    Args:
      paths: of eval.json files; predictions.npz beside them, where it is, lets the runs be compared in pairs.
      measured: peers, as `fer.compare.baselines.measure` gives them, each of which makes a pair with each run.

    Returns:
      The content of comparison.json: runs, peers and published, each by falling accuracy, and pairs.

    Raises:
      UserError: a file is missing or damaged, or is named twice.
    """
    if len({os.path.normpath(path) for path in paths}) < len(paths):
        raise UserError(f"--evals names a file twice: {', '.join(paths)}.")
    ours = [_read(path, name) for path, name in zip(paths, short_names(paths))]
    sides = [
        Scored(
            one.name,
            {
                "splits": one.content["split"],
                "data": one.content["data"]["name"],
                "labels": one.content["protocol"]["labels"],
            },
            one.predictions,
            f"there is no predictions.npz beside {one.path}",
        )
        for one in ours
    ]
    others = [
        Scored(one.peer.method, {"splits": one.split, "data": one.data["name"], "labels": "fer"}, one.predictions, "")
        for one in measured
        if one.predictions is not None
    ]
    return {
        "schema_version": SCHEMA_VERSION,
        "runs": sorted(map(_run, ours), key=lambda run: -run["accuracy"]),
        "peers": sorted(map(_peer, measured), key=lambda peer: -(peer["accuracy"] or 0)),
        "pairs": _pairs([*itertools.combinations(sides, 2), *itertools.product(sides, others)]),
        "published": sorted(published(), key=lambda result: -result["accuracy"]),
    }


def published() -> list[dict[str, Any]]:
    """Returns published.json with accuracy_ci95: Wilson's interval, None if the number of faces is unknown."""
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
    has_predictions = files.exists(os.path.join(folder, "predictions.npz"))
    found = saved_predictions.read_predictions(folder, content) if has_predictions else None
    return Ours(name, path, content, found)


def _run(ours: Ours) -> dict[str, Any]:
    content, protocol = ours.content, ours.content["protocol"]
    named = content["split"] in protocol["selected_on"].split(", ")
    here = eval_json.is_training_data(content)
    # FER+'s majorities say nothing of which faces these are, and are a fault of their own.
    known = protocol["labels"] == "fer" or content["split"] != "test"
    elsewhere = _split_fault(content["split"], np.sum(content["confusion_matrix"], axis=1)) if known else ""
    learned = [member.get("learned_from") for member in protocol["members"]]
    unknown = _may_know_other_faces(learned)
    faults = [
        fault
        for holds, fault in (
            (elsewhere, elsewhere),
            (named and here, "the split that selected the checkpoint"),
            (named and not here, "a split of this name, from other shards, selected the checkpoint"),
            (protocol["labels"] != "fer", "scored against FER+ majorities"),
            (unknown, f"{', '.join(unknown)} may know other faces"),
        )
        if holds
    ]
    trained_on = dict.fromkeys(member["trained_on"]["name"] for member in protocol["members"])
    votes = any(each and each["targets"] != "fer" for each in learned)
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
        "extra_data": True if unknown else False if all(learned) else None,
        "remark": "; ".join([*faults, f"trained on {', '.join(trained_on)}{' with FER+ votes' if votes else ''}"]),
        "source": ours.path,
    }


def _split_fault(split: str, faces_of_class: Sequence[int]) -> str:
    """Returns why a split is not the one of published results, or "" for PrivateTest, known by its class counts."""
    if split != "test":
        return "not the test split"
    return "" if tuple(faces_of_class) == PRIVATE_TEST else "a test split that is not FER-2013's PrivateTest"


def _may_know_other_faces(learned: Sequence[dict[str, str] | None]) -> list[str]:
    """Returns the initial weights and teachers of members, whose own training data are unknown here."""
    named = [(os.path.basename(each["weights"]), each["teacher"]) for each in learned if each]
    return list(dict.fromkeys(name for pair in named for name in pair if name not in ("", "none", "imagenet")))


def _peer(measured: baselines.BaselineResult) -> dict[str, Any]:
    """Returns a peer as `_run` returns a run; without figures, but with the reason, if it could not be measured."""
    said = measured.predictions
    figures = None if said is None else metrics.compute_metrics(said.labels, predictions.normalize(said.probabilities))
    fault = "" if said is None else _split_fault(measured.split, np.bincount(said.labels, minlength=7).tolist())
    remark = "; ".join([*filter(None, [fault]), "the data that selected its weights are not published"])
    return {
        "method": measured.peer.method,
        **{name: figures and figures[name] for name in ("accuracy", "accuracy_ci95", "macro_f1")},
        "images_per_second": measured.images_per_second,
        "data": measured.data["name"],
        "split": measured.split,
        "examples": None if said is None else len(said.labels),
        "tta": "none",
        "members": 1,
        "parameters": measured.parameters,
        "comparable": said is not None and not fault,
        "remark": f"not measured: it {measured.hindrance}" if said is None else remark,
        "source": measured.peer.source,
    }


def _pairs(sides: Sequence[tuple[Scored, Scored]]) -> list[dict[str, Any]]:
    """Returns each pair with McNemar's test, or with the reason why the test is not possible."""
    pairs: list[dict[str, Any]] = []
    for first, second in sides:
        hindrance = _hindrance(first, second)
        pair: dict[str, Any] = {"first": first.name, "second": second.name, "not_compared": hindrance}
        if not hindrance:
            assert first.predictions is not None
            assert second.predictions is not None
            pair.update(significance.mcnemar(first.predictions.correct, second.predictions.correct)._asdict())
        pairs.append(pair)
    tested = [pair for pair in pairs if not pair["not_compared"]]
    for pair, corrected in zip(tested, significance.holm([pair["p"] for pair in tested])):
        pair["p_corrected"] = corrected
        pair["sentence"] = _sentence(pair, len(tested))
    return pairs


def _hindrance(first: Scored, second: Scored) -> str | None:
    """Returns why two sides cannot be compared example by example, or None."""
    if first.predictions is None:
        return first.missing
    if second.predictions is None:
        return second.missing
    for what, value in first.measured_on.items():
        if value != second.measured_on[what]:
            against = "against" if what == "labels" else "on"
            return f"they were measured {against} different {what}"
    same = first.predictions.has_same_examples(second.predictions)
    return None if same else "they were measured on different examples"


def _sentence(pair: dict[str, Any], tests: int) -> str:
    """Returns the result of a pair's test as a sentence."""
    first, second = pair["first"], pair["second"]
    corrected = f", {pair['p_corrected']:.2g} after Holm's correction for {tests} comparisons" if tests > 1 else ""
    found = (
        f"only {first} classifies {pair['only_first']} faces correctly, only {second} {pair['only_second']}; "
        f"McNemar p = {pair['p']:.2g}{corrected}"
    )
    if pair["p_corrected"] >= significance.LEVEL:
        return f"{first} and {second} do not differ significantly: {found}."
    better, other = (first, second) if pair["only_first"] > pair["only_second"] else (second, first)
    return f"{better} is better than {other}: {found}."
