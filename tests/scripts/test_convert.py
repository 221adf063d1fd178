"""Tests of scripts/convert.py."""

import functools
import os
import pathlib
import subprocess
import sys

import pytest

from fer.data import manifest
from tests.convert import input_factories
from tests.scripts import run_script

IMAGES = input_factories.noise(30)


@pytest.fixture
def run(tmp_path: pathlib.Path):
    return functools.partial(run_script.run, "convert.py", tmp_path)


def test_convert_reports_and_verifies_its_output(run, tmp_path):
    input_factories.write_file(tmp_path / "faces.csv", input_factories.make_csv(IMAGES) + "junk\n")
    made = run("--input=faces.csv", "--output=out", "--on_bad_row=quarantine", "--preview", "--shards=2")
    assert (made.returncode, made.stderr) == (0, "")
    assert "Reading faces.csv: fer2013.csv (emotion,pixels,Usage)" in made.stdout
    assert "1 bad rows were set aside in out/rejects.csv: wrong number of fields 1\n" in made.stdout
    assert manifest.read_manifest(str(tmp_path / "out")).table() in made.stdout
    assert made.stdout.splitlines()[-1] == "Wrote 30 faces in 6 shards to out; audit: out/audit.html"
    assert {"preview.png", "class_balance.png", "audit.html"} <= set(os.listdir(tmp_path / "out"))
    verified = run("--verify=out")
    assert (verified.returncode, verified.stderr) == (0, "")
    assert verified.stdout.splitlines()[-1] == "out agrees with its manifest: 30 faces in 6 shards."


def test_convert_does_not_need_tensorflow(tmp_path, root):
    (tmp_path / "shadow").mkdir()
    (tmp_path / "shadow" / "tensorflow.py").write_text("raise SystemExit('tensorflow was imported')")
    input_factories.write_file(tmp_path / "faces.csv", input_factories.make_csv(IMAGES))
    command = [sys.executable, str(root / "scripts" / "convert.py"), "--input=faces.csv", "--output=out", "--preview"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "shadow"), *filter(None, sys.path)])}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert manifest.read_manifest(str(tmp_path / "out")).counts() == "30 faces in 3 shards"


def test_convert_reports_mistake_in_one_sentence_and_leaves_nothing(run, tmp_path):
    input_factories.write_file(
        tmp_path / "faces.csv", input_factories.make_csv(IMAGES).replace("PublicTest", "Publictset", 1)
    )
    failed = run("--input=faces.csv", "--output=out")
    assert failed.returncode == 1
    assert failed.stderr == (
        "convert.py: faces.csv, line 3, column Usage: 'Publictset' is not Training, PublicTest or PrivateTest. "
        "Correct the row, or set bad rows aside with --on_bad_row=quarantine.\n"
    )
    assert os.listdir(tmp_path) == ["faces.csv"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], f"--input and --output are missing: see {sys.executable} {run_script.ROOT}/scripts/convert.py --help."),
        (["--verify=nothing"], "nothing has no manifest.json"),
        (["--input=a", "--output=b", "--on_bad_row=ignore"], "should be one of <fail|quarantine>"),
    ],
)
def test_convert_reports_wrong_flags_in_one_sentence(run, arguments, sentence):
    failed = run(*arguments)
    assert failed.returncode == 1
    assert sentence in failed.stderr
    assert "Traceback" not in failed.stderr
