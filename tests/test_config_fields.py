"""Fields of a configuration: limits, their texts, and the checks that follow from them."""

import dataclasses

import pytest

from fer.config_fields import Auto, check_fields, field, limits_by_path
from fer.errors import UserError


@dataclasses.dataclass
class Inner:
    rate: float = field(0.5, "rate", gt=0, le=1)
    size: int = field(0, "size", ge=24, le=64, zero="automatic")
    kind: str = field("a", "kind", choices={"": "the usual one", "a": "", "b": "another"})
    name: str = field("x", "name", test=str.islower, valid="lower case")
    on: bool = field(False, "whether")
    fast: Auto = field("auto", "speed", kind=bool, auto="on GPUs")  # noqa: RUF009
    steps: Auto = field("auto", "steps", kind=int, ge=1, le=9, auto="9 on GPUs")  # noqa: RUF009


@dataclasses.dataclass
class Outer:
    count: int = field(1, "count", ge=1)
    inner: Inner = dataclasses.field(default_factory=Inner)


@pytest.mark.parametrize(
    ("name", "accepted", "rejected"),
    [
        ("rate", (1e-9, 1, 1.0), (0, 1.0001, -1.0)),
        ("size", (0, 24, 64), (23, 65, -1)),
        ("kind", ("", "a", "b"), ("c", "A")),
        ("name", ("abc",), ("", "Abc")),
        ("steps", ("auto", 1, 9), (0, 10)),
    ],
)
def test_check_fields_accepts_values_within_limits_only(name, accepted, rejected):
    for value in accepted:
        check_fields(Inner(**{name: value}))
    for value in rejected:
        with pytest.raises(UserError) as caught:
            check_fields(Outer(inner=Inner(**{name: value})))
        valid = limits_by_path(Outer)[f"inner.{name}"].describe()
        assert str(caught.value) == f"config.inner.{name} is {value!r}; it must be {valid}."


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("rate", "1", "a finite number"),
        ("rate", True, "a finite number"),
        ("size", 24.0, "type int"),
        ("on", 1, "bool"),
        ("on", "auto", "of type bool"),
        ("fast", 1, "auto or of type bool"),
        ("fast", "on", "auto or of type bool"),
        ("steps", True, "auto or of type int"),
        ("steps", "all", "auto or of type int"),
    ],
)
def test_check_fields_rejects_other_types(name, value, kind):
    with pytest.raises(UserError, match=rf"config\.{name} is .*{kind}"):
        check_fields(Inner(**{name: value}))


def test_check_fields_turns_integer_of_a_float_field_into_float():
    inner = Inner(rate=1)
    check_fields(inner)
    assert isinstance(inner.rate, float)


def test_limits_text_states_bounds_choices_and_zero():
    texts = {path: (limits.describe(), limits.help("`")) for path, limits in limits_by_path(Outer).items()}
    assert texts == {
        "count": ("1 or more", "count"),
        "inner.rate": ("above 0, at most 1", "rate; above 0, at most 1"),
        "inner.size": ("0 (automatic) or 24 to 64", "size; 24 to 64 or 0: automatic"),
        "inner.kind": ('"" or a or b', "kind: `''` (the usual one), `a` or `b` (another)"),
        "inner.name": ("lower case", "name"),
        "inner.on": ("", "whether"),
        "inner.fast": ("auto, true or false", "speed; `auto`: on GPUs"),
        "inner.steps": ("auto or 1 to 9", "steps; 1 to 9; `auto`: 9 on GPUs"),
    }
