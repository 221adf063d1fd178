"""Tests of scripts/soup.py."""

import pathlib

import pytest

from tests.evaluation import factories
from tests.scripts import run_script


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("soup")
    factories.runs_to_average(folder, "ab")
    return folder


def test_soup_program_prints_accuracies_and_files(folder):
    done = run_script.run("soup.py", folder, "--workdir=a,b", "--data=faces", "--output=printed")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("a  ")
    assert lines[2] in [f"mean of {names}: 90.00 % on validation" for names in ("a, b", "b, a")]
    assert lines[-1] == f"wrote {pathlib.Path('printed') / 'best.json'}"


@pytest.mark.parametrize(
    ("workdirs", "message"),
    [("a,./a/", "a and ./a/ hold the same network. Name it once."), ("a", "--workdir must name two or more runs, ")],
)
def test_soup_program_rejects_less_than_two_networks(folder, workdirs, message):
    done = run_script.run("soup.py", folder, f"--workdir={workdirs}", "--data=faces", "--output=twice")
    assert done.returncode == 1
    assert done.stderr.startswith(f"soup.py: {message}")
    assert not (folder / "twice").exists()
