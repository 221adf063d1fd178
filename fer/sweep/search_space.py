"""Parses the fields and values that the runs of a sweep vary.

Grid, all combinations:              seed=0,1,2; model.dropout=0.2,0.4
Search space, sampled by Optuna:     optimizer.learning_rate=log(0.01,1); optimizer.name=choice(sgd,adamw)

Fields are those of `fer.config.Experiment`, with dots. A value has the type of its field; a comma within parentheses
belongs to the value, so that augmentation policies can be listed. Ranges of a search space include both ends:

    uniform(low,high)  uniform(low,high,step)  log(low,high)  choice(a,b,...)

Ablations, each trained by itself with each seed of the grid; `with` joins fields that belong together:

    augment.policy=none,flip; train.ema_decay=0; optimizer.name=adamw with optimizer.learning_rate=1e-3
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
import re
from decimal import Decimal
from typing import Any

from fer import config, config_fields, flag_paths
from fer.config import Experiment
from fer.errors import UserError

Value = bool | int | float | str
RANGE_KINDS = ("uniform", "log")
CHANGE = "change"  # axis of a grid whose values are the names of the base and of the ablations
BASE = "base"
PROCESS_FIELDS = {  # fields that a process cannot change after its first computation, and the reason
    "train.deterministic": "TensorFlow cannot disable determinism within a process",
    "train.num_replicas": "TensorFlow creates the devices of a process once, for the first trial",
}


@dataclasses.dataclass(frozen=True)
class Choice:
    """Dimension with a list of values."""

    values: tuple[Value, ...]


@dataclasses.dataclass(frozen=True)
class Range:
    """Dimension with the numbers from `low` to `high`, both included; `whole` for an int field."""

    low: float
    high: float
    whole: bool
    log: bool = False
    step: float | None = None


Space = dict[str, Choice | Range]  # by field


def parse_grid(text: str | None, base: Experiment) -> Space:
    """Parses a grid: the values of each field. Without text, the grid has no field, and `base` is its single point.

    Raises:
      UserError: a field does not exist, a value has the wrong type or is repeated, or a combination is invalid for
        `base`.
    """
    fields = _split_fields(text) if text else []
    space: Space = {field: Choice(_parse_values(field, values)) for field, values in fields}
    for point in grid_points(space):
        apply_overrides(base, point)
    return space


def parse_space(text: str, base: Experiment) -> Space:
    """Parses a search space: the range of each field. Checks the ends of ranges and each choice on `base`.

    Raises:
      UserError: see `parse_grid`.
    """
    space: Space = {field: _parse_dimension(field, values) for field, values in _split_fields(text)}
    for point in single_changes(space):
        apply_overrides(base, point)
    return space


def parse_changes(text: str, base: Experiment, space: Space) -> dict[str, dict[str, Value]]:
    """Parses ablations, and checks each on `base` with every seed of `space`, a grid of seeds.

    Returns:
      The overrides of each ablation by its name, such as "train.ema_decay=0.0"; the first is the base, without any.

    Raises:
      UserError: see `parse_grid`; or an ablation changes nothing or is repeated.
    """
    others = [field for field in space if field != "seed"]
    if others:
        raise UserError(
            f"With --ablations, --grid takes only seeds, such as seed=0,1. Move {others[0]} to --ablations."
        )
    found: dict[str, dict[str, Value]] = {BASE: {}}
    for part in _split(text, ";"):
        assignments = _split_fields(part.replace(" with ", ";"))
        if len(assignments) == 1:
            ((field, values),) = assignments
            overrides = [{field: value} for value in _parse_values(field, values)]
        else:
            overrides = [{field: _parse_value(field, value) for field, value in assignments}]
        for fields in overrides:
            name = ", ".join(f"{field}={value}" for field, value in fields.items())
            if name in found:
                raise UserError(f"--ablations lists {name} twice. List it once.")
            found[name] = fields
    for name, fields in found.items():
        if "seed" in fields:
            raise UserError(f"--ablations lists {name}. Give seeds with --grid.")
        if fields and apply_overrides(base, fields) == base:
            raise UserError(f"The change {name} has no effect: the config has these values already.")
        for point in grid_points(space):
            apply_overrides(base, {**point, **fields})
    return found


def no_pruning_reason(pruning: str, space: Space, is_grid: bool) -> str:
    """Returns why a sweep prunes no trials, as the end of a message about --prune_after; "" if it prunes them.

    Args:
      pruning: median | none | auto, which prunes a search that does not vary the seed.
      space: the fields of the sweep.
      is_grid: whether all combinations are trained.
    """
    if pruning == "none" or (pruning == "auto" and is_grid):
        return "needs --pruning=median"
    if pruning == "auto" and "seed" in space:
        return "needs a --space without seed: a sweep over seeds prunes no trials, which would bias means over seeds"
    return ""


def grid_points(space: Space) -> list[dict[str, Value]]:
    """Returns all combinations of the values of a grid; the last field varies fastest."""
    choices = [dimension.values for dimension in space.values() if isinstance(dimension, Choice)]
    return [dict(zip(space, values)) for values in itertools.product(*choices)]


def single_changes(space: Space) -> list[dict[str, Value]]:
    """Returns the overrides with one field each: every choice, and both ends of every range."""
    return [
        {field: value}
        for field, dimension in space.items()
        for value in (dimension.values if isinstance(dimension, Choice) else (dimension.low, dimension.high))
    ]


def apply_overrides(base: Experiment, values: dict[str, Value]) -> Experiment:
    """Returns a copy of `base` with some fields changed.

    Raises:
      UserError: the resulting experiment is invalid; see `fer.config.Experiment.validate` and
        `fer.flag_paths.resolve_fields`.
    """
    experiment = copy.deepcopy(base)
    for field, value in values.items():
        holder: Any = experiment
        *parents, name = field.split(".")
        for parent in parents:
            holder = getattr(holder, parent)
        setattr(holder, name, value)
    flag_paths.resolve_fields(experiment)
    experiment.validate()
    return experiment


def field_types() -> dict[str, type]:
    """Returns the type of each field of an experiment by its path."""
    limits = config_fields.limits_by_path(Experiment)
    return {
        path: limits[path].kind or type(default) for path, default in config.flatten(Experiment().to_dict()).items()
    }


def _split_fields(text: str) -> list[tuple[str, str]]:
    """Splits the text of a grid or space into fields and the texts of their values."""
    known = field_types()
    found: list[tuple[str, str]] = []
    for part in _split(text, ";"):
        field, equals, values = (piece.strip() for piece in part.partition("="))
        if not equals or not values:
            raise UserError(
                f"{part.strip()!r} is not of the form FIELD=VALUES, such as seed=0,1,2; model.dropout=0.2,0.4."
            )
        if field not in known:
            raise UserError(f"There is no field {field}{config.suggest_field(field)}.")
        if field in dict(found):
            raise UserError(f"{field} is listed twice. List it once with all its values.")
        if field in PROCESS_FIELDS:
            raise UserError(
                f"{field} cannot differ within a sweep: {PROCESS_FIELDS[field]}. Set it for all trials with "
                f"--config.{field}=VALUE."
            )
        found.append((field, values))
    return found


def _parse_dimension(field: str, text: str) -> Choice | Range:
    call = re.fullmatch(r"(\w+)\((.*)\)", text)
    if call and call[1] == "choice":
        return Choice(_parse_values(field, call[2]))
    if not call or call[1] not in RANGE_KINDS:
        raise UserError(
            f"{field}={text} is not a range. It must be uniform(low,high), uniform(low,high,step), log(low,high) or "
            "choice(a,b,...)."
        )
    kind = field_types()[field]
    if kind not in (int, float):
        raise UserError(
            f"{field} is of type {kind.__name__}, for which {call[1]}(...) is not defined. Use choice(a,b,...)."
        )
    numbers: list[Any] = [_parse_value(field, part) for part in _split(call[2], ",")]
    if not all(map(math.isfinite, numbers)):
        raise UserError(f"{field}={text} must have finite numbers.")
    log = call[1] == "log"
    if len(numbers) not in ((2,) if log else (2, 3)) or not numbers[0] < numbers[1]:
        raise UserError(
            f"{field}={text} must have a lower and a higher end" + ("." if log else ", and optionally a step.")
        )
    if (log and numbers[0] <= 0) or (len(numbers) == 3 and numbers[2] <= 0):
        raise UserError(f"{field}={text}: the lower end of log(...) and a step must be above 0.")
    if len(numbers) == 3 and (Decimal(str(numbers[1])) - Decimal(str(numbers[0]))) % Decimal(str(numbers[2])):
        raise UserError(f"{field}={text}: steps of {numbers[2]} do not lead from {numbers[0]} to {numbers[1]}.")
    return Range(numbers[0], numbers[1], whole=kind is int, log=log, step=numbers[2] if len(numbers) == 3 else None)


def _parse_values(field: str, text: str) -> tuple[Value, ...]:
    values = tuple(_parse_value(field, part) for part in _split(text, ","))
    repeated = [value for position, value in enumerate(values) if value in values[:position]]
    if repeated:
        raise UserError(f"{field} lists {repeated[0]!r} twice.")
    return values


def _parse_value(field: str, text: str) -> Value:
    """Parses a value of the type of its field."""
    kind, text = field_types()[field], text.strip()
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        return kind(text)
    except (KeyError, ValueError) as error:
        raise UserError(f"{field} is of type {kind.__name__}, but {text!r} is not.") from error


def _split(text: str, separator: str) -> list[str]:
    """Splits a text at separators outside parentheses. Raises a UserError if a part is empty."""
    parts, depth = [""], 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if character == separator and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    if depth or not all(part.strip() for part in parts):
        raise UserError(f"{text!r} has an empty part or an unpaired parenthesis.")
    return parts
