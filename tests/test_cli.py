"""What all programs share."""

import sys

import pytest

from fer import cli
from fer.errors import UserError


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


@pytest.mark.parametrize("given", [["--config=compact"], ["--config", "compact"], ["-config", "compact"]])
def test_a_configuration_that_ships_is_known_by_its_bare_name(root, given):
    found = cli.with_paths(["train.py", *given, "--workdir", "compact"])
    assert "=".join(found[1 : 1 + len(given)]).endswith(f"config={root}/configs/compact.py")
    assert found[-2:] == ["--workdir", "compact"]


@pytest.mark.parametrize("given", [["--config=compac"], ["--config", "compac"]])
def test_a_bare_name_that_no_configuration_has_is_named_with_its_nearest(given):
    with pytest.raises(UserError, match="There is no configuration 'compac'; the nearest is compact"):
        cli.with_paths(["train.py", *given])


@pytest.mark.parametrize("given", [["--config=my/compact.py"], ["--config", "my/compact.py"], ["--config", "--debug"]])
def test_what_is_no_bare_name_stays_as_it_is(given):
    assert cli.with_paths(["train.py", *given]) == ["train.py", *given]
