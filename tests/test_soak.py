"""The soak test's detection of losses and leaks."""

import dataclasses
import re

import pytest

from tests import soak

STEADY = soak.Round(
    seconds=30.0,
    kept=[10, 25],
    weights="a",
    killed_weights="a",
    accuracy=0.5,
    memory_mib=900.0,
    open_files=20,
    threads=40,
)


def make_rounds(**changes) -> list[soak.Round]:
    """Returns ten rounds. Each change is a function from the number of a round to the value of a field."""
    found = []
    for number in range(10):
        values = {name: change(number) for name, change in changes.items()}
        found.append(dataclasses.replace(STEADY, **values))
    return found


def test_soak_accepts_warm_up_and_small_waves():
    assert soak.find_faults(make_rounds(memory_mib=lambda n: 400 + 500 * (n > 1) + 8 * (-1) ** n)) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"memory_mib": lambda n: 900 + 5.0 * n}, r"Memory grows by 5\.0 MiB a round"),
        ({"open_files": lambda n: 20 + n}, "There were 23 open files after round 4, and 29 at the end"),
        ({"threads": lambda n: 40 + (n == 9)}, "There were 40 threads after round 4, and 41 at the end"),
        ({"killed_weights": lambda n: "b" if n == 2 else "a"}, "Round 3 differs from round 1"),
        ({"accuracy": lambda n: 0.5 + (n == 5)}, "Round 6 differs from round 1"),
    ],
)
def test_soak_reports_leak_or_difference(changes, message):
    (found,) = soak.find_faults(make_rounds(**changes))
    assert re.match(message, found)


def test_soak_reports_too_few_rounds():
    assert soak.find_faults(make_rounds()[:4]) == ["4 rounds are too few to detect leaks: increase --minutes."]
