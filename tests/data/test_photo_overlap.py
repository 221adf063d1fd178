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
    ("key", "value", "fault"),
    [
        ("splits", [1], "'list' object"),
        ("splits", {"valid": {}}, "no split 'valid'"),
        ("format_version", 2, "format_version is 2, not 1"),
        ("examples", 3, "examples of validation is 3, not 2"),
        ("rows", [1], "different lengths"),
        ("rows", "no", "rows of validation has 'n'"),
        ("rows", [3.5, 8], "rows of validation has 3.5, which is no whole number"),
        ("rows", [True, 8], "rows of validation has True"),
        ("rows", [-3, 8], "rows of validation has -3"),
        ("rows", [3, 3], "do not ascend"),
        ("rows", None, "'NoneType' object"),
        ("train_labels", [0, 7], "train_labels of validation has 7, which is no whole number of 0 to 6"),
        ("train_labels", [2**40, 0], "train_labels of validation has 1099511627776"),
        ("train_rows", [2**70, 1], "train_rows of validation has 1180591620717411303424"),
        ("correlations", [None, 1.0], "correlations of validation"),
        ("correlations", [7, 0.9], "correlations of validation"),
    ],
)
def test_read_rejects_damaged_file(data, key, value, fault):
    change(data, key, value)
    with pytest.raises(UserError, match=r"photo_overlap.json is damaged or of another version .* again") as caught:
        photo_overlap.read(data)
    assert fault in str(caught.value)


@pytest.mark.parametrize("key", ["manifest_sha256", "splits", "rows", "correlations", "examples"])
def test_read_error_names_missing_key(data, key):
    path = change(data, key, None)
    content = json.loads(path.read_text())
    del (content if key in content else content["splits"]["validation"])[key]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=rf"photo_overlap.json is damaged: it has no '{key}'. Run .* again"):
        photo_overlap.read(data)


def test_read_rejects_file_that_is_no_json(data):
    pathlib.Path(data.folder, PHOTO_OVERLAP_FILE).write_text("{")
    with pytest.raises(UserError, match=r"photo_overlap.json is not valid JSON"):
        photo_overlap.read(data)
