"""Tests of scripts/export.py."""

import csv
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from fer.convert.readers import image_reader
from fer.evaluation import inference
from fer.labels import CLASSES
from fer.models import loading
from tests.scripts import run_script


@pytest.fixture
def folder(export_folder) -> pathlib.Path:
    return export_folder


def test_exports_are_compared_printed_and_written(folder):
    """The script finds the shards in tfrecords/ by the name of the run's data."""
    names = ["float32.tflite", "float16.tflite", "int8.tflite"]
    lines = (folder / "printed").read_text().splitlines()[-9:]  # on a slow machine, lines of progress come before
    assert [line.split()[0] for line in lines[:4]] == ["run,", *names]
    assert "83.33 %" in lines[0]
    assert lines[4:] == [f"wrote exports/{name}" for name in [*names, "example_tflite.py", "export.json"]]


@pytest.mark.extended
@pytest.mark.parametrize(
    "name",
    [
        "model.onnx",
        "float32.tflite",
        pytest.param("int8.tflite", marks=pytest.mark.extended),
        pytest.param("saved_model", marks=pytest.mark.extended),
    ],
)
def test_example_computes_probabilities_without_this_package(folder, tmp_path, name):
    if not (folder / "exports" / name).exists():
        pytest.skip("tf2onnx is not installed: the extra export brings it")
    pixels = np.random.default_rng(0).integers(0, 256, [12, 15, 3], dtype=np.uint8)
    Image.fromarray(pixels).resize((150, 120), Image.Resampling.BILINEAR).save(tmp_path / "face.png")
    kind = {".onnx": "onnx", ".tflite": "tflite", "": "saved_model"}[pathlib.PurePath(name).suffix]
    example = folder / "exports" / f"example_{kind}.py"
    without_fer = "import runpy, sys; sys.modules['fer'] = None; runpy.run_path(sys.argv.pop(1), run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", without_fer, str(example), str(folder / "exports" / name), "face.png"],
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    printed = dict(line.split(": ") for line in done.stdout.splitlines())
    face, _ = image_reader.read_face((tmp_path / "face.png").read_bytes())
    network = loading.open_run(str(folder / "exports" / name)).model
    expected = inference.predict([network], face[np.newaxis, ..., np.newaxis]).probabilities[0]
    assert list(printed) == list(CLASSES)
    tolerance = 0.02 if "int8" in name else 1e-4  # the interpreter's int8 kernels differ with the number of faces
    np.testing.assert_allclose([float(value) for value in printed.values()], expected, atol=tolerance)


def test_predict_reads_an_export(folder, tmp_path):
    rows = [" ".join(map(str, face.ravel())) for face in np.load(folder / "faces.npy")]
    (tmp_path / "test.csv").write_text("\n".join(["pixels", *rows]))
    arguments = ("--workdir=exports/float16.tflite", f"--input={tmp_path}/test.csv", f"--output={tmp_path}/found.csv")
    done = run_script.run("predict.py", folder, *arguments)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "found.csv").open(newline="") as file:
        found = np.array([[float(line[name]) for name in CLASSES] for line in csv.DictReader(file)])
    faces = np.load(folder / "faces.npy")
    expected = inference.predict([loading.open_run(str(folder / "run")).model], faces).probabilities
    np.testing.assert_allclose(found, expected, atol=2e-3)


@pytest.mark.extended
def test_evaluate_of_an_export_writes_beside_it(folder, tmp_path):
    shutil.copytree(folder / "exports", tmp_path / "exports")
    done = run_script.run(
        "evaluate.py", tmp_path, "--workdir=exports/float16.tflite", f"--data={folder}/tfrecords/faces"
    )
    assert done.returncode == 0, done.stderr
    assert "tflite float16" in done.stdout
    results = tmp_path / "exports" / "float16-results"
    member = json.loads((results / "eval.json").read_text())["protocol"]["members"][0]
    assert (member["export"]["format"], member["export"]["precision"]) == ("tflite", "float16")


@pytest.mark.extended
def test_export_writes_bundle_with_model_card(folder, tmp_path):
    done = run_script.run("export.py", folder, "--workdir=run", "--format=bundle", f"--output={tmp_path}/weights")
    assert done.returncode == 0, done.stderr
    written = [line.partition("wrote ")[2] for line in done.stdout.splitlines() if line.startswith("wrote ")]
    names = ["weights.npz", "graph.pb", "config.json", "eval.json", "MODEL_CARD.md", "best.json"]
    assert written == [f"{tmp_path}/weights/{name}" for name in names]
    assert {path.name for path in (tmp_path / "weights").iterdir()} == set(names)


@pytest.mark.parametrize(
    ("arguments", "message"),
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
    ids=["unknown precision", "output below a file", "bundle below a file"],
)
def test_export_reports_mistake_in_one_sentence_with_exit_code_1(folder, arguments, message):
    done = run_script.run("export.py", folder, "--output=out", "--workdir=run", *arguments)
    assert done.returncode == 1
    assert done.stderr == f"export.py: {message.format(folder=folder)}\n"
    assert not (folder / "out").exists()
