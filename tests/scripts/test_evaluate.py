"""Tests of scripts/evaluate.py."""

import dataclasses
import json
import pathlib
import shutil
import subprocess

import numpy as np
import pytest

from fer.config import Model
from fer.labels import CLASSES
from tests.evaluation import factories
from tests.scripts import run_script


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("evaluate")
    factories.run(folder / "run")
    factories.shards(folder / "faces", {"validation": (factories.images(20), np.arange(20) % 7)})
    return folder


def evaluate(folder: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess:
    return run_script.run("evaluate.py", folder, "--data=faces", *arguments)


def test_evaluate_writes_into_the_run_and_names_each_file(evaluated_run):
    lines = run_script.printed(evaluated_run).splitlines()
    written = {line.partition("wrote ")[2] for line in lines if line.startswith("wrote ")}
    names = ("eval.json", "predictions.npz", "confusion_matrix.png", "curves.png")
    assert {str(evaluated_run / name) for name in names} <= written
    content = json.loads((evaluated_run / "eval.json").read_text())
    assert f"accuracy {100 * content['accuracy']:.2f} %" in "\n".join(lines)
    assert all(pathlib.Path(path).stat().st_size for path in written)


@pytest.mark.extended
def test_evaluate_writes_ensemble_with_tta_to_output_flag(folder):
    factories.run(folder / "second", seed=1)
    done = evaluate(folder, "--workdir=run,second", "--tta=flip", "--output=ensemble")
    assert done.returncode == 0, done.stderr
    protocol = json.loads((folder / "ensemble" / "eval.json").read_text())["protocol"]
    assert (len(protocol["members"]), protocol["tta"]) == (2, "flip")
    assert not (folder / "ensemble" / "curves.png").exists()


@pytest.fixture(scope="module")
def wrong(folder) -> pathlib.Path:
    """Adds runs and shards with faults to the directory."""
    shutil.copytree(folder / "run", folder / "untrained")
    (folder / "untrained" / "best.json").unlink()
    shutil.copytree(folder / "run", folder / "other")
    other = dataclasses.replace(factories.EXPERIMENT, model=Model(name="compact_s", image_size=24))
    change(folder / "other" / "config.json", config=other.to_dict(), config_sha256=other.sha256())
    shutil.copytree(folder / "faces", folder / "reordered")
    change(folder / "reordered" / "manifest.json", classes=list(CLASSES[::-1]))
    factories.shards(folder / "empty", {"validation": (factories.images(0), np.zeros(0, int))})
    return folder


def change(path: pathlib.Path, **values) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workdir="], "flag --workdir=[]: it must name a path"),
        (["--workdir=nowhere"], "There is no run folder nowhere"),
        (["--workdir=run", "--split=test"], "no split 'test'"),
        (["--workdir=run", "--tta=rotate"], "rotate"),
        (["--workdir=untrained"], "untrained holds no best.json: train first"),
        pytest.param(["--workdir=other"], "another architecture", marks=pytest.mark.extended),
        (["--workdir=run", "--data=reordered"], "reordered/manifest.json is damaged (ValueError: the class_counts of"),
        (["--workdir=run", "--data=empty"], "has 0 examples"),
        (["--workdir=nowhere", "--output=run/best.json/out"], "run/best.json is a file. Choose another folder."),
        (["--workdir=run", "--output=other"], "--output=other is the directory of another run"),
    ],
    ids=[
        "empty name",
        "no run",
        "no split",
        "unknown augmentation",
        "no checkpoint",
        "architecture",
        "order",
        "0 examples",
        "output below a file",
        "output is another run",
    ],
)
def test_evaluate_reports_mistake_in_one_sentence_with_exit_code_1(wrong, arguments, message):
    folder = wrong
    done = evaluate(folder, "--output=out", *arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (folder / "out").exists()
