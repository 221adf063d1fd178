"""What all programs share."""

import sys

import pytest

from fer import cli


@pytest.mark.parametrize(
    ("called", "expected"),
    [
        ("scripts/train.py", "python scripts/evaluate.py"),
        ("/usr/local/bin/fer-train", "fer-evaluate"),
    ],
)
def test_another_program_is_named_as_this_one_was_called(monkeypatch, called, expected):
    monkeypatch.setattr(sys, "argv", [called])
    assert cli.command("evaluate") == expected
