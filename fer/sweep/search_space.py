"""What differs between the runs of a sweep, read strictly from a line of text.

A grid, every combination once:      seed=0,1,2; model.dropout=0.2,0.4
A space, which Optuna searches:      optimizer.learning_rate=log(0.01,1); optimizer.name=choice(sgd,adamw)

Fields are those of `fer.config.Experiment`, with dots. A value is read as the field's type; a comma within parentheses
belongs to the value, so that augmentation policies can be listed. Ranges of a space, both ends included:

    uniform(low,high)  uniform(low,high,step)  log(low,high)  choice(a,b,...)

Changes, each tried alone against the base, with each seed of the grid if there is one; fields that only make sense
together are joined by "with":

    augment.policy=none,flip; train.ema_decay=0; optimizer.name=adamw with optimizer.learning_rate=1e-3
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
import re
import typing
from decimal import Decimal
from typing import Any, Union

from fer import config, flag_paths
from fer.config import Experiment
from fer.errors import UserError

Value = Union[bool, int, float, str]
RANGES = ("uniform", "log")
CHANGE = "change"  # the axis of a grid that has the base and each change
BASE = "base"
OF_A_PROCESS = {  # fields that a process cannot change once it has computed, and why
    "train.deterministic": "TensorFlow does not take determinism back within a process",
    "train.replicas": "the devices of a process stay as they were made for the first trial",
}


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of some values."""

    values: tuple[Value, ...]


@dataclasses.dataclass(frozen=True)
class Range:
    """A number between two others, both included; whole where the field is."""

    low: float
    high: float
    whole: bool
    log: bool = False
    step: float | None = None


Space = dict[str, Union[Choice, Range]]  # by field


def grid(text: str, base: Experiment) -> Space:
    """Reads a grid: the values of each field.

    Raises:
      UserError: names what is wrong: a field that does not exist, a value of another type or listed twice, or a
        combination that `base` cannot have.
    """
    space: Space = {}
    for field, values in _fields(text):
        space[field] = Choice(_values(field, values))
    for point in points(space):
        apply_overrides(base, point)
    return space


def search(text: str, base: Experiment) -> Space:
    """Reads a space to search: the range of each field. The ends of ranges and each choice are tried on `base`.

    Raises:
      UserError: names what is wrong, as `grid` does.
    """
    space: Space = {field: _dimension(field, values) for field, values in _fields(text)}
    for point in single_changes(space):
        apply_overrides(base, point)
    return space


def changes(text: str, base: Experiment, space: Space) -> dict[str, dict[str, Value]]:
    """Reads changes: the fields of each, by its name, which is what was written; the first is the base, with none.

    Each is tried on `base`, with every seed of `space`, a grid that has nothing else.

    Raises:
      UserError: names what is wrong, as `grid` does; or a change that changes nothing, or that is there twice.
    """
    others = [field for field in space if field != "seed"]
    if others:
        raise UserError(f"With --changes, --grid has seeds alone, as in seed=0,1; {others[0]} would be a change.")
    found: dict[str, dict[str, Value]] = {BASE: {}}
    for part in _split(text, ";"):
        joined = _fields(part.replace(" with ", ";"))
        if len(joined) == 1:
            ((field, values),) = joined
            alone = [{field: value} for value in _values(field, values)]
        else:
            alone = [{field: _value(field, value) for field, value in joined}]
        for fields in alone:
            name = ", ".join(f"{field}={value}" for field, value in fields.items())
            if name in found:
                raise UserError(f"The change {name} is there twice; list it once.")
            found[name] = fields
    for name, fields in found.items():
        if "seed" in fields:
            raise UserError(f"The change {name} is a seed; seeds belong into --grid.")
        if fields and apply_overrides(base, fields) == base:
            raise UserError(f"The change {name} changes nothing: the config has these values already.")
        for point in points(space):
            apply_overrides(base, {**point, **fields})
    return found


def points(space: Space) -> list[dict[str, Value]]:
    """Every combination of a grid's values, the last field's changing fastest."""
    choices = [dimension.values for dimension in space.values() if isinstance(dimension, Choice)]
    return [dict(zip(space, values)) for values in itertools.product(*choices)]


def single_changes(space: Space) -> list[dict[str, Value]]:
    """Each choice and each end of a range, one at a time."""
    return [
        {field: value}
        for field, dimension in space.items()
        for value in (dimension.values if isinstance(dimension, Choice) else (dimension.low, dimension.high))
    ]


def apply_overrides(base: Experiment, values: dict[str, Value]) -> Experiment:
    """`base` with some fields changed.

    Raises:
      UserError: the experiment that comes of it is none, see `fer.config.Experiment.validate` and
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


def types() -> dict[str, type]:
    """The type of each field of an experiment, by its path."""
    found: dict[str, type] = {}

    def visit(kind: type, path: str) -> None:
        for name, expected in typing.get_type_hints(kind).items():
            if isinstance(expected, type) and dataclasses.is_dataclass(expected):
                visit(expected, f"{path}{name}.")
            else:
                found[path + name] = expected

    visit(Experiment, "")
    return found


def _fields(text: str) -> list[tuple[str, str]]:
    """The fields and what stands behind their equals signs."""
    known = types()
    found: list[tuple[str, str]] = []
    for part in _split(text, ";"):
        field, equals, values = (piece.strip() for piece in part.partition("="))
        if not equals or not values:
            raise UserError(f"{part.strip()!r} is no field with its values, as in seed=0,1,2; model.dropout=0.2,0.4.")
        if field not in known:
            raise UserError(f"There is no field {field}{config.suggest(field, list(known))}.")
        if field in dict(found):
            raise UserError(f"{field} is there twice; list all its values once.")
        if field in OF_A_PROCESS:
            raise UserError(
                f"{field} cannot differ within a sweep: {OF_A_PROCESS[field]}. Set it for all trials, with "
                f"--config.{field}=."
            )
        found.append((field, values))
    return found


def _dimension(field: str, text: str) -> Choice | Range:
    called = re.fullmatch(r"(\w+)\((.*)\)", text)
    if called and called[1] == "choice":
        return Choice(_values(field, called[2]))
    if not called or called[1] not in RANGES:
        raise UserError(
            f"{field}={text} is no range: it must be uniform(low,high), uniform(low,high,step), log(low,high) or "
            "choice(a,b,...)."
        )
    kind = types()[field]
    if kind not in (int, float):
        raise UserError(f"{field} is of type {kind.__name__}, which has no {called[1]}(...): use choice(a,b,...).")
    numbers: list[Any] = [_value(field, part) for part in _split(called[2], ",")]
    if not all(map(math.isfinite, numbers)):
        raise UserError(f"{field}={text} must have numbers that are finite.")
    log = called[1] == "log"
    if len(numbers) not in ((2,) if log else (2, 3)) or not numbers[0] < numbers[1]:
        raise UserError(
            f"{field}={text} must have a lower and a higher end" + ("." if log else ", and perhaps a step.")
        )
    if (log and numbers[0] <= 0) or (len(numbers) == 3 and numbers[2] <= 0):
        raise UserError(f"{field}={text}: the lower end of log(...) and every step must be above 0.")
    if len(numbers) == 3 and (Decimal(str(numbers[1])) - Decimal(str(numbers[0]))) % Decimal(str(numbers[2])):
        raise UserError(f"{field}={text}: steps of {numbers[2]} do not lead from {numbers[0]} to {numbers[1]}.")
    return Range(numbers[0], numbers[1], whole=kind is int, log=log, step=numbers[2] if len(numbers) == 3 else None)


def _values(field: str, text: str) -> tuple[Value, ...]:
    values = tuple(_value(field, part) for part in _split(text, ","))
    twice = [value for position, value in enumerate(values) if value in values[:position]]
    if twice:
        raise UserError(f"{field} lists {twice[0]!r} twice.")
    return values


def _value(field: str, text: str) -> Value:
    """A value of the field's type."""
    kind, text = types()[field], text.strip()
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        return kind(text)
    except (KeyError, ValueError) as error:
        raise UserError(f"{field} is of type {kind.__name__}, and {text!r} is not.") from error


def _split(text: str, separator: str) -> list[str]:
    """The parts of a text between separators that stand outside parentheses; an empty part is a mistake."""
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
