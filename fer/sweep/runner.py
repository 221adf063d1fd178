"""A sweep: takes trials until none is left, trains and evaluates each in a run folder, and reports.

In the output folder:
    trial-0000/ ...    a run folder each, with eval.json of the validation split and what belongs to it
    study.journal      the study, unless another storage is named
    sweep.md, sweep.json, history.png, importances.png, changes.png
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import warnings
from typing import Any, Callable

import optuna
import tensorflow as tf
from optuna.trial import TrialState

from fer.config import Experiment
from fer.data import manifest
from fer.errors import Stopped, StorageError, UserError
from fer.evaluation import eval_json, evaluate
from fer.evaluation.requests import EvalRequest
from fer.flag_paths import JOURNAL
from fer.io import files
from fer.models import loading
from fer.sweep import optuna_study, report, trial_leases
from fer.sweep.optuna_study import Plan
from fer.sweep.search_space import apply_overrides, points, single_changes
from fer.train import preemption, trainer


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What is asked for."""

    base: Experiment
    plan: Plan
    data: str  # folder of shards
    output: str
    storage: str = ""  # journal:PATH or the URL of a database; "": a journal in the output folder
    pruning: str = "auto"  # median | none | auto: median for a search, none for a grid
    prune_after: int = 3  # epochs
    strategy: str = "auto"
    also: tuple[str, ...] = ()  # other sweeps over seeds, each a change more in the report

    def folder(self, number: int) -> str:
        """The run folder of a trial."""
        return os.path.join(self.output, f"trial-{number:04d}")

    def check(self) -> None:
        """Tries what a trial may be given, before any is trained.

        Raises:
          UserError: names a backbone or a policy that is none.
        """
        for values in points(self.plan.space) if self.plan.is_grid else single_changes(self.plan.space):
            trainer.check_experiment(apply_overrides(self.base, self.plan.fields(values)))

    def open_study(self) -> optuna.Study:
        """The study, shared by all processes that are given the same flags.

        Raises:
          UserError: the data or the storage cannot be read, or the study belongs to another sweep.
        """
        if not self.storage and "://" in self.output:
            raise UserError(
                f"--storage is missing: a study cannot be kept in {self.output}; name a journal or database."
            )
        pruning = self.pruning
        if pruning == "auto":
            pruning = "none" if self.plan.is_grid else "median"
        asked = {
            "config": self.base.to_dict(),
            "space": {field: dataclasses.asdict(dimension) for field, dimension in self.plan.space.items()},
            **({"changes": self.plan.changes} if self.plan.changes else {}),
            "kind": "grid" if self.plan.is_grid else "space",
            **({} if self.plan.is_grid else {"--seed": self.plan.seed}),
            "data": manifest.read_manifest(self.data).sha256,
            "pruning": "none" if pruning == "none" else f"{pruning}, after {self.prune_after} epochs",
        }
        storage = self.storage or JOURNAL + os.path.join(self.output, "study.journal")
        told = "" if self.storage else f"--output={self.output}"
        return optuna_study.open_study(storage, json.loads(json.dumps(asked)), pruning, self.prune_after, told)


def run(sweep: Sweep) -> list[str]:
    """Trains until no trial is left to take, then writes the report. Returns the paths of its files.

    Raises:
      Stopped: a signal asked the sweep to stop; the same command takes up the trial that was under way.
      StorageError: the disk is full, or the store or the study away; so does it then.
      UserError: see `Sweep.check`, `Sweep.open_study` and `report.extra_runs`; or the data are gone (the same command
        continues once they are back); or no trial succeeded. A trial that fails is recorded with its reason, and the
        others go on.
    """
    also = report.extra_runs(sweep.also, sweep.plan, sweep.data)  # before hours of training, not after them
    sweep.check()
    shared = sweep.open_study()
    with preemption.stop_on_signals() as stop:
        while not stop.requested and (trial := _taken(sweep, shared)) is not None:
            with trial_leases.heartbeat(shared, trial):
                _train(sweep, shared, trial, stop)
            tf.keras.backend.clear_session()  # the next trial's model is another
    if stop.requested:
        raise Stopped("Stopped between two trials as asked; the same command goes on from there.", stop.exit_code)
    with optuna_study.reached():
        under_way = len(sweep.plan.of(shared, TrialState.RUNNING))
        if under_way:
            print(f"{under_way} trials are still trained by other processes, whose results are not in this report.")
        paths = report.write(sweep.output, shared, sweep.plan, sweep.folder, also)
        failed = len(sweep.plan.of(shared, TrialState.FAIL))
    if failed == sweep.plan.trials:
        raise UserError(f"All {failed} trials failed; {os.path.join(sweep.output, 'sweep.md')} says why of each.")
    return paths


def _taken(sweep: Sweep, shared: optuna.Study) -> optuna.Trial | None:
    with optuna_study.reached():
        return trial_leases.acquire_trial(shared, sweep.plan)


def _train(sweep: Sweep, shared: optuna.Study, trial: optuna.Trial, stop: preemption.StopRequest) -> None:
    """One trial, from its values to its evaluation; what goes wrong in it is its own result."""
    with optuna_study.reached():
        values = sweep.plan.draw(shared, trial)
    folder = sweep.folder(trial.number)
    print(f"trial {trial.number} of {sweep.plan.trials}, in {folder}:", flush=True)
    print("  " + ", ".join(f"{field}={value}" for field, value in values.items()), flush=True)
    state = TrialState.COMPLETE
    try:
        _report_past(trial, folder)
        hooks = trainer.RunHooks(on_epoch=_hook(trial), stop=stop)
        try:
            experiment = apply_overrides(sweep.base, sweep.plan.fields(values))
            trainer.train(experiment, sweep.data, folder, sweep.strategy, hooks=hooks)
        except optuna.TrialPruned as pruned:
            print(f"trial {trial.number} is given up: {pruned}", flush=True)
            state = TrialState.PRUNED
        accuracy = _evaluated(folder, sweep.data)
    except StorageError:
        raise  # no fault of the trial: it stays under way, and the same command takes it up
    except (UserError, tf.errors.ResourceExhaustedError) as error:
        manifest.check_sizes(
            manifest.read_manifest(sweep.data).seal_test_split()
        )  # without data every trial would fail: see `run`
        print(f"trial {trial.number} failed: {files.error_message(error)}", flush=True)
        with optuna_study.reached():
            trial.set_user_attr("failure", files.error_message(error))
            shared.tell(trial, state=TrialState.FAIL)
        return
    with optuna_study.reached():
        trial.set_user_attr("accuracy", accuracy)
        shared.tell(trial, accuracy if state == TrialState.COMPLETE else None, state=state)


def _hook(trial: optuna.Trial) -> Callable[[dict[str, Any]], None]:
    """What is called after each epoch: tells the study its accuracy, and gives the trial up if the study says so."""

    def on_epoch(entry: dict[str, Any]) -> None:
        _tell(trial, entry)
        with optuna_study.reached():
            given_up = trial.should_prune()
        if given_up:
            raise optuna.TrialPruned(
                f"after epoch {entry['epoch']} its accuracy {entry['validation_accuracy']:.4f} is below the others'"
            )

    return on_epoch


def _report_past(trial: optuna.Trial, folder: str) -> None:
    """Tells the study the epochs of a trial that is taken up again: its process may have died before it could."""
    if files.exists(os.path.join(folder, "history.json")):
        for entry in loading.read_history(folder):
            _tell(trial, entry)


def _tell(trial: optuna.Trial, entry: dict[str, Any]) -> None:
    with optuna_study.reached(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # an epoch that is known already, which changes nothing
        trial.report(entry["validation_accuracy"], entry["epoch"])


def _evaluated(folder: str, data: str) -> float:
    """Evaluates the trial's best weights on the validation split into its folder. Returns the accuracy.

    An evaluation that is there is taken, if it is of these weights: a trial that was given up may have gone on since.
    """
    best = files.read_json(os.path.join(folder, "best.json"), "what names the best weights")
    with contextlib.suppress(UserError):
        known = eval_json.read_eval(os.path.join(folder, "eval.json"))
        if known["protocol"]["members"][0]["weights_sha256"] == best["sha256"]:
            return float(known["accuracy"])
    found = evaluate.evaluate(EvalRequest([folder], data))
    evaluate.write(found, folder)
    return float(found.content["accuracy"])
