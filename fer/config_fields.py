"""Fields of a configuration: default, meaning and limits of each, stated once, and the checks that follow from them."""

import dataclasses
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from fer.errors import UserError

MAX_NUMBER = 1_000_000_000  # largest number in a configuration; TensorFlow computes with 32 bits
QUOTES = "''"  # how an empty text is shown
Choices = Mapping[str, str] | Sequence[str]
AUTO = "auto"  # a value that a run replaces by the best of its devices

# Type of a field that is `auto` or of the type `Limits.kind`.
if TYPE_CHECKING:
    Auto: TypeAlias = Any
else:
    Auto = object  # ml_collections reads the flags of such a field as Python literals


@dataclasses.dataclass(frozen=True)
class Limits:
    """Meaning and valid values of a field.

    Attributes:
      doc: the meaning, as in `--help` and docs/training.md.
      choices: the valid texts, each with its explanation or "".
      gt, ge, lt, le: bounds of a number: greater than, greater or equal, less than, less or equal.
      zero: meaning of the value 0, which is valid besides the numbers within the bounds; "" if 0 is no exception.
      test: for rules that bounds cannot state: returns whether a value is valid.
      valid: the values that `test` accepts, for the error message.
      auto: for fields of the type `Auto`: the meaning of `auto`, which is valid besides the values of `kind`.
      kind: the type of such a field's other values, bool or int.
    """

    doc: str
    choices: Mapping[str, str]
    gt: float | None = None
    ge: float | None = None
    lt: float | None = None
    le: float | None = None
    zero: str = ""
    test: Callable[[Any], bool] | None = None
    valid: str = ""
    auto: str = ""
    kind: type | None = None

    def accept(self, value: Any) -> bool:
        """Returns whether a value of the right type is valid."""
        if self.auto and value == AUTO:
            return True
        if self.choices:
            return value in self.choices
        if self.test is not None:
            return self.test(value)
        if self.zero and value == 0:
            return True
        return (
            (self.gt is None or value > self.gt)
            and (self.ge is None or value >= self.ge)
            and (self.lt is None or value < self.lt)
            and (self.le is None or value <= self.le)
        )

    def describe(self) -> str:
        """Returns the valid values as text, such as "0 (off) or 1 to 20"; "" if every value is valid."""
        if self.choices:
            return " or ".join(choice or '""' for choice in self.choices)
        if self.test is not None:
            return self.valid
        if self.kind is bool:
            return f"{AUTO}, true or false"
        bounds = f"{AUTO} or " * bool(self.auto) + self.describe_bounds()
        return f"0 ({self.zero}) or {bounds}" if self.zero else bounds

    def describe_bounds(self) -> str:
        """Returns the bounds of a number as text, such as "above 0, at most 1"; "" if there are none."""
        if self.ge is not None and self.le is not None:
            return f"{self.ge} to {self.le}"
        low = f"above {self.gt}" if self.gt is not None else "" if self.ge is None else f"{self.ge} or more"
        high = f"below {self.lt}" if self.lt is not None else "" if self.le is None else f"at most {self.le}"
        return ", ".join(filter(None, (low, high)))

    def help(self, code: str = "") -> str:
        """Returns meaning, choices, range and meaning of 0 in one line; error messages alone state a lower bound.

        Args:
          code: written around each choice, such as a backtick in Markdown.
        """
        if self.choices:
            parts = [
                f"{code}{choice or QUOTES}{code}{f' ({text})' if text else ''}" for choice, text in self.choices.items()
            ]
            return f"{self.doc}: {', '.join(parts[:-1])} or {parts[-1]}"
        bounds = self.describe_bounds() if self.lt is not None or self.le is not None else ""
        zero = f"0: {self.zero}" if self.zero else ""
        auto = f"{code}{AUTO}{code}: {self.auto}" if self.auto else ""
        return "; ".join(filter(None, [self.doc, " or ".join(filter(None, [bounds, zero])), auto]))


def field(default: Any, doc: str, *, choices: Choices = (), **limits: Any) -> Any:
    """Returns a dataclass field with its meaning and limits.

    Args:
      default: its type is the type of the field.
      doc: the meaning.
      choices: valid texts, or valid texts with an explanation each.
      **limits: other attributes of `Limits`.
    """
    explained = choices if isinstance(choices, Mapping) else dict.fromkeys(choices, "")
    return dataclasses.field(default=default, metadata={"limits": Limits(doc, explained, **limits)})


def limits_by_path(kind: type, path: str = "") -> dict[str, Limits]:
    """Returns the limits of every field in a tree of dataclasses, by path ("train.epochs")."""
    hints, found = typing.get_type_hints(kind), {}
    for each in dataclasses.fields(kind):
        if dataclasses.is_dataclass(hints[each.name]):
            found.update(limits_by_path(hints[each.name], f"{path}{each.name}."))
        else:
            found[path + each.name] = each.metadata["limits"]
    return found


def check_fields(node: Any, path: str = "") -> None:
    """Checks type and limits of every field in a tree of dataclasses; an integer for a float becomes a float.

    Raises:
      UserError: a value is invalid; the message names the field, its value and the valid values.
    """
    hints = typing.get_type_hints(type(node))
    for each in dataclasses.fields(node):
        value, expected, where = getattr(node, each.name), hints[each.name], path + each.name
        if dataclasses.is_dataclass(expected):
            require(isinstance(value, expected), where, value, f"a fer.config.{expected.__name__}")  # type: ignore
            check_fields(value, f"{where}.")
            continue
        limits: Limits = each.metadata["limits"]
        if not (limits.auto and value == AUTO):
            _check_type(where, value, limits.kind or expected, AUTO if limits.auto else "")
        if expected is float:
            setattr(node, each.name, float(value))  # so that 1 and 1.0 have the same hash
        require(limits.accept(value), where, value, limits.describe())


def _check_type(where: str, value: Any, expected: type, auto: str) -> None:
    if expected is float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        require(number and abs(value) <= MAX_NUMBER, where, value, f"a finite number of at most {MAX_NUMBER:,}")
        return
    right = isinstance(value, expected) and (expected is bool or not isinstance(value, bool))
    require(right, where, value, f"{auto} or of type {expected.__name__}" if auto else f"of type {expected.__name__}")
    require(expected is not int or abs(value) < 2**31, where, value, "below 2**31")


def require(holds: bool, path: str, value: Any, valid: str) -> None:
    """Raises a UserError that names the field, its value and the valid values unless `holds`."""
    if not holds:
        raise UserError(f"config.{path} is {value!r}; it must be {valid}.")
