"""Parser of augmentation policies, without TensorFlow, so that programs report errors before they load it.

See `fer.augment.policy` for the syntax.
"""

from __future__ import annotations

import ast
import dataclasses
import warnings

from fer.config import suggest
from fer.errors import UserError, shorten

MAX_LENGTH = 2000  # characters of a policy

# Arguments of each op in the order of its function's parameters, with their defaults.
ARGUMENTS: dict[str, dict[str, float | str]] = {
    "flip": {"p": 0.5},
    "affine": {"rotate": 0.0, "scale": 0.0, "shift": 0.0, "shear": 0.0},
    "crop": {"to": 40},
    "brightness": {"strength": 0.3},
    "contrast": {"strength": 0.3},
    "gamma": {"strength": 0.3},
    "solarize": {"threshold": 128.0, "p": 0.5},
    "posterize": {"bits": 4.0, "p": 0.5},
    "invert": {"p": 0.5},
    "autocontrast": {"p": 0.5},
    "equalize": {"p": 0.5},
    "sharpen": {"strength": 0.5},
    "blur": {"p": 0.5},
    "randaugment": {"layers": 2, "magnitude": 9.0, "preset": "paper"},
    "erase": {"p": 0.5, "low": 0.02, "high": 0.33, "fill": 128.0},
    "augmix": {"severity": 3.0, "width": 3},
    "mixup": {"alpha": 0.2},
    "cutmix": {"alpha": 1.0},
}
MIX_OPS = ("mixup", "cutmix")

# Lowest and highest value of each argument.
BOUNDS = {
    "p": (0, 1),
    "rotate": (0, 180),
    "scale": (0, 0.9),
    "shift": (0, 1),
    "shear": (0, 1),
    "strength": (0, 1),
    "threshold": (0, 256),
    "bits": (1, 8),
    "to": (24, 48),
    "layers": (1, 8),
    "magnitude": (0, 10),
    "low": (0, 1),
    "high": (0, 1),
    "fill": (0, 255),
    "alpha": (0.05, 100),  # below, the gammas of the Beta distribution underflow in float32
    "severity": (0.1, 10),
    "width": (1, 8),
}
INTEGER_ARGUMENTS = ("to", "bits", "layers", "width")
STRING_VALUES = {"preset": ("paper", "faces")}

KERAS_CV_OPS = (
    "flip",
    "randaugment",
    "mixup",
    "cutmix",
)  # ops that KerasCV has in nearly the same form


@dataclasses.dataclass(frozen=True)
class Operation:
    """One op of a policy with its arguments; `choices` are the ops of choose(...)."""

    name: str
    arguments: dict[str, float | str]
    choices: tuple[Operation, ...] = ()

    @property
    def mixes(self) -> bool:
        """True if the op mixes two images of a batch."""
        return self.name in MIX_OPS or bool(self.choices)


def parse(policy: str, engine: str = "fused") -> list[Operation]:
    """Parses a policy into its ops, in order; "none" has no ops.

    Args:
      policy: see `fer.augment.policy`; at most `MAX_LENGTH` characters.
      engine: the engine that will apply the policy, one of `fer.config.BACKENDS`.

    Raises:
      UserError: an op or argument is unknown (the message suggests the nearest), a value is out of bounds, or the
        engine lacks an op.
    """
    if len(policy) > MAX_LENGTH:
        raise UserError(f"The policy {shorten(policy)!r} has {len(policy):,} characters; {MAX_LENGTH:,} are allowed.")
    try:
        operations = _parse_operations(policy)
    except (RecursionError, MemoryError) as error:
        raise UserError(f"The policy {shorten(policy)!r} is nested too deep.") from error
    _check_crops(operations, policy)
    for each in operations if engine == "keras_cv" else ():
        if each.name not in KERAS_CV_OPS or each.arguments.get("preset", "paper") != "paper":
            lacks = each.name if each.name not in KERAS_CV_OPS else f"{each.name}'s preset {each.arguments['preset']}"
            raise UserError(
                f"The policy {policy!r} names {lacks}, which the engine keras_cv lacks: "
                f"it has {', '.join(KERAS_CV_OPS)}. Remove it from the policy, or set config.augment.backend to "
                '"fused".'
            )
    return operations


def _check_crops(operations: list[Operation], policy: str) -> None:
    """Raises a UserError if a crop is larger than the image after an earlier crop."""
    default = ARGUMENTS["crop"]["to"]
    sides = [int(each.arguments.get("to", default)) for each in operations if each.name == "crop"]
    for before, after in zip(sides, sides[1:]):
        if after > before:
            raise UserError(
                f"In the policy {policy!r}, crop({after}) is larger than the image after crop({before}): "
                "put the larger crop first."
            )


def _parse_operations(policy: str) -> list[Operation]:
    if policy.strip() == "none":
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's, such as of the invalid escape "\\d"
            node = ast.parse(policy.strip(), mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise UserError(f"The policy {policy!r} is not of the form name(argument=value,...)|name|...") from error
    nodes: list[ast.expr] = []
    while isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        nodes.insert(0, node.right)
        node = node.left
    return [_parse_operation(each, policy) for each in [node, *nodes]]


def _parse_operation(node: ast.expr, policy: str) -> Operation:
    """Parses one op: `name`, `name(argument=value)` or `name(value)`."""
    call = node if isinstance(node, ast.Call) else None
    name = call.func if call else node
    if not isinstance(name, ast.Name):
        raise UserError(f"In the policy {policy!r}, {ast.unparse(node)!r} is not of the form name(argument=value,...).")
    if name.id == "choose":
        return _parse_choose(call, policy)
    if name.id not in ARGUMENTS:
        near = suggest(name.id, [*ARGUMENTS, "choose"])
        raise UserError(f"In the policy {policy!r} there is no operation {name.id!r}{near}.")
    known = list(ARGUMENTS[name.id])
    arguments: dict[str, float | str] = {}
    if call and len(call.args) > len(known):
        raise UserError(f"In the policy {policy!r}, {name.id} takes {', '.join(known)}, not {len(call.args)} values.")
    given = [ast.keyword(arg, value) for arg, value in zip(known, call.args)] + call.keywords if call else []
    for keyword in given:
        if keyword.arg not in known:
            near = suggest(str(keyword.arg), known)
            raise UserError(f"In the policy {policy!r}, {name.id} has no argument {keyword.arg!r}{near}.")
        if keyword.arg in arguments:
            raise UserError(f"In the policy {policy!r}, {name.id} has the argument {keyword.arg} twice.")
        arguments[keyword.arg] = _parse_value(keyword, name.id, policy)
    if "low" in known:
        low, high = (float(arguments.get(each, ARGUMENTS[name.id][each])) for each in ("low", "high"))
        if low > high:
            raise UserError(f"In the policy {policy!r}, {name.id}'s low, {low}, is above its high, {high}.")
    return Operation(name.id, arguments)


def _parse_choose(call: ast.Call | None, policy: str) -> Operation:
    choices = tuple(_parse_operation(each, policy) for each in call.args) if call and not call.keywords else ()
    if len(choices) < 2 or not all(choice.name in MIX_OPS for choice in choices):
        raise UserError(f"In the policy {policy!r}, choose(...) takes two or more of {', '.join(MIX_OPS)}.")
    return Operation("choose", {}, choices)


def _parse_value(keyword: ast.keyword, name: str, policy: str) -> float | str:
    given = ast.unparse(keyword.value)
    if keyword.arg in STRING_VALUES:
        words = STRING_VALUES[keyword.arg]
        if given not in words:
            raise UserError(f"In the policy {policy!r}, {name}'s {keyword.arg} is {given}{suggest(given, words)}.")
        return given
    low, high = BOUNDS[str(keyword.arg)]
    try:
        value = ast.literal_eval(keyword.value)
    except (ValueError, TypeError):
        value = None
    if keyword.arg in INTEGER_ARGUMENTS and isinstance(value, float) and not value.is_integer():
        raise UserError(f"In the policy {policy!r}, {name}'s {keyword.arg} is {given}; it must be a whole number.")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise UserError(f"In the policy {policy!r}, {name}'s {keyword.arg} is {given}; it must be {low} to {high}.")
    return float(value)
