"""Tests of scripts/photo_overlap.py."""

import json

import numpy as np

from fer.synthetic import synthetic
from tests.evaluation import factories
from tests.scripts import run_script


def test_photo_overlap_program_prints_shares_and_writes_rows(tmp_path):
    faces = synthetic.generate_faces(8, seed=0)[0][..., None]
    factories.shards(
        tmp_path / "shards", {"train": (faces[:5], np.arange(5)), "validation": (faces[3:, :, ::-1], np.arange(5))}
    )
    done = run_script.run("photo_overlap.py", tmp_path, "--data=shards")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-2:] == [
        "validation: 2 of 5 faces (40.0 %) share a photograph with a train face",
        "wrote shards/photo_overlap.json",
    ]
    written = json.loads((tmp_path / "shards" / "photo_overlap.json").read_text())["splits"]["validation"]
    assert (written["rows"], written["train_rows"]) == ([1000, 1001], [1003, 1004])


def test_photo_overlap_program_rejects_data_without_train_split(tmp_path):
    factories.shards(tmp_path / "shards", {"validation": (factories.images(3), np.arange(3))})
    done = run_script.run("photo_overlap.py", tmp_path, "--data=shards")
    assert done.returncode == 1
    assert done.stderr.startswith("photo_overlap.py: shards has no train split and another one to compare with it")
    assert not (tmp_path / "shards" / "photo_overlap.json").exists()
