"""Tests of scripts/predict.py."""

import csv
import gzip
import io
import json
import os
import pathlib
import subprocess

import numpy as np
import pytest
from PIL import Image

import fer
from fer.evaluation import inference
from fer.labels import CLASSES
from fer.models import loading
from tests.demo.photo import make_photo
from tests.evaluation import factories
from tests.predict import clips
from tests.scripts import run_script

COUNT = 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("predict")
    factories.run(folder / "run")
    rows = [" ".join(map(str, face.ravel())) for face in factories.images(COUNT)]
    (folder / "test.csv.gz").write_bytes(gzip.compress("\n".join(["pixels", *rows]).encode()))
    (folder / "bad.csv").write_text("pixels\n" + rows[0] + "\n" + rows[1] + " 256\n")
    return folder


@pytest.fixture(scope="module")
def expected(folder) -> np.ndarray:
    return inference.predict([loading.open_run(str(folder / "run")).model], factories.images(COUNT)).probabilities


def predict(folder: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess:
    return run_script.run("predict.py", folder, "--workdir=run", *arguments)


def test_predict_of_compressed_csv_keeps_row_order(folder, expected):
    done = predict(folder, "--input=test.csv.gz", "--output=predictions.csv")
    assert done.returncode == 0, done.stderr
    assert "wrote predictions.csv" in done.stdout
    with (folder / "predictions.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["id"] for line in lines] == [str(row) for row in range(COUNT)]
    found = np.array([[float(line[name]) for name in CLASSES] for line in lines])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert [int(line["label"]) for line in lines] == expected.argmax(axis=1).tolist()


def test_output_that_is_standard_output_has_no_other_lines(folder, expected):
    done = predict(folder, "--input=test.csv.gz", "--output=/dev/stdout")
    assert done.returncode == 0, done.stderr
    lines = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [int(line["label"]) for line in lines] == expected.argmax(axis=1).tolist()
    assert "wrote /dev/stdout" in done.stderr


def test_predict_writes_submission_as_a_column_of_labels(folder, expected):
    done = predict(folder, "--input=test.csv.gz", "--kaggle", "--output=submission.csv")
    assert done.returncode == 0, done.stderr
    labels = map(str, expected.argmax(axis=1))
    assert (folder / "submission.csv").read_text().split() == ["emotion", *labels]


def test_predict_reports_a_table_that_cannot_be_read_as_a_submission(folder):
    (folder / "labels.csv").write_text("id,emotion\n1,3\n")
    done = predict(folder, "--input=labels.csv", "--kaggle", "--output=none.csv")
    assert done.returncode == 1
    assert "labels.csv" in done.stderr
    assert "pixels" in done.stderr
    assert not (folder / "none.csv").exists()


@pytest.mark.extended
def test_predict_averages_runs_and_mirrored_faces(folder):
    factories.run(folder / "other", seed=1)
    arguments = ["--workdir=run,other", "--tta=flip", "--input=test.csv.gz", "--output=ensemble.csv"]
    done = run_script.run("predict.py", folder, *arguments)
    assert done.returncode == 0, done.stderr
    faces = factories.images(COUNT)
    seen = [
        inference.predict([loading.open_run(str(folder / name)).model], images).probabilities
        for name in ("run", "other")
        for images in (faces, faces[:, :, ::-1])
    ]
    with (folder / "ensemble.csv").open(newline="") as file:
        found = np.array([[float(line[name]) for name in CLASSES] for line in csv.DictReader(file)])
    np.testing.assert_allclose(found, np.mean(seen, axis=0), atol=2e-6)


def test_bad_picture_ends_with_exit_code_1_after_the_others_are_predicted(folder):
    (folder / "pictures").mkdir()
    for number, face in enumerate(factories.images(3)):
        Image.fromarray(face[..., 0]).save(folder / "pictures" / f"{number}.png")
    (folder / "pictures" / "1.png").write_bytes(b"no picture")
    done = run_script.run("predict.py", folder, "--workdir=run", "--input=pictures", "--output=some.csv")
    assert done.returncode == 1
    assert [line.split(" (")[0] for line in done.stderr.splitlines()] == [
        "pictures/1.png is no picture that can be read",
        "predict.py: 1 picture could not be read",
    ]
    with (folder / "some.csv").open(newline="") as file:
        assert [line["id"] for line in csv.DictReader(file)] == ["0.png", "2.png"]


def test_predict_prints_faces_of_all_inputs_and_lists_unreadable_ones(folder):
    (folder / "mixed [1]").mkdir()
    for name in ("a b.png", "é.png", os.fsdecode(b"caf\xe9.png")):
        Image.fromarray(factories.images(1)[0, ..., 0]).save(folder / "mixed [1]" / name)
    (folder / "mixed [1]" / "bad.png").write_bytes(b"no picture")
    done = predict(folder, "mixed [1]", "nowhere.png", "mixed [1]/a b.png", "mixed*/é.*")
    title, classes = done.stdout.splitlines()[0].split(": ")
    assert (done.returncode, title) == (1, "mixed [1]/a b.png")
    assert done.stdout.splitlines() == [
        f"mixed [1]/{name}.png: {classes}" for name in ("a b", r"caf\udce9", "é", "a b", "é")
    ]
    assert [line.split(" (")[0] for line in done.stderr.splitlines()] == [
        "mixed [1]/bad.png is no picture that can be read",
        "There is no nowhere.png: check the name",
        "predict.py: 2 pictures could not be read",
    ]


def test_predict_prints_json_of_a_table(folder, expected):
    done = predict(folder, "test.csv.gz", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    rows = json.loads(done.stdout)
    assert [(each["path"], each["row"]) for each in rows] == [("test.csv.gz", row) for row in range(COUNT)]
    found = np.array([[each["faces"][0]["probabilities"][name] for name in CLASSES] for each in rows])
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--input=bad.csv"], "bad.csv, line 3"),
        (["--input=test.csv.gz", "--workdir=run,"], "it must name a path"),
        (["--input=test.csv.gz", "--workdir=nowhere"], "There is no run folder nowhere"),
        (["--input=test.csv.gz", "--output=run"], "Cannot write run: it is a folder."),
    ],
    ids=["bad row", "empty name", "no run", "output is a directory"],
)
def test_predict_reports_mistake_in_one_sentence_with_exit_code_1(folder, arguments, message):
    done = run_script.run("predict.py", folder, "--workdir=run", "--output=none.csv", *arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (folder / "none.csv").exists()


@pytest.mark.extended
def test_predict_of_a_video_writes_the_probabilities_of_its_pictures(folder):
    pytest.importorskip("cv2", reason="OpenCV is not installed: the extra photos brings it")
    frames = [np.roll(make_photo(), shift, axis=1) for shift in range(0, 60, 10)]
    clips.write_clip(folder / "clip.avi", frames, fps=2)
    done = predict(folder, "clip.avi", "--output=clip.csv", "--annotate=copy.mp4", "--every=1s")
    assert (done.returncode, done.stderr) == (0, "")
    first, *rest = done.stdout.splitlines()
    assert first.startswith("clip.avi: 3 of 6 frames analysed, 2.0 s, ")
    assert [line.split(":")[0] for line in rest[:2]] == ["track 1", "track 2"]
    assert rest[2:] == ["wrote copy.mp4", "wrote clip.csv", "wrote clip.png"]
    with (folder / "clip.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["frame"], line["track"]) for line in lines] == [(n, track) for n in "024" for track in "12"]
    expected = [face for frame in frames[::2] for face in fer.load(folder / "run").predict(frame)]
    for line, face in zip(lines, expected):
        assert (line["name"], line["left"]) == (face.name, str(face.box.left))
        found = [float(line[name]) for name in CLASSES]
        np.testing.assert_allclose(found, list(face.probabilities.values()), atol=1e-5)
    printed = predict(folder, "clip.avi", "--smooth=window:1s")
    assert [line.split(":")[0] for line in printed.stdout.splitlines()] == ["clip.avi", "track 1", "track 2"]
    assert not (folder / "clip-photos").exists()
    missing = predict(folder, "camera:99")
    assert missing.returncode == 1
    assert missing.stderr.count("\n") == 1
    assert "Camera 99 is missing or in use" in missing.stderr
