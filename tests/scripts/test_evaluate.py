"""scripts/evaluate.py, run as a user runs it."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from tests.evaluation import made

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("evaluate")
    made.run(folder / "run")
    made.shards(folder / "faces", {"validation": (made.images(20), np.arange(20) % 7)})
    return folder


def evaluate(folder: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "scripts" / "evaluate.py"), "--data=faces", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_a_run_is_evaluated_into_its_own_folder_and_each_file_is_named(folder):
    done = evaluate(folder, "--workdir=run", "--split=validation")
    assert done.returncode == 0, done.stderr
    written = [line.partition("wrote ")[2] for line in done.stdout.splitlines() if line.startswith("wrote ")]
    assert {"run/eval.json", "run/predictions.npz", "run/confusion_matrix.png", "run/curves.png"} <= set(written)
    content = json.loads((folder / "run" / "eval.json").read_text())
    assert f"accuracy {100 * content['accuracy']:.2f} %" in done.stdout
    assert all((folder / path).stat().st_size for path in written)


def test_an_ensemble_with_test_time_augmentation_goes_where_it_is_told(folder):
    done = evaluate(folder, "--workdir=run,run", "--tta=flip", "--output=ensemble")
    assert done.returncode == 0, done.stderr
    protocol = json.loads((folder / "ensemble" / "eval.json").read_text())["protocol"]
    assert (len(protocol["members"]), protocol["tta"]) == (2, "flip")
    assert not (folder / "ensemble" / "curves.png").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--workdir=nowhere"], "There is no run folder nowhere"),
        (["--workdir=run", "--split=test", "--output=out"], "no split 'test'"),
        (["--workdir=run", "--tta=rotate"], "rotate"),
    ],
    ids=["no run", "no split", "unknown augmentation"],
)
def test_a_mistake_gets_one_sentence_exit_code_1_and_no_output(folder, arguments, said):
    done = evaluate(folder, *arguments)
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (folder / "out").exists()
