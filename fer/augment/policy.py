"""The augmentation of a run is one string, for example

    flip|affine(rotate=15,scale=0.1)|randaugment(layers=2,magnitude=9)|erase(p=0.25)|choose(mixup(0.2),cutmix(1.0))

Operations stand in the order in which they apply, separated by "|". (Within randaugment and augmix it is geometry,
sharpness, tone.) What an operation may be told is the parameters of its function, by name or in their order. The
string is parsed strictly, before a run starts, and recorded with it.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
from collections.abc import Callable

import tensorflow as tf

from fer.augment import augmix, erasing, mixing, operations, randaugment
from fer.augment.draws import Draws
from fer.config import nearest
from fer.errors import UserError

# (draws, side, **arguments) -> Change
SINGLE = {
    "flip": operations.flip,
    "affine": operations.affine,
    "crop": operations.crop,
    "brightness": operations.brightness,
    "contrast": operations.contrast,
    "gamma": operations.gamma,
    "solarize": operations.solarize,
    "posterize": operations.posterize,
    "invert": operations.invert,
    "autocontrast": operations.autocontrast,
    "equalize": operations.equalize,
    "sharpen": operations.sharpen,
    "blur": operations.blur,
    "randaugment": operations.randomly,
}
COVERING = {"erase": erasing.erase}  # (images, draws, **arguments) -> images
COPYING = {"augmix": augmix.augmix}  # (images, draws, **arguments, xla) -> images
MIXING = {"mixup": mixing.mixup, "cutmix": mixing.cutmix}  # (images, draws, **arguments) -> what each pixel keeps
KNOWN = {**SINGLE, **COVERING, **COPYING, **MIXING}

# Bounds beyond which an argument cannot be meant, by its name.
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
    "alpha": (0.05, 100),  # below, float32 cannot hold the gammas that a share is drawn with
    "severity": (0.1, 10),
    "width": (1, 8),
}
WHOLE = ("to", "bits", "layers", "width")
WORDS = {"preset": tuple(randaugment.SETS)}

KERAS_CV = ("flip", "randaugment", "mixup", "cutmix")  # what KerasCV has of these, by the same definition or nearly

# (images uint8 [B, H, W, 1], targets float32 [B, 7], draws) -> the same, changed
Augmenter = Callable[[tf.Tensor, tf.Tensor, Draws], "tuple[tf.Tensor, tf.Tensor]"]


@dataclasses.dataclass(frozen=True)
class Operation:
    """One operation of a policy, told what to do; `choices` are those of choose(...)."""

    name: str
    arguments: dict[str, float | str]
    choices: tuple[Operation, ...] = ()

    @property
    def mixes(self) -> bool:
        return self.name in MIXING or bool(self.choices)


def parse(policy: str, engine: str = "fused") -> list[Operation]:
    """The operations of a policy in their order; "none" has none.

    Args:
      policy: see the head of this file.
      engine: one of `fer.config.ENGINES`, which is to carry it out.

    Raises:
      UserError: an unknown operation or argument (the message names the nearest), a value out of bounds, or an
        operation that the engine lacks.
    """
    operations = _operations(policy)
    _check_crops(operations, policy)
    for each in operations if engine == "keras_cv" else ():
        if each.name not in KERAS_CV or each.arguments.get("preset", "paper") != "paper":
            lacks = each.name if each.name not in KERAS_CV else f"{each.name}'s preset {each.arguments['preset']}"
            raise UserError(
                f"The policy {policy!r} names {lacks}, which the engine keras_cv lacks: it has {', '.join(KERAS_CV)}. "
                'Leave it out, or set config.augment.engine to "fused".'
            )
    return operations


def _check_crops(operations: list[Operation], policy: str) -> None:
    """Raises a UserError where a crop would be larger than what is left of the image."""
    default = inspect.signature(SINGLE["crop"]).parameters["to"].default
    sides = [int(each.arguments.get("to", default)) for each in operations if each.name == "crop"]
    for before, after in zip(sides, sides[1:]):
        if after > before:
            raise UserError(f"In the policy {policy!r}, crop({after}) comes after crop({before}), which leaves less.")


def _operations(policy: str) -> list[Operation]:
    if policy.strip() == "none":
        return []
    try:
        node = ast.parse(policy.strip(), mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise UserError(f"The policy {policy!r} is not of the form name(argument=value,...)|name|...") from error
    nodes: list[ast.expr] = []
    while isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        nodes.insert(0, node.right)
        node = node.left
    return [_operation(each, policy) for each in [node, *nodes]]


def augmenter(policy: str, mix: bool = True, xla: bool = False, engine: str = "fused") -> Augmenter:
    """The function that a policy describes, pure in images, targets and draws.

    Operations that change images one by one, and follow each other in this order, are one warp, one smoothing and one
    table.

    Args:
      policy: see the head of this file.
      mix: False leaves out mixup and cutmix, as at the end of a run.
      xla: for callers under `jit_compile`; see `device`.
      engine: one of `fer.config.ENGINES`.

    Raises:
      UserError: see `parse`.
    """
    numbered = [(salt, each) for salt, each in enumerate(parse(policy, engine)) if mix or not each.mixes]
    if engine == "keras_cv":
        from fer.augment import keras_cv_engine  # importing KerasCV takes seconds, which other runs need not spend

        return keras_cv_engine.augmenter([(each.name, each.arguments) for _, each in numbered])
    stages = [(kind, list(members)) for kind, members in itertools.groupby(numbered, lambda pair: _kind(pair[1]))]

    def augment(images: tf.Tensor, targets: tf.Tensor, draws: Draws) -> tuple[tf.Tensor, tf.Tensor]:
        for kind, members in stages:
            if kind == "single":
                changes, side = [], images.shape[1]
                for salt, each in members:
                    changes.append(SINGLE[each.name](draws.salted(salt), side, **each.arguments))
                    side = changes[-1].side or side
                images = operations.apply(images, changes, xla)
                continue
            for salt, each in members:
                if kind == "covering":
                    images = COVERING[each.name](images, draws.salted(salt), **each.arguments)
                elif kind == "copying":
                    images = COPYING[each.name](images, draws.salted(salt), **each.arguments, xla=xla)
                else:
                    images, targets = mixing.mix(images, targets, _keep(each, images, draws.salted(salt)))
        return images, targets

    return augment


def _kind(operation: Operation) -> str:
    kinds = {"single": SINGLE, "covering": COVERING, "copying": COPYING}
    return next((kind for kind, members in kinds.items() if operation.name in members), "mixing")


def _keep(operation: Operation, images: tf.Tensor, draws: Draws) -> tf.Tensor:
    """What each pixel keeps of itself, see `mixing.mix`; of choose(...), each image draws one."""
    if not operation.choices:
        return MIXING[operation.name](images, draws, **operation.arguments)
    keeps = [_keep(choice, images, draws.salted(number)) for number, choice in enumerate(operation.choices)]
    chosen = tf.floor(draws.uniform(1)[:, 0] * len(keeps))
    keep = keeps[0]
    for number, other in enumerate(keeps[1:], start=1):
        keep = tf.where(tf.equal(chosen, float(number))[:, tf.newaxis, tf.newaxis, tf.newaxis], other, keep)
    return keep


def _operation(node: ast.expr, policy: str) -> Operation:
    """One operation from `name`, `name(argument=value)` or `name(value)`."""
    call = node if isinstance(node, ast.Call) else None
    name = call.func if call else node
    if not isinstance(name, ast.Name):
        raise UserError(f"In the policy {policy!r}, {ast.unparse(node)!r} is not of the form name(argument=value,...).")
    if name.id == "choose":
        return _choose(call, policy)
    if name.id not in KNOWN:
        near = nearest(name.id, [*KNOWN, "choose"])
        raise UserError(f"In the policy {policy!r} there is no operation {name.id!r}{near}.")
    parameters = inspect.signature(KNOWN[name.id]).parameters
    known = [name for name in list(parameters)[2:] if name != "xla"]  # after draws and side, or images and draws
    arguments: dict[str, float | str] = {}
    if call and len(call.args) > len(known):
        raise UserError(f"In the policy {policy!r}, {name.id} takes {', '.join(known)}, not {len(call.args)} values.")
    given = [ast.keyword(arg, value) for arg, value in zip(known, call.args)] + call.keywords if call else []
    for keyword in given:
        if keyword.arg not in known:
            near = nearest(str(keyword.arg), known)
            raise UserError(f"In the policy {policy!r}, {name.id} has no argument {keyword.arg!r}{near}.")
        if keyword.arg in arguments:
            raise UserError(f"In the policy {policy!r}, {name.id} is told {keyword.arg} twice.")
        arguments[keyword.arg] = _value(keyword, name.id, policy)
    if "low" in known:
        low, high = (arguments.get(each, parameters[each].default) for each in ("low", "high"))
        if low > high:
            raise UserError(f"In the policy {policy!r}, {name.id}'s low, {low}, is above its high, {high}.")
    return Operation(name.id, arguments)


def _choose(call: ast.Call | None, policy: str) -> Operation:
    choices = tuple(_operation(each, policy) for each in call.args) if call and not call.keywords else ()
    if len(choices) < 2 or not all(choice.name in MIXING for choice in choices):
        raise UserError(f"In the policy {policy!r}, choose(...) takes two or more of {', '.join(MIXING)}.")
    return Operation("choose", {}, choices)


def _value(keyword: ast.keyword, name: str, policy: str) -> float | str:
    given = ast.unparse(keyword.value)
    if keyword.arg in WORDS:
        words = WORDS[keyword.arg]
        if given not in words:
            raise UserError(f"In the policy {policy!r}, {name}'s {keyword.arg} is {given}{nearest(given, words)}.")
        return given
    low, high = BOUNDS[keyword.arg]
    try:
        value = ast.literal_eval(keyword.value)
    except (ValueError, TypeError):
        value = None
    if keyword.arg in WHOLE and isinstance(value, float) and not value.is_integer():
        raise UserError(f"In the policy {policy!r}, {name}'s {keyword.arg} is {given}; it must be a whole number.")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise UserError(f"In the policy {policy!r}, {name}'s {keyword.arg} is {given}; it must be {low} to {high}.")
    return float(value)
