"""Parser of augmentation policies, see `fer.augment.policy`; it reports errors before TensorFlow is loaded."""

from __future__ import annotations

import ast
import dataclasses
import itertools
import warnings
from collections.abc import Sequence
from typing import Any

from fer.augment import (  # noqa: F401 - they register ops
    augmix,
    keras_cv_backend,
    mixup,
    noise,
    ops,
    random_erasing,
    registry,
)
from fer.errors import UserError, shorten, suggest

MAX_LENGTH = 2000  # characters of a policy


@dataclasses.dataclass(frozen=True)
class Operation:
    """One op of a policy with the arguments given there; `choices` are the ops of choose(...)."""

    name: str
    arguments: dict[str, float | str]
    choices: tuple[Operation, ...] = ()

    @property
    def kind(self) -> str:
        """A key of `registry.KINDS`."""
        return self.choices[0].kind if self.choices else registry.OPS[self.name].kind

    def all_arguments(self) -> dict[str, float | str]:
        """Returns the arguments, with the defaults of those that are not given."""
        known = registry.OPS[self.name].arguments if not self.choices else {}
        return {name: self.arguments.get(name, argument.default) for name, argument in known.items()}

    def call(self, *inputs: Any) -> Any:
        """Calls the function of the op with the parameters of its kind."""
        return registry.OPS[self.name].function(*inputs, **self.arguments)


def parse(policy: str, backend: str = "fused") -> list[Operation]:
    """Parses a policy into its ops, in order; "none" has no ops.

    Args:
      policy: see `fer.augment.policy`; at most `MAX_LENGTH` characters.
      backend: the backend that will apply the policy, a value of `config.augment.backend`.

    Raises:
      UserError: an op or argument is unknown (the message suggests the nearest), a value is out of bounds, or the
        backend lacks an op.
    """
    if len(policy) > MAX_LENGTH:
        raise UserError(f"The policy {shorten(policy)!r} has {len(policy):,} characters; {MAX_LENGTH:,} are allowed.")
    try:
        operations = [_parse_operation(node) for node in _split(policy.strip())]
        _check_crops(operations)
    except (RecursionError, MemoryError) as error:
        raise UserError(f"The policy {shorten(policy)!r} is nested too deep.") from error
    except _PolicyError as error:
        raise UserError(f"In the policy {policy!r}, {error}.") from error
    for each in operations if backend == "keras_cv" else ():
        if each.name not in keras_cv_backend.LAYERS or each.arguments.get("preset", "paper") != "paper":
            preset = f"'s preset {each.arguments['preset']}" if each.name in keras_cv_backend.LAYERS else ""
            raise UserError(
                f"The policy {policy!r} names {each.name}{preset}, which the backend keras_cv lacks: it has "
                f"{', '.join(keras_cv_backend.LAYERS)}. Remove it from the policy, or set config.augment.backend to "
                '"fused".'
            )
    return operations


class _PolicyError(Exception):
    """Fault of a policy, as the end of a sentence."""


def _check_crops(operations: Sequence[Operation]) -> None:
    sides = [each.all_arguments()["to"] for each in operations if each.name == "crop"]
    for before, after in itertools.pairwise(sides):
        if after > before:  # type: ignore[operator]  # both are numbers
            raise _PolicyError(
                f"crop({after}) is larger than the image after crop({before}): put the larger crop first"
            )


def _split(policy: str) -> list[ast.expr]:
    """Splits a policy at "|"."""
    if policy == "none":
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's, such as of the invalid escape "\\d"
            node = ast.parse(policy, mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise _PolicyError("the text is not of the form name(argument=value,...)|name|...") from error
    nodes: list[ast.expr] = []
    while isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        nodes.insert(0, node.right)
        node = node.left
    return [node, *nodes]


def _parse_operation(node: ast.expr) -> Operation:
    """Parses one op: `name`, `name(argument=value)` or `name(value)`."""
    call = node if isinstance(node, ast.Call) else None
    name = call.func if call else node
    if not isinstance(name, ast.Name):
        raise _PolicyError(f"{ast.unparse(node)!r} is not of the form name(argument=value,...)")
    if name.id == "choose":
        return _parse_choose(call)
    if name.id not in registry.OPS:
        raise _PolicyError(f"there is no operation {name.id!r}{suggest(name.id, [*registry.OPS, 'choose'])}")
    op = registry.OPS[name.id]
    known = list(op.arguments)
    arguments: dict[str, float | str] = {}
    if call and len(call.args) > len(known):
        raise _PolicyError(f"{name.id} takes {', '.join(known)}, not {len(call.args)} values")
    given = [ast.keyword(arg, value) for arg, value in zip(known, call.args)] + call.keywords if call else []
    for keyword in given:
        if keyword.arg not in known:
            near = suggest(str(keyword.arg), known)
            raise _PolicyError(f"{name.id} has no argument {keyword.arg!r}{near}")
        if keyword.arg in arguments:
            raise _PolicyError(f"{name.id} has the argument {keyword.arg} twice")
        arguments[keyword.arg] = _parse_value(f"{name.id}'s {keyword.arg}", keyword.value, op.arguments[keyword.arg])
    operation = Operation(name.id, arguments)
    values = operation.all_arguments()
    for first, second in zip(op.ascending, op.ascending[1:]):
        if values[first] > values[second]:  # type: ignore[operator]  # both are numbers
            raise _PolicyError(f"{name.id}'s {first}, {values[first]}, is above its {second}, {values[second]}")
    return operation


def _parse_choose(call: ast.Call | None) -> Operation:
    choices = tuple(_parse_operation(each) for each in call.args) if call and not call.keywords else ()
    if len(choices) < 2 or not all(choice.kind == "mix" and not choice.choices for choice in choices):
        mix_ops = ", ".join(name for name, op in registry.OPS.items() if op.kind == "mix")
        raise _PolicyError(f"choose(...) takes two or more of {mix_ops}")
    return Operation("choose", {}, choices)


def _parse_value(name: str, node: ast.expr, argument: registry.Argument) -> float | str:
    given = ast.unparse(node)
    if isinstance(argument.default, str):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):  # in quotes
            given = node.value
        if given not in argument.bounds:
            raise _PolicyError(f"{name} is {given}{suggest(given, argument.bounds)}")
        return given
    low, high = argument.bounds
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError):
        value = None
    whole = isinstance(argument.default, int)
    if whole and isinstance(value, float) and not value.is_integer():
        raise _PolicyError(f"{name} is {given}; it must be a whole number")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise _PolicyError(f"{name} is {given}; it must be {low} to {high}")
    return int(value) if whole else float(value)


def mixes_images(policy: str, backend: str = "fused") -> bool:
    """Returns whether a policy has mixup or cutmix; arguments as in `parse`."""
    return any(operation.kind == "mix" for operation in parse(policy, backend))
