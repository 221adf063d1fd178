"""scripts/export.py, run as a user runs it, and what the other programs do with what it wrote."""

import csv
import json
import pathlib

import numpy as np
import pytest

from fer.evaluation import inference, run
from fer.labels import CLASSES
from tests.evaluation import made
from tests.scripts import program

COUNT = 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    """A run, and the shards where the program looks for them: in tfrecords/, by the name of the run's data."""
    folder = tmp_path_factory.mktemp("export")
    made.run(folder / "run")
    (folder / "tfrecords").mkdir()
    # Labels that the run gets wrong: rounding then cannot lose accuracy, wherever this is computed.
    said = inference.predict([run.open_run(str(folder / "run")).model], made.images(COUNT)).probabilities.argmax(axis=1)
    made.shards(folder / "tfrecords" / "faces", {"validation": (made.images(COUNT), (said + 1) % 7)})
    rows = [" ".join(map(str, face.ravel())) for face in made.images(COUNT)]
    (folder / "test.csv").write_text("\n".join(["pixels", *rows]))
    return folder


def test_an_export_is_compared_printed_and_written_and_then_predicts_and_is_evaluated(folder):
    wanted = ("--format=tflite", "--precision=float16", "--output=exports")
    done = program.run("export.py", folder, "--workdir=run", *wanted)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # nothing of what the converter says
    lines = done.stdout.splitlines()[-4:]  # on a slow machine, lines of progress come before
    assert [line.split()[0] for line in lines[:2]] == ["the", "float16.tflite"]
    assert lines[2:] == ["wrote exports/float16.tflite", "wrote exports/export.json"]

    done = program.run("predict.py", folder, "--workdir=exports", "--input=test.csv", "--output=predictions.csv")
    assert done.returncode == 0, done.stderr
    with (folder / "predictions.csv").open(newline="") as file:
        found = np.array([[float(line[name]) for name in CLASSES] for line in csv.DictReader(file)])
    expected = inference.predict([run.open_run(str(folder / "run")).model], made.images(COUNT)).probabilities
    np.testing.assert_allclose(found, expected, atol=2e-3)

    done = program.run("evaluate.py", folder, "--workdir=exports/float16.tflite", "--data=tfrecords/faces")
    assert done.returncode == 0, done.stderr
    assert "tflite float16" in done.stdout
    member = json.loads((folder / "exports" / "float16-results" / "eval.json").read_text())["protocol"]["members"][0]
    assert (member["export"]["format"], member["export"]["precision"]) == ("tflite", "float16")


def test_a_bundle_is_written_with_its_card(folder):
    done = program.run("export.py", folder, "--workdir=run", "--format=bundle", "--output=weights")
    assert done.returncode == 0, done.stderr
    written = [line.partition("wrote ")[2] for line in done.stdout.splitlines() if line.startswith("wrote ")]
    names = ["weights.npz", "config.json", "eval.json", "MODEL_CARD.md", "best.json"]
    assert written == [f"weights/{name}" for name in names]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--format=onnx", "--precision=int8"], "--format=onnx has no --precision=int8: it has float32."),
        (
            ["--format=onnx", "--output=run/best.json/out"],
            "Cannot write run/best.json/out/export.json: {folder}/run/best.json is a file. Choose another folder.",
        ),
        (
            ["--format=bundle", "--output=run/best.json/out"],
            "Cannot write run/best.json/out/best.json: {folder}/run/best.json is a file. Choose another folder.",
        ),
    ],
    ids=["no such precision", "no place", "no place for a bundle"],
)
def test_a_mistake_gets_one_sentence_exit_code_1_and_no_output(folder, arguments, said):
    done = program.run("export.py", folder, "--output=out", "--workdir=run", *arguments)
    assert done.returncode == 1
    assert done.stderr == f"export.py: {said.format(folder=folder)}\n"
    assert not (folder / "out").exists()
