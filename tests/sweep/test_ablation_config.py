"""Tests of configs/ablation.sh."""

import os
import subprocess

import pytest

pytest.importorskip("optuna", reason="sweeps are tested with the extra sweep (optuna)")

from configs import ablation
from fer.augment import policy
from fer.sweep import search_space

STUB = """#!/bin/sh
for argument in "$@"; do printf '%s\\n' "$argument"; done >> "$CALLS"
case "$*" in *"$FAILING"*) exit 3;; esac
"""


def run_with_stub(root, folder, failing: str) -> tuple[int, list[str]]:
    """Runs the script with a stub of python that fails if its arguments have `failing`.

    Returns the exit code of the script and the arguments of all calls of the stub.
    """
    (folder / "python").write_text(STUB)
    (folder / "python").chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "FAILING": failing}
    environment["CALLS"] = str(folder / "calls")
    code = subprocess.run(["bash", str(root / "configs" / "ablation.sh")], env=environment, check=False).returncode
    return code, (folder / "calls").read_text().splitlines()


def test_ablation_script_changes_are_valid_for_its_config(root, tmp_path):
    code, arguments = run_with_stub(root, tmp_path, failing="nothing")
    assert code == 0
    (text,) = {argument for argument in arguments if argument.startswith("--ablations=")}
    base = ablation.get_config()
    found = search_space.parse_changes(
        text.removeprefix("--ablations="), base, search_space.parse_grid("seed=0,1", base)
    )
    assert len(found) == 16  # the base among them
    for fields in found.values():
        policy.parse(search_space.apply_overrides(base, fields).augment.policy)


def test_ablation_script_stops_with_an_error_when_a_sweep_fails(root, tmp_path):
    code, arguments = run_with_stub(root, tmp_path, failing="fer2013-clean")
    assert code == 3
    assert not [argument for argument in arguments if argument.startswith("--ablations=")]
