"""Tests of `fer.data.photo_overlap`: damaged and foreign files."""

import json
import os
import pathlib

import numpy as np
import pytest

from fer.data import photo_overlap
from fer.data.manifest import PHOTO_OVERLAP_FILE, Manifest, read_manifest
from fer.errors import UserError
from tests.evaluation import factories

OVERLAP = photo_overlap.PhotoOverlap(
    rows=np.array([3, 8]),
    train_rows=np.array([1, 1]),
    train_labels=np.array([6, 0], np.int32),
    correlations=np.array([0.91, 1.0], np.float32),
    examples=2,
)


@pytest.fixture
def data(tmp_path) -> Manifest:
    folder = factories.shards(tmp_path / "shards", {"validation": (factories.images(2), np.zeros(2, int))})
    manifest = read_manifest(folder)
    photo_overlap.write(manifest, {"validation": OVERLAP}, {"method": "by hand"})
    return manifest


def change(data: Manifest, key: str, value: object) -> pathlib.Path:
    """Replaces a value of photo_overlap.json, or of the columns of its split."""
    path = pathlib.Path(data.folder, PHOTO_OVERLAP_FILE)
    content = json.loads(path.read_text())
    (content if key in content else content["splits"]["validation"])[key] = value
    path.write_text(json.dumps(content))
    return path


def test_read_returns_what_was_written(data):
    found = photo_overlap.read(data)["validation"]
    assert found.rows.tolist() == [3, 8]
    assert found.train_labels.tolist() == [6, 0]
    np.testing.assert_allclose(found.correlations, [0.91, 1.0])


def test_read_without_file_is_none(data):
    os.remove(os.path.join(data.folder, PHOTO_OVERLAP_FILE))
    assert photo_overlap.read(data) is None


def test_read_rejects_overlap_of_another_conversion(data):
    change(data, "manifest_sha256", "0" * 64)
    with pytest.raises(UserError, match=r"photo_overlap.json was computed from another conversion .* again"):
        photo_overlap.read(data)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("splits", [1]),
        ("format_version", 2),
        ("rows", [1]),
        ("rows", "many"),
        ("train_labels", [0, 7]),
        ("train_labels", [0, -1]),
        ("train_rows", [2**70, 1]),
    ],
)
def test_read_rejects_damaged_file(data, key, value):
    change(data, key, value)
    with pytest.raises(UserError, match=r"photo_overlap.json is damaged or of another version .* again"):
        photo_overlap.read(data)


def test_read_rejects_file_that_is_no_json(data):
    pathlib.Path(data.folder, PHOTO_OVERLAP_FILE).write_text("{")
    with pytest.raises(UserError, match=r"photo_overlap.json"):
        photo_overlap.read(data)
