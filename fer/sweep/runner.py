"""Runs a sweep: trains and evaluates trials, each in a run directory, until none is left, and writes the report.

Output directory:
    trial-0000/ ...    run directories, with eval.json and the other results of the validation split
    study.journal      the study, unless another storage is given
    sweep.md, sweep.json, history.png, importances.png, changes.png
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import warnings
from collections.abc import Callable
from typing import Any, cast

import optuna
import tensorflow as tf
from optuna.trial import TrialState

from fer.config import Experiment
from fer.data import manifest
from fer.errors import RunInUseError, Stopped, StorageError, UserError
from fer.evaluation import eval_json, evaluate
from fer.evaluation.eval_options import EvalRequest
from fer.flag_paths import JOURNAL
from fer.io import files
from fer.run_dir import RunDir
from fer.sweep import optuna_study, report, trial_leases
from fer.sweep.optuna_study import Plan
from fer.sweep.search_space import apply_overrides, grid_points, no_pruning_reason, single_changes
from fer.train import preemption, preflight, trainer

# Errors after which a GPU may fail in all further trials of the process.
DEVICE_ERRORS = (tf.errors.InternalError, tf.errors.UnknownError, tf.errors.AbortedError, tf.errors.UnavailableError)


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Options of a sweep."""

    base: Experiment
    plan: Plan
    data: str  # directory of the shards
    output: str
    storage: str = ""  # journal:PATH or the URL of a database; "": a journal in the output directory
    pruning: str = "auto"  # median | none | auto: median for a search with one seed, else none
    prune_after: int = 3  # epochs
    strategy: str = "auto"
    extra_sweeps: tuple[str, ...] = ()  # directories of sweeps over seeds, each a further ablation in the report

    def folder(self, point: int) -> str:
        """Returns the run directory of the trials of a point."""
        return os.path.join(self.output, f"trial-{point:04d}")

    def check(self) -> None:
        """Checks the values that a trial may have, before any trial is trained.

        Raises:
          UserError: a value is invalid, such as an unknown backbone or policy.
        """
        for values in grid_points(self.plan.space) if self.plan.is_grid else single_changes(self.plan.space):
            preflight.check_experiment(apply_overrides(self.base, self.plan.fields(values)))

    def open_study(self) -> optuna.Study:
        """Opens the study, which all processes with the same flags share.

        Raises:
          UserError: the data or the storage cannot be read, or the study belongs to another sweep.
        """
        if not self.storage and "://" in self.output:
            raise UserError(
                f"--storage is missing. The study cannot be stored in {self.output}: give a journal or a database."
            )
        pruning = "none" if no_pruning_reason(self.pruning, self.plan.space, self.plan.is_grid) else "median"
        compares_seeds = bool(self.plan.changes) or "seed" in self.plan.space
        if pruning == "median" and compares_seeds:
            raise UserError(
                "--pruning=median ends the trials of weak seeds, which biases means over seeds. Use --pruning=none."
            )
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
        flag = "" if self.storage else f"--output={self.output}"
        return optuna_study.open_study(storage, json.loads(json.dumps(asked)), pruning, self.prune_after, flag)


def run_sweep(sweep: Sweep) -> list[str]:
    """Trains until no trial is left, then writes the report. Returns the paths of its files.

    A trial that fails is recorded with the reason, and the other trials continue.

    Raises:
      Stopped: a signal requested the end; the same command resumes the interrupted trial.
      StorageError: the disk is full, or the storage or the study is unreachable; the same command resumes.
      UserError: see `Sweep.check`, `Sweep.open_study` and `report.extra_runs`; or the data are missing (the same
        command resumes once they exist again); or all trials failed.
    """
    extra = report.extra_runs(sweep.extra_sweeps, sweep.plan, sweep.data)  # raises before hours of training
    sweep.check()
    shared = sweep.open_study()
    with preemption.stop_on_signals() as stop:
        while not stop.requested and (trial := _acquire_trial(sweep, shared, stop)) is not None:
            _train_leased(sweep, shared, trial, stop)
            tf.keras.backend.clear_session()  # frees the model
    if stop.requested:
        raise Stopped("Stopped between two trials. Run the same command again to resume.", stop.exit_code)
    with optuna_study.storage_errors():
        running = len(sweep.plan.of(shared, TrialState.RUNNING))
        if running:
            print(f"Other processes are still training {running} trials, which are missing in this report.")
        paths = report.write_report(sweep.output, shared, sweep.plan, sweep.folder, extra)
        failed = len(sweep.plan.of(shared, TrialState.FAIL))
    if failed == sweep.plan.trials:
        raise UserError(f"All {failed} trials failed. {os.path.join(sweep.output, 'sweep.md')} lists the reasons.")
    return paths


def _acquire_trial(sweep: Sweep, shared: optuna.Study, stop: preemption.StopRequest) -> optuna.Trial | None:
    with optuna_study.storage_errors():
        return trial_leases.acquire_trial(shared, sweep.plan, lambda: stop.requested)


def _train_leased(sweep: Sweep, shared: optuna.Study, trial: optuna.Trial, stop: preemption.StopRequest) -> None:
    """Trains and evaluates a trial with heartbeats. Ends it early if another process trains it."""
    try:
        with trial_leases.heartbeat(shared, trial):
            _train_trial(sweep, shared, trial, stop)
    except Stopped:
        with optuna_study.storage_errors():
            trial_leases.release_trial(shared, trial)
        raise
    except RunInUseError as error:  # its process lives, but wrote no heartbeats: the trial is retried when it has ended
        print(f"The trial is left for later: {error}", flush=True)
    except optuna.exceptions.UpdateFinishedTrialError:
        print(
            "The trial had no heartbeats, so that another process took it. This one goes on with the next.", flush=True
        )


def _train_trial(sweep: Sweep, shared: optuna.Study, trial: optuna.Trial, stop: preemption.StopRequest) -> None:
    """Trains and evaluates a trial. An error that its config may cause is recorded as its result."""
    with optuna_study.storage_errors():
        values, number = sweep.plan.draw(shared, trial), cast(int, sweep.plan.point(shared, trial.number))
    folder = sweep.folder(number)
    print(f"Trial {number} of {sweep.plan.trials}, in {folder}:", flush=True)
    print("  " + ", ".join(f"{field}={value}" for field, value in values.items()), flush=True)
    state = TrialState.COMPLETE
    try:
        _report_history(trial, folder)
        options = trainer.RunOptions(on_epoch=_make_epoch_callback(trial), stop=stop)
        try:
            experiment = apply_overrides(sweep.base, sweep.plan.fields(values))
            trainer.train(experiment, sweep.data, folder, sweep.strategy, options=options)
        except optuna.TrialPruned as pruned:
            print(f"Trial {number} is pruned: {pruned}.", flush=True)
            state = TrialState.PRUNED
        accuracy = _evaluate_trial(folder, sweep.data)
    except (StorageError, RunInUseError):
        raise  # not the trial's fault: it stays in the state RUNNING, and the same command resumes it
    except (UserError, MemoryError, tf.errors.OpError) as error:
        reason = files.error_message(error)
        _check_host(error, reason, sweep.data)
        print(f"Trial {number} failed: {reason}", flush=True)
        with optuna_study.storage_errors():
            trial.set_user_attr(optuna_study.FAILURE, reason)
            shared.tell(trial, state=TrialState.FAIL)
        if isinstance(error, DEVICE_ERRORS):
            raise UserError(
                "The sweep stops, because this error may leave the device unusable in this process. The same command "
                "continues with the other trials."
            ) from error
        return
    with optuna_study.storage_errors():
        trial.set_user_attr("accuracy", accuracy)
        shared.tell(trial, accuracy if state == TrialState.COMPLETE else None, state=state)


def _check_host(error: Exception, reason: str, data: str) -> None:
    """Raises an error if a trial failed for a reason for which every trial would fail.

    Raises:
      StorageError: the disk is full, or too many files are open.
      UserError: the data are missing.
    """
    if isinstance(error, tf.errors.ResourceExhaustedError) and not trainer.is_out_of_memory(error):
        raise StorageError(
            f"The sweep cannot write or open a file ({reason}). Free some space, or raise the limit of open files, and "
            "run the same command again to resume."
        ) from error
    manifest.check_sizes(manifest.read_manifest(data).seal_test_split())


def _make_epoch_callback(trial: optuna.Trial) -> Callable[[dict[str, Any]], None]:
    """Returns the callback of an epoch: reports the accuracy, and raises TrialPruned if the study requires it."""

    def on_epoch(entry: dict[str, Any]) -> None:
        _report_epoch(trial, entry)
        with optuna_study.storage_errors():
            prune = trial.should_prune()
            best = max(trial.storage.get_trial(trial._trial_id).intermediate_values.values())
        if prune:
            raise optuna.TrialPruned(
                f"after epoch {entry['epoch']} its best accuracy, {best:.4f}, is below the median of the other trials"
            )

    return on_epoch


def _report_history(trial: optuna.Trial, folder: str) -> None:
    """Reports the past epochs of a resumed trial, because its process may have died before reporting them."""
    for entry in RunDir(folder).read_history():
        _report_epoch(trial, entry)


def _report_epoch(trial: optuna.Trial, entry: dict[str, Any]) -> None:
    with optuna_study.storage_errors(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Optuna warns of an epoch that it knows already
        trial.report(entry["validation_accuracy"], entry["epoch"])


def _evaluate_trial(folder: str, data: str) -> float:
    """Evaluates the best weights of a trial on the validation split, in its run directory. Returns the accuracy.

    An existing evaluation is used if it is of these weights, which may have changed since in a pruned trial, and of
    this data and protocol, as `fer.evaluation` can write others into the run directory.
    """
    run = RunDir(folder)
    expected = (run.read_best().sha256, manifest.read_manifest(data).sha256)
    with contextlib.suppress(UserError):
        known = eval_json.read_eval(run.eval_file)
        found = (known["protocol"]["members"][0]["weights_sha256"], known["data"]["manifest_sha256"])
        if found == expected and report.has_protocol_of_sweeps(known):
            return float(known["accuracy"])
    evaluation = evaluate.evaluate(EvalRequest([folder], data))
    evaluate.write(evaluation, folder)
    return float(evaluation.content["accuracy"])
