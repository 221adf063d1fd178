"""What came of a sweep: tables as Markdown and JSON, Optuna's pictures of history and importances, and of changes."""

from __future__ import annotations

import os
import statistics
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Callable

import optuna
from optuna.trial import FrozenTrial, TrialState

from fer import escaping
from fer.data import manifest
from fer.errors import UserError
from fer.evaluation import eval_dataset, predictions
from fer.io import files
from fer.sweep import ablation
from fer.sweep.optuna_study import Plan
from fer.sweep.search_space import BASE, CHANGE
from fer.viz import rendering

SCHEMA_VERSION = 1
TARGET = "validation accuracy"
STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "under way",
    TrialState.WAITING: "waiting",
}


def write(
    output: str, study: optuna.Study, plan: Plan, folder: Callable[[int], str], also: Mapping[str, Sequence[str]]
) -> list[str]:
    """Writes sweep.json, sweep.md and the pictures that can be drawn so far. Returns their paths.

    Args:
      output: a folder.
      study: as it is now.
      plan: of the sweep.
      folder: from a trial's number to its run folder.
      also: run folders by change, of other sweeps; see `others`.

    Raises:
      UserError: a file cannot be written, or one of a run cannot be read.
    """
    pictures = _pictures(study, plan)  # takes seconds, in which other processes may end trials
    content = summary(study, plan, folder, also)
    if len(content["changes"]) > 1:
        pictures["changes.png"] = ablation.picture(content["changes"])
    for name, picture in pictures.items():
        files.write_bytes(os.path.join(output, name), picture)
    files.write_text(os.path.join(output, "sweep.md"), markdown(content, list(pictures)))
    files.write_json(os.path.join(output, "sweep.json"), content)
    return [os.path.join(output, name) for name in ("sweep.json", "sweep.md", *pictures)]


def extra_runs(sweeps: Sequence[str], plan: Plan, data: str) -> dict[str, list[str]]:
    """The run folders of other sweeps over seeds, each of which counts as one change more, named as its folder is.

    Args:
      sweeps: their output folders; plan: what they are added to; data: on whose validation split all are scored.

    Raises:
      UserError: a report cannot be read, is of no sweep over seeds, has no complete run or one on other faces, or has
        the name of another change.
    """
    found: dict[str, list[str]] = {}
    for sweep in sweeps:
        path = os.path.join(sweep, "sweep.json")
        content = files.read_json(path, "the report of a sweep")
        if not isinstance(content, dict) or not isinstance(content.get("trials"), list):
            raise UserError(f"{path} is no report of a sweep; run that sweep again, which writes it.")
        if content.get("fields") != ["seed"]:
            raise UserError(
                f"The sweep in {sweep} varies {content.get('fields')}; --also takes sweeps over seeds alone."
            )
        name = os.path.basename(os.path.normpath(sweep))
        if name in found or name in plan.changes:
            raise UserError(f"{sweep} has the name of another change, {name}; rename its folder.")
        # Where they lie now: the folder may have been renamed, or made from elsewhere.
        found[name] = [os.path.join(sweep, os.path.basename(run)) for run in _complete(content["trials"])]
    if not found:
        return found
    scored = eval_dataset.read(manifest.read_manifest(data), "validation", "fer")
    for sweep, runs in zip(sweeps, found.values()):
        _check_runs(runs, sweep, scored, data)
    return found


def _check_runs(runs: Sequence[str], sweep: str, scored: eval_dataset.EvalDataset, data: str) -> None:
    """Refuses those of another sweep that cannot be compared with runs on `data`, before these are trained."""
    if not runs:
        raise UserError(f"{sweep}/sweep.json lists no complete run; leave {sweep} out of --also.")
    for run in runs:
        path = os.path.join(run, "predictions.npz")
        if not files.exists(path):
            raise UserError(f"{run}, which {sweep}/sweep.json lists as complete, has no predictions.npz.")
        said = predictions.read_npz(path)
        if not said.has_same_examples(predictions.Predictions(scored.labels, said.probabilities, scored.rows)):
            raise UserError(f"{run} was evaluated on other faces than the validation split of {data} holds.")


def summary(
    study: optuna.Study, plan: Plan, folder: Callable[[int], str], also: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """What sweep.json holds: every trial, the best first, and the mean over seeds where the sweep has several.

    Where it has changes, what each of them is worth; see `fer.sweep.ablation`.
    """
    trials = [_trial(trial, folder(trial.number)) for trial in plan.of(study)]
    trials.sort(key=lambda trial: (trial["state"] != "complete", -(trial["accuracy"] or 0.0), trial["number"]))
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "grid" if plan.is_grid else "space",
        "fields": list(plan.space),
        "planned": plan.trials,
        "pruning": study.user_attrs["asked"]["pruning"],
        "trials": trials,
        "over_seeds": _over_seeds(trials) if "seed" in plan.space else [],
        "changes": _changes(trials, plan, also),
        "importances": _importances(study),
    }


def markdown(content: dict[str, Any], pictures: list[str]) -> str:
    """The tables of a `summary`."""
    fields = content["fields"]
    head = ["trial", *fields, "accuracy, validation", "epochs", "state", "run folder"]
    rows = [
        [
            str(trial["number"]),
            *(str(trial["values"].get(field, "")) for field in fields),
            "" if trial["accuracy"] is None else f"{100 * trial['accuracy']:.2f} %",
            str(trial["epochs"]),
            trial["state"] + (f": {trial['failure']}" if trial["failure"] else ""),
            trial["folder"],
        ]
        for trial in content["trials"]
    ]
    done = sum(trial["state"] == "complete" for trial in content["trials"])
    lines = ["# Sweep", "", f"{done} of {content['planned']} trials are complete; pruning: {content['pruning']}.", ""]
    lines += _table(head, rows)
    if content["over_seeds"]:
        others = [field for field in fields if field != "seed"]
        head = [*others, "seeds", "mean accuracy", "standard deviation"]
        rows = [
            [
                *(str(group["values"][field]) for field in others),
                str(group["seeds"]),
                f"{100 * group['mean']:.2f} %",
                "" if group["deviation"] is None else f"{100 * group['deviation']:.2f} points",
            ]
            for group in content["over_seeds"]
        ]
        lines += ["", "## Over seeds", "", *_table(head, rows)]
    if content["changes"]:
        lines += ["", "## Against the base", "", *_changes_table(content["changes"])]
    if content["importances"]:
        rows = [[field, f"{share:.3f}"] for field, share in content["importances"].items()]
        lines += ["", "## Importances", "", *_table(["field", "share of the variance (fANOVA)"], rows)]
    return "\n".join([*lines, *(f"\n![{name[:-4]}]({name})" for name in pictures), ""])


def _trial(trial: FrozenTrial, folder: str) -> dict[str, Any]:
    return {
        "number": trial.number,
        "values": dict(trial.params),
        "state": STATES[trial.state],
        "accuracy": trial.user_attrs.get("accuracy"),
        "epochs": max(trial.intermediate_values, default=0),
        "failure": trial.user_attrs.get("failure"),
        "folder": folder,
    }


def _over_seeds(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and standard deviation (n - 1) of the accuracies of complete trials that differ in their seed alone."""
    groups: dict[str, tuple[dict[str, Any], list[float]]] = {}
    for trial in trials:
        if trial["state"] == "complete":
            others = {field: value for field, value in trial["values"].items() if field != "seed"}
            groups.setdefault(repr(sorted(others.items())), (others, []))[1].append(trial["accuracy"])
    found = [
        {
            "values": values,
            "seeds": len(accuracies),
            "mean": statistics.mean(accuracies),
            "deviation": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        }
        for values, accuracies in groups.values()
    ]
    return sorted(found, key=lambda group: -group["mean"])


def _changes(trials: list[dict[str, Any]], plan: Plan, also: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """What each change is worth, in the order of the plan; [] until a run of the base is complete."""
    folders = {**{name: _complete(trials, name) for name in plan.changes}, **also}
    if not folders.get(BASE):
        return []
    return ablation.effects(ablation.read({name: runs for name, runs in folders.items() if runs}))


def _complete(trials: list[dict[str, Any]], change: str | None = None) -> list[str]:
    """The run folders of complete trials, by seed; those of one change."""
    found = [trial for trial in trials if trial["state"] == "complete" and trial["values"].get(CHANGE) == change]
    return [trial["folder"] for trial in sorted(found, key=lambda trial: trial["values"].get("seed", 0))]


def _changes_table(found: list[dict[str, Any]]) -> list[str]:
    head = ["change", "seeds", "mean accuracy", "against the base (95 %)", "macro F1", "minutes"]
    rows = []
    for entry in found:
        difference = ""
        if entry["difference"] is not None:
            low, high = entry["difference_ci95"]
            difference = f"{100 * entry['difference']:+.2f} points ({100 * low:+.2f} to {100 * high:+.2f})"
        seeds, accuracy = str(entry["seeds"]), f"{100 * entry['accuracy']:.2f} %"
        rows.append(
            [entry["change"], seeds, accuracy, difference, f"{entry['macro_f1']:.3f}", f"{entry['minutes']:.1f}"]
        )
    return _table(head, rows)


def _importances(study: optuna.Study) -> dict[str, float]:
    """Returns the share of each field in the variance of the accuracy by fANOVA; {} for too few or equal results."""
    if len({trial.value for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))}) < 2:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return {
        field: float(share)
        for field, share in optuna.importance.get_param_importances(study, evaluator=evaluator).items()
    }


def _pictures(study: optuna.Study, plan: Plan) -> dict[str, bytes]:
    """PNG bytes by file name: of what there are results for."""
    import matplotlib

    matplotlib.use("Agg")
    from optuna.visualization import matplotlib as drawing

    if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that these drawings are experimental
        pictures = {"history.png": _png(drawing.plot_optimization_history(study, target_name=TARGET))}
        if _importances(study):
            evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
            pictures["importances.png"] = _png(
                drawing.plot_param_importances(study, evaluator=evaluator, target_name=TARGET)
            )
    return pictures


def _png(axes: Any) -> bytes:
    """Renders a figure of Optuna as PNG and clears it, because pyplot keeps it."""
    content = rendering.render_png(axes.figure, dpi=120, tight=True)
    axes.figure.clear()
    return content


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    escaped = [[escaping.escape_markdown(cell) for cell in row] for row in rows]
    return ["| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *escaped]]
