"""Registry of augmentation ops: an op is one function, and its decorator declares kind and bounds of the arguments.

    @register_op("gamma", kind="photometric", strength=(0, 1))
    def gamma(rng: BatchRng, side: int, strength: float = 0.3) -> LazyOp:

Parser, executor and error messages read the registry. Modules of ops load TensorFlow at its first use, not at import
(`fer.lazy_modules`), so that a program checks a policy before it loads TensorFlow.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

_Function = TypeVar("_Function", bound=Callable[..., Any])


class Kind(NamedTuple):
    """Interface of the functions of a kind of ops."""

    parameters: tuple[str, ...]  # before the arguments of a policy
    fields: tuple[str, ...] = ()  # those of FIELDS that the returned `LazyOp` has


FIELDS = ("matrices", "sharpness", "tables")  # of a `LazyOp`, in the order in which they are applied

# `rng` is a `BatchRng`, `side` that of the images in pixels, and `images` are [B, H, W, 1] uint8. Consecutive ops of
# kinds with fields are combined: one warp, one smoothing for each op and one look-up table.
KINDS = {
    "geometric": Kind(("rng", "side"), ("matrices",)),
    "filter": Kind(("rng", "side"), ("sharpness",)),
    "photometric": Kind(("rng", "side"), ("tables",)),
    "composite": Kind(("rng", "side"), FIELDS),
    "pixel": Kind(("images", "rng")),  # returns images, each a function of its own pixels
    "mix": Kind(("images", "rng")),  # returns the own weight of each pixel, see `mixup.mix`
}


class Argument(NamedTuple):
    """Argument of an op in a policy; with an int as the default only whole numbers are allowed."""

    default: float | str
    bounds: tuple[Any, ...]  # lowest and highest value, or all words


class Op(NamedTuple):
    """Registered op; see `register_op`."""

    kind: str
    function: Callable[..., Any]
    arguments: dict[str, Argument]  # in the order of the function's parameters
    ascending: tuple[str, ...]


OPS: dict[str, Op] = {}


def register_op(
    name: str, /, *, kind: str, ascending: tuple[str, ...] = (), **bounds: tuple[Any, ...]
) -> Callable[[_Function], _Function]:
    """Decorates the function of an op, which policies can then contain.

    Args:
      name: of the op in a policy.
      kind: a key of `KINDS`.
      ascending: arguments whose values must not descend in this order.
      bounds: of each parameter of the function after those of its kind: lowest and highest value, or the words that are
        allowed.

    Raises:
      ValueError: the name is taken, or the bounds are not those of the function's parameters with defaults.
    """

    def register(function: _Function) -> _Function:
        parameters = list(inspect.signature(function).parameters.values())
        expected = [*KINDS[kind].parameters, *bounds]
        if [each.name for each in parameters] != expected:
            raise ValueError(f"The function of the op {name} has other parameters than {', '.join(expected)}.")
        if name in OPS:
            raise ValueError(f"The op {name} is registered twice.")
        defaults = {each.name: each.default for each in parameters}
        arguments = {each: Argument(defaults[each], limits) for each, limits in bounds.items()}
        OPS[name] = Op(kind, function, arguments, ascending)
        return function

    return register
