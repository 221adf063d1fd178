"""The study that the processes of a sweep share, in Optuna's storage, and what its trials are.

The storage numbers trials one by one for all processes. Trial k is the k-th point of a grid, or the k-th that is
sampled, for whoever gets it; so a grid has each of its points exactly once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import warnings
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import optuna
from optuna.storages import journal
from optuna.trial import FrozenTrial, TrialState

from fer import escaping
from fer.config import flatten
from fer.errors import StorageError, UserError
from fer.flag_paths import JOURNAL
from fer.sweep.search_space import CHANGE, Choice, Range, Space, Value, points

NAME = "sweep"
STARTUP = 4  # trials that end before the median of them is worth something


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a sweep tries."""

    space: Space
    is_grid: bool
    trials: int  # of the whole study
    seed: int  # of the search: what is drawn depends on it, on the trial's number and on the results so far
    changes: dict[str, dict[str, Value]] = dataclasses.field(default_factory=dict)  # by the values of the axis CHANGE

    def fields(self, values: dict[str, Value]) -> dict[str, Value]:
        """The fields of an experiment that a trial's values stand for."""
        own = {name: value for name, value in values.items() if name != CHANGE}
        return {**own, **(self.changes[str(values[CHANGE])] if CHANGE in values else {})}

    def draw(self, study: optuna.Study, trial: optuna.Trial) -> dict[str, Value]:
        """The values of a trial: point number k of a grid, or new ones. A trial that has some keeps them."""
        if self.is_grid:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                fixed = points(self.space)[trial.number]
                study.sampler = optuna.samplers.PartialFixedSampler(fixed, optuna.samplers.RandomSampler())
        else:
            own = np.random.SeedSequence([self.seed, trial.number]).generate_state(1)[0]
            study.sampler = optuna.samplers.TPESampler(seed=int(own))
        return {field: _suggest(trial, field, dimension) for field, dimension in self.space.items()}

    def of(self, study: optuna.Study, *states: TrialState) -> list[FrozenTrial]:
        """The trials of the plan so far, in the order of their numbers; those in `states`, or all."""
        found = study.get_trials(deepcopy=False, states=states or None)
        return [trial for trial in found if trial.number < self.trials]


def of_grid(space: Space, changes: dict[str, dict[str, Value]] | None = None) -> Plan:
    """Every point of a grid; with `changes`, every one of them (the base is the first) at every point."""
    if changes:
        space = {**space, CHANGE: Choice(tuple(changes))}
    return Plan(space, True, len(points(space)), 0, changes or {})


def open_study(storage: str, asked: dict[str, Any], pruning: str, prune_after: int, told: str = "") -> optuna.Study:
    """The study in `storage`, made if there is none.

    Args:
      storage: journal:PATH, or the URL of a database as SQLAlchemy takes it.
      asked: all that decides the sweep; a study that is there must have been made for the same.
      pruning: median (a trial ends once its best epoch so far is below the median of the others' at that epoch) | none.
      prune_after: epochs that every trial may train.
      told: the flag and value that the storage follows from, where that is not --storage.

    Raises:
      UserError: the storage cannot be opened, or belongs to another sweep.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
    if pruning == "median":
        pruner = optuna.pruners.MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=prune_after)
    try:
        study = optuna.create_study(
            storage=_storage(storage), study_name=NAME, direction="maximize", load_if_exists=True, pruner=pruner
        )
    except Exception as error:  # of the storage's driver, whichever that is
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{told or '--storage=' + _shown(storage)} cannot be opened for the study ({_shown(reason)}); --storage "
            "takes journal:PATH or a database, as in sqlite:///sweep.db."
        ) from error
    if "asked" not in study.user_attrs:
        study.set_user_attr("asked", asked)
    found = study.user_attrs["asked"]
    different = [name for name in asked if found.get(name) != asked[name]]
    if different:
        raise UserError(
            f"{_shown(storage)} belongs to a sweep with another {different[0]} "
            f"({_difference(found.get(different[0]), asked[different[0]])}); choose another --storage and --output, or "
            "give the flags of that sweep."
        )
    if list(found.get("space", {})) != list(asked.get("space", {})):  # the number of a trial is a place in a grid
        raise UserError(
            f"{_shown(storage)} belongs to a sweep with its fields in another order ({'; '.join(found['space'])}): "
            "give them in that order."
        )
    return study


@contextlib.contextmanager
def reached() -> Iterator[None]:
    """Within it, a storage that was opened and cannot be reached any more becomes a sentence.

    Raises:
      StorageError: says how to go on.
    """
    try:
        yield
    except (optuna.exceptions.StorageInternalError, OSError) as error:
        reason = _shown(str(error.__cause__ or error).strip().splitlines()[0])
        raise StorageError(
            f"The sweep's study cannot be reached ({reason}). What was trained is whole: run the same command again, "
            "and it goes on from there."
        ) from error


def _shown(text: str) -> str:
    """A storage's address, or what its driver says of it, without a password."""
    return escaping.redact(text)


def _difference(found: Any, asked: Any) -> str:
    """In which fields two values differ, or the values where they have none."""
    if not (isinstance(found, dict) and isinstance(asked, dict)):
        return f"{found!r}, not {asked!r}"
    theirs, ours = flatten(found), flatten(asked)
    fields = [name for name in {**theirs, **ours} if theirs.get(name) != ours.get(name)]
    return "; ".join(f"{name}: {theirs.get(name)!r}, not {ours.get(name)!r}" for name in fields)


def _storage(storage: str) -> optuna.storages.BaseStorage:
    if not storage.startswith(JOURNAL):
        return optuna.storages.RDBStorage(storage)
    path = storage[len(JOURNAL) :]
    if "://" in path:
        raise ValueError("a journal lies on a disk that all processes see")
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    return optuna.storages.JournalStorage(journal.JournalFileBackend(path))


def _suggest(trial: optuna.Trial, field: str, dimension: Choice | Range) -> Value:
    if isinstance(dimension, Choice):
        return cast(Value, trial.suggest_categorical(field, dimension.values))
    if dimension.whole:
        low, high, step = int(dimension.low), int(dimension.high), int(dimension.step or 1)
        return trial.suggest_int(field, low, high, step=step, log=dimension.log)
    return trial.suggest_float(field, dimension.low, dimension.high, step=dimension.step, log=dimension.log)
