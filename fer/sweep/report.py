"""Report of a sweep: tables in Markdown and JSON, and plots of history, importances and ablations."""

from __future__ import annotations

import os
import statistics
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from fer import escaping
from fer.data import manifest
from fer.errors import UserError
from fer.evaluation import eval_dataset, eval_json, prediction_files
from fer.io import files
from fer.run_dir import PREDICTIONS_FILE, RunDir
from fer.sweep import ablation
from fer.sweep.optuna_study import FAILURE, Plan
from fer.sweep.search_space import BASE, CHANGE
from fer.viz import rendering

SCHEMA_VERSION = 1
TARGET = "validation accuracy"
# Complete trials below which a plot or an importance would show chance only.
MIN_HISTORY_TRIALS, MIN_IMPORTANCE_TRIALS = 3, 10
STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


def write_report(
    output: str, study: optuna.Study, plan: Plan, folder: Callable[[int], str], extra: Mapping[str, Sequence[str]]
) -> list[str]:
    """Writes sweep.json, sweep.md and the plots for which there are results. Returns their paths.

    Args:
      output: the output directory.
      study: the study.
      plan: the trials of the sweep.
      folder: the function from the point of a trial to its run directory.
      extra: run directories of other sweeps by the name of the ablation; see `extra_runs`.

    Raises:
      UserError: a file cannot be written, or a file of a run cannot be read.
    """
    # The plots are first, because other processes may end trials in these seconds.
    pictures = _make_plots(_planned_study(study, plan), plan)
    content = summarize(study, plan, folder, extra)
    if len(content["changes"]) > 1:
        pictures["changes.png"] = ablation.plot_effects(content["changes"])
    for name, picture in pictures.items():
        files.write_bytes(os.path.join(output, name), picture)
    files.write_text(os.path.join(output, "sweep.md"), to_markdown(content, list(pictures)))
    files.write_json(os.path.join(output, "sweep.json"), content)
    return [os.path.join(output, name) for name in ("sweep.json", "sweep.md", *pictures)]


def extra_runs(sweeps: Sequence[str], plan: Plan, data: str) -> dict[str, list[str]]:
    """Finds the runs of other sweeps over seeds, which are added to the report as further ablations.

    Args:
      sweeps: the output directories of the other sweeps.
      plan: the plan of the sweep that they are added to.
      data: the directory of the shards on whose validation split all runs are evaluated.

    Returns:
      Run directories by the name of the ablation, which is the name of the sweep's output directory.

    Raises:
      UserError: a report cannot be read, the sweep varies other fields than the seed, has no complete run or was
        evaluated on other images or in another way, or its name is that of another ablation.
    """
    found: dict[str, list[str]] = {}
    for sweep in sweeps:
        path = os.path.join(sweep, "sweep.json")
        content = files.read_json(path, "the report of a sweep")
        if not isinstance(content, dict) or not _are_trials(content.get("trials")):
            raise UserError(f"{path} is not the report of a sweep. Run that sweep again to write it.")
        if content.get("fields") != ["seed"]:
            raise UserError(
                f"The sweep in {sweep} varies {content.get('fields')}. "
                "--extra_runs takes only sweeps that vary the seed."
            )
        name = os.path.basename(os.path.normpath(sweep))
        if name in found or name in plan.changes:
            raise UserError(f"{sweep} has the name of another ablation, {name}. Rename its directory.")
        # Relative to the sweep's current directory, which may have been renamed since.
        found[name] = [os.path.join(sweep, os.path.basename(run)) for run in _complete_runs(content["trials"])]
    if not found:
        return found
    scored = eval_dataset.read(manifest.read_manifest(data), "validation", "fer")
    for sweep, runs in zip(sweeps, found.values()):
        _check_runs(runs, sweep, scored, data)
    return found


def _are_trials(value: Any) -> bool:
    """Returns whether a value of JSON has the fields of a list of trials that this module reads."""
    return isinstance(value, list) and all(
        isinstance(trial, dict)
        and isinstance(trial.get("state"), str)
        and isinstance(trial.get("values"), dict)
        and isinstance(trial.get("folder"), str)
        for trial in value
    )


def _check_runs(runs: Sequence[str], sweep: str, scored: eval_dataset.EvalDataset, data: str) -> None:
    """Raises a UserError if runs of another sweep cannot be compared with runs on `data`."""
    if not runs:
        raise UserError(f"{sweep}/sweep.json lists no complete run. Remove {sweep} from --extra_runs.")
    for run in runs:
        path = RunDir(run).predictions_file
        if not files.exists(path):
            raise UserError(
                f"{run} has no {PREDICTIONS_FILE}, but {sweep}/sweep.json lists the run as complete. Evaluate it again."
            )
        if not has_protocol_of_sweeps(eval_json.read_eval(RunDir(run).eval_file)):
            raise UserError(
                f"{RunDir(run).eval_file} has another protocol than the trials of a sweep. Evaluate {run} again with "
                "--split=validation --tta=none --labels=fer."
            )
        saved = prediction_files.read_npz(path)
        if not saved.has_same_examples(prediction_files.Predictions(scored.labels, saved.probabilities, scored.rows)):
            raise UserError(
                f"{run} was evaluated on other images than the validation split of {data}. Evaluate it on that data."
            )


def has_protocol_of_sweeps(evaluation: Mapping[str, Any]) -> bool:
    """Returns whether an evaluation is of the split, test-time augmentation and labels that sweeps use."""
    protocol = evaluation["protocol"]
    return (evaluation["split"], protocol["tta"], protocol["labels"]) == ("validation", "none", "fer")


def summarize(
    study: optuna.Study, plan: Plan, folder: Callable[[int], str], extra: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """Returns the content of sweep.json: all trials, the best first, means over seeds, ablations and importances.

    The means exist if the sweep varies the seed, the effects of ablations (`fer.sweep.ablation`) if it has ablations.
    """
    trials = [_trial_entry(point, trial, folder(point)) for point, trial in enumerate(plan.of(study))]
    trials.sort(key=lambda trial: (trial["state"] != "complete", -(trial["accuracy"] or 0.0), trial["number"]))
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "grid" if plan.is_grid else "space",
        "fields": list(plan.space),
        "planned": plan.trials,
        "pruning": study.user_attrs["asked"]["pruning"],
        "trials": trials,
        "over_seeds": _seed_means(trials) if "seed" in plan.space else [],
        "changes": _change_effects(trials, plan, extra),
        "importances": _compute_importances(_planned_study(study, plan)),
    }


def to_markdown(content: dict[str, Any], pictures: list[str]) -> str:
    """Returns the text of sweep.md from the result of `summarize`."""
    fields = content["fields"]
    head = ["trial", *fields, "validation accuracy", "epochs", "state", "run directory"]
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
    lines = ["# Sweep", "", f"{done} of {content['planned']} trials are complete. Pruning: {content['pruning']}.", ""]
    lines += _markdown_table(head, rows)
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
        lines += ["", "## Means over seeds", "", *_markdown_table(head, rows)]
    if content["changes"]:
        lines += ["", "## Ablations", "", *_changes_table(content["changes"])]
    if content["importances"]:
        rows = [[field, f"{share:.3f}"] for field, share in content["importances"].items()]
        lines += [
            "",
            "## Importances",
            "",
            *_markdown_table(["field", "share of the variance of the accuracy (fANOVA)"], rows),
        ]
    elif len(fields) > 1 and not content["changes"]:
        lines += ["", f"Importances need {MIN_IMPORTANCE_TRIALS} complete trials that vary at least two fields."]
    return "\n".join([*lines, *(f"\n![{name[:-4]}]({name})" for name in pictures), ""])


def _trial_entry(point: int, trial: FrozenTrial, folder: str) -> dict[str, Any]:
    return {
        "number": point,
        "values": dict(trial.params),
        "state": STATES[trial.state],
        "accuracy": trial.user_attrs.get("accuracy"),
        "epochs": max(trial.intermediate_values, default=0),
        "failure": trial.user_attrs.get(FAILURE),
        "folder": folder,
    }


def _seed_means(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns mean and standard deviation (n - 1) of the accuracies of complete trials that differ only in the seed."""
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


def _change_effects(
    trials: list[dict[str, Any]], plan: Plan, extra: Mapping[str, Sequence[str]]
) -> list[dict[str, Any]]:
    """Returns the effect of each ablation in the order of the plan; [] until a run of the base is complete."""
    folders = {**{name: _complete_runs(trials, name) for name in plan.changes}, **extra}
    if not folders.get(BASE):
        return []
    return ablation.estimate_effects(ablation.read_runs({name: runs for name, runs in folders.items() if runs}))


def _complete_runs(trials: list[dict[str, Any]], change: str | None = None) -> list[str]:
    """Returns the run directories of the complete trials of an ablation, in the order of their seeds."""
    found = [trial for trial in trials if trial["state"] == "complete" and trial["values"].get(CHANGE) == change]
    return [trial["folder"] for trial in sorted(found, key=lambda trial: trial["values"].get("seed", 0))]


def _changes_table(found: list[dict[str, Any]]) -> list[str]:
    difference = f"difference to the base (95 % CI over {ablation.interval_scope(found)})"
    head = ["ablation", "seeds", "mean accuracy", difference, "macro F1", "minutes"]
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
    return _markdown_table(head, rows)


def _planned_study(study: optuna.Study, plan: Plan) -> optuna.Study:
    """Returns a copy of the study with the trials of the plan alone, numbered by their points as in the table."""
    planned = optuna.create_study(direction="maximize")
    planned.add_trials(plan.of(study))
    return planned


def _complete_trials(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def _compute_importances(study: optuna.Study) -> dict[str, float]:
    """Returns the share of each field in the variance of the accuracy by fANOVA.

    They are {} for fewer than `MIN_IMPORTANCE_TRIALS` complete trials, equal accuracies, or a single field that varies,
    whose share is 1.
    """
    trials = _complete_trials(study)
    values: dict[str, set[Any]] = {}
    for trial in trials:
        for field, value in trial.params.items():
            values.setdefault(field, set()).add(value)
    varied = sum(len(each) > 1 for each in values.values())
    if len(trials) < MIN_IMPORTANCE_TRIALS or varied < 2 or len({trial.value for trial in trials}) < 2:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return {
        field: float(share)
        for field, share in optuna.importance.get_param_importances(study, evaluator=evaluator).items()
    }


def _make_plots(study: optuna.Study, plan: Plan) -> dict[str, bytes]:
    """Returns the bytes of PNG files by file name: history and importances, if there are enough complete trials.

    A grid has no history, because the order of its trials is fixed.
    """
    import matplotlib

    matplotlib.use("Agg")
    from optuna.visualization import matplotlib as drawing

    pictures = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna warns that these plots are experimental
        if not plan.is_grid and len(_complete_trials(study)) >= MIN_HISTORY_TRIALS:
            pictures["history.png"] = _render_png(drawing.plot_optimization_history(study, target_name=TARGET))
        if _compute_importances(study):
            evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
            pictures["importances.png"] = _render_png(
                drawing.plot_param_importances(study, evaluator=evaluator, target_name=TARGET)
            )
    return pictures


def _render_png(axes: Any) -> bytes:
    """Renders a figure of Optuna as PNG and clears it, because pyplot keeps it."""
    content = rendering.render_png(axes.figure, dpi=120, tight=True)
    axes.figure.clear()
    return content


def _markdown_table(head: list[str], rows: list[list[str]]) -> list[str]:
    return escaping.markdown_table(head, [[escaping.escape_markdown(cell) for cell in row] for row in rows])
