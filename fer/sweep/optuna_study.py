"""Optuna study that the processes of a sweep share, and the values of its trials.

The storage numbers the trials of all processes. The k-th trial is the k-th point of a grid or the k-th sample of a
search space, in any process, so that each point of a grid is trained exactly once. A trial that repeats one of a dead
process belongs to the point of that one and is not counted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import warnings
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import optuna
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState

from fer import escaping
from fer.config import flatten, from_record
from fer.errors import StorageError, UserError
from fer.sweep import storages
from fer.sweep.search_space import CHANGE, Choice, Range, Space, Value, grid_points

STUDY_NAME = "sweep"
FAILURE = "failure"  # attribute of a trial: the reason for which it cannot be trained
STARTUP_TRIALS = 4  # complete trials before the median pruner is active


@dataclasses.dataclass(frozen=True)
class Plan:
    """Trials of a sweep."""

    space: Space
    is_grid: bool
    trials: int  # number of trials of the study
    seed: int  # of the sampler: a sample depends on the seed, the number of the trial and the results so far
    changes: dict[str, dict[str, Value]] = dataclasses.field(
        default_factory=dict
    )  # overrides by the name of the ablation, the values of the axis CHANGE

    def fields(self, values: dict[str, Value]) -> dict[str, Value]:
        """Returns the overrides of a trial by field, with its ablation replaced by the fields of that ablation."""
        own = {name: value for name, value in values.items() if name != CHANGE}
        return {**own, **(self.changes[str(values[CHANGE])] if CHANGE in values else {})}

    def draw(self, study: optuna.Study, trial: optuna.Trial) -> dict[str, Value]:
        """Returns the values of a trial: its point in a grid, or a sample. Existing values are kept."""
        point = self.point(study, trial.number)
        assert point is not None
        if self.is_grid:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                fixed = grid_points(self.space)[point]
                study.sampler = optuna.samplers.PartialFixedSampler(fixed, optuna.samplers.RandomSampler())
        else:
            own = np.random.SeedSequence([self.seed, point]).generate_state(1)[0]
            study.sampler = optuna.samplers.TPESampler(seed=int(own))
        return {field: _suggest(trial, field, dimension) for field, dimension in self.space.items()}

    def of(self, study: optuna.Study, *states: TrialState) -> list[FrozenTrial]:
        """Returns the latest trial of each point of the plan, in order, if it is in `states` or if none are given."""
        return [trial for trial in latest_trials(study)[: self.trials] if trial.state in states or not states]

    def point(self, study: optuna.Study, number: int) -> int | None:
        """Returns the point to which the trial belongs; None beyond the plan and for a second copy of a trial."""
        numbers = [trial.number for trial in self.of(study)]
        return numbers.index(number) if number in numbers else None


def latest_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Returns the latest trial of each point, in the order of the points.

    A retry of a trial replaces it. Of two retries of the same trial the first replaces it, and the other is left out.
    """
    latest: dict[int, FrozenTrial] = {}  # by the number of the first trial of the point
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        for trial in study.get_trials(deepcopy=False):
            history = [*RetryHeartbeatStaleTrialCallback.retry_history(trial), trial.number]
            if len(history) == 1 or latest[history[0]].number == history[-2]:
                latest[history[0]] = trial
    return list(latest.values())


def make_grid_plan(space: Space, changes: dict[str, dict[str, Value]] | None = None) -> Plan:
    """Builds the plan of a grid: all its points, with `changes` each ablation (the base first) at each point."""
    if changes:
        space = {**space, CHANGE: Choice(tuple(changes))}
    return Plan(space, True, len(grid_points(space)), 0, changes or {})


def open_study(storage: str, asked: dict[str, Any], pruning: str, prune_after: int, flag: str = "") -> optuna.Study:
    """Opens the study in a storage; creates it if it does not exist.

    Args:
      storage: journal:PATH, or the URL of a database for SQLAlchemy.
      asked: the values that define the sweep; those of an existing study must be equal.
      pruning: "median" (ends a trial whose best epoch is below the median of the other trials at that epoch) or "none".
      prune_after: the number of epochs that every trial may train.
      flag: the flag and value that the storage is derived from, if not --storage.

    Raises:
      UserError: the storage cannot be opened, or belongs to another sweep.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
    if pruning == "median":
        pruner = optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=prune_after)
    try:
        study = optuna.create_study(
            storage=storages.make_storage(storage),
            study_name=STUDY_NAME,
            direction="maximize",
            load_if_exists=True,
            pruner=pruner,
        )
    except Exception as error:  # each storage driver raises its own types
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{flag or '--storage=' + _redact(storage)} cannot be opened for the study ({_redact(reason)}). --storage "
            "takes journal:PATH or the URL of a database, such as sqlite:///sweep.db."
        ) from error
    if "asked" not in study.user_attrs:
        study.set_user_attr("asked", asked)
    found = study.user_attrs["asked"]
    if "config" in found:  # which an earlier version may have recorded
        found = {**found, "config": json.loads(json.dumps(from_record(found["config"]).to_dict()))}
    different = [name for name in asked if found.get(name) != asked[name]]
    if different:
        raise UserError(
            f"{_redact(storage)} belongs to a sweep with another {different[0]} "
            f"({_describe_difference(found.get(different[0]), asked[different[0]])}). Choose another --storage and "
            "--output, or repeat the flags of that sweep."
        )
    if list(found.get("space", {})) != list(asked.get("space", {})):  # a trial's number is its position in the grid
        raise UserError(
            f"{_redact(storage)} belongs to a sweep with the fields in another order. Give them in this order: "
            f"{'; '.join(found['space'])}."
        )
    return study


@contextlib.contextmanager
def storage_errors() -> Iterator[None]:
    """Converts errors of an unreachable storage in the block.

    Raises:
      StorageError: the storage cannot be reached; the message says how to resume.
    """
    try:
        yield
    except (optuna.exceptions.StorageInternalError, OSError) as error:
        reason = _redact(str(error.__cause__ or error).strip().splitlines()[0])
        raise StorageError(
            f"The study of the sweep cannot be reached ({reason}). Completed training is saved: run the same command "
            "again to resume."
        ) from error


def _redact(text: str) -> str:
    """Returns the address of a storage or a message of its driver without passwords."""
    return escaping.redact(text)


def _describe_difference(found: Any, asked: Any) -> str:
    """Formats the fields in which two values differ, or the values themselves if they are not dictionaries."""
    if not (isinstance(found, dict) and isinstance(asked, dict)):
        return f"{found!r}, not {asked!r}"
    theirs, ours = flatten(found), flatten(asked)
    fields = [name for name in {**theirs, **ours} if theirs.get(name) != ours.get(name)]
    return "; ".join(f"{name}: {theirs.get(name)!r}, not {ours.get(name)!r}" for name in fields)


def _suggest(trial: optuna.Trial, field: str, dimension: Choice | Range) -> Value:
    if isinstance(dimension, Choice):
        return cast(Value, trial.suggest_categorical(field, dimension.values))
    if dimension.whole:
        low, high, step = int(dimension.low), int(dimension.high), int(dimension.step or 1)
        return trial.suggest_int(field, low, high, step=step, log=dimension.log)
    return trial.suggest_float(field, dimension.low, dimension.high, step=dimension.step, log=dimension.log)
