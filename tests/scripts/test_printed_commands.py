"""Pastes the commands that the programs print into a shell, in a folder with a blank and quotes in its name."""

from __future__ import annotations

import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from fer import errors
from tests.scripts import run_script

NAME = """it's a "new" folder"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> pathlib.Path:
    """Returns the folder, which is the current one."""
    (tmp_path / NAME).mkdir()
    monkeypatch.chdir(tmp_path / NAME)
    return tmp_path / NAME


def paste(command: str, folder: pathlib.Path) -> subprocess.CompletedProcess:
    return subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("program", ["convert", "sweep"])
def test_command_of_missing_flags_prints_the_help(folder, program):
    failed = paste(errors.command_line(program), folder)
    assert failed.returncode == 1
    (command,) = re.findall(r"missing: see (.+ --help)\.", failed.stderr)
    shown = paste(command, folder)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert f"Flags of {program}.py:" in shown.stdout


def test_install_command_starts_the_python_of_this_process(folder, monkeypatch):
    link = folder / "python of mine"
    link.symlink_to(sys.executable)
    monkeypatch.setattr(errors.sys, "executable", str(link))
    command = errors.install_command("mlflow")
    python, _, arguments = command.partition(" -m ")
    assert arguments.startswith("pip install ")
    assert paste(f"{python} --version", folder).stdout.startswith("Python 3.")


@pytest.mark.extended
def test_command_of_train_evaluates_the_run(folder, trained_run, synthetic_shards):
    """The run is complete, so train.py prints the command without training."""
    shutil.copytree(trained_run, folder / "my run")
    shutil.copytree(synthetic_shards.folder, folder / "my data")
    flags = [f"--config={trained_run.with_suffix('.py')}", "--data=my data", "--workdir=my run"]
    done = run_script.run("train.py", folder, *flags)
    assert done.returncode == 0, done.stderr
    evaluated = paste(done.stdout.splitlines()[-1], folder)
    assert evaluated.returncode == 0, evaluated.stderr
    assert (folder / "my run" / "eval.json").exists()
