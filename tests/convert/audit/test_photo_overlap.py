"""Tests of `fer.convert.audit.photo_overlap` on small shards."""

import json
import os

import numpy as np
import pytest

from fer.convert.audit import photo_matching, photo_overlap
from fer.data import manifest
from fer.data.photo_overlap import read
from fer.errors import UserError
from fer.synthetic import synthetic
from tests.evaluation import factories

FACES = synthetic.generate_faces(24, seed=3)[0][..., None]


@pytest.fixture
def shards(tmp_path) -> str:
    """Writes 14 train faces, of which 2 recur in validation shifted and 1 in test mirrored, and a blank face in both.

    `factories.shards` numbers the rows of each split from 1000.
    """
    train = np.concatenate([FACES[:14], np.zeros((1, 48, 48, 1), np.uint8)])
    shifted = np.roll(FACES[[5, 2]], 3, axis=2)
    validation = np.concatenate([FACES[14:17], shifted[:1], train[14:], FACES[17:20], shifted[1:]])
    test = np.concatenate([FACES[20:23], FACES[[9], :, ::-1]])
    splits = {"train": train, "validation": validation, "test": test}
    return factories.shards(
        tmp_path / "shards", {name: (faces, np.arange(len(faces)) % 7) for name, faces in splits.items()}
    )


def test_find_photo_overlap_lists_rows_of_both_faces(shards):
    counts: list[tuple[int, int]] = []
    found = photo_overlap.find_photo_overlap(shards, lambda count, total: counts.append((count, total)))
    assert {name: overlap.rows.tolist() for name, overlap in found.items()} == {
        "validation": [1003, 1008],
        "test": [1003],
    }
    assert found["validation"].train_rows.tolist() == [1005, 1002]
    assert found["validation"].train_labels.tolist() == [5, 2]
    assert found["test"].train_rows.tolist() == [1009]
    assert counts == [(8, 12), (4, 12)]  # without the blank face


def test_find_photo_overlap_writes_a_file_that_read_returns(shards):
    assert read(manifest.read_manifest(shards)) is None
    written = photo_overlap.find_photo_overlap(shards)
    restored = read(manifest.read_manifest(shards))
    assert set(restored) == {"validation", "test"}
    for name, overlap in written.items():
        np.testing.assert_array_equal(restored[name].rows, overlap.rows)
        np.testing.assert_array_equal(restored[name].train_labels, overlap.train_labels)
        np.testing.assert_allclose(restored[name].correlations, overlap.correlations, atol=1e-4)
    content = json.loads((open(os.path.join(shards, manifest.PHOTO_OVERLAP_FILE))).read())
    assert content["threshold"] == photo_matching.THRESHOLD


def test_find_photo_overlap_names_the_first_of_identical_train_faces(tmp_path, monkeypatch):
    splits = {"train": (FACES[[0, 1, 2, 1, 2]], np.arange(5)), "validation": (FACES[[2, 1]], np.arange(2))}
    shards = factories.shards(tmp_path / "shards", splits)
    last = photo_matching.Matches(np.array([4, 3]), np.ones(2, np.float32))
    monkeypatch.setattr(photo_matching, "find_matches", lambda *arguments: last)
    assert photo_overlap.find_photo_overlap(shards)["validation"].train_rows.tolist() == [1002, 1001]


def test_find_photo_overlap_ignores_unlabelled_train_faces(tmp_path):
    labels = np.array([-1, 1, 2])
    splits = {"train": (FACES[:3], labels), "validation": (FACES[:2], np.array([0, 1]))}
    found = photo_overlap.find_photo_overlap(factories.shards(tmp_path / "shards", splits))
    assert found["validation"].rows.tolist() == [1001]


@pytest.mark.parametrize("name", ["train", "validation"])
def test_find_photo_overlap_with_an_empty_split_is_empty(tmp_path, name):
    splits = {"train": (FACES[:3], np.arange(3)), "validation": (FACES[:2], np.arange(2))}
    found = photo_overlap.find_photo_overlap(
        factories.shards(tmp_path / "shards", {**splits, name: (FACES[:0], np.arange(0))})
    )
    assert not len(found["validation"].rows)
    assert found["validation"].examples == (2 if name == "train" else 0)


def test_find_photo_overlap_without_labelled_train_faces_is_empty(tmp_path):
    splits = {"train": (FACES[:2], np.array([-1, -1])), "validation": (FACES[:2], np.array([0, 1]))}
    assert not len(photo_overlap.find_photo_overlap(factories.shards(tmp_path / "s", splits))["validation"].rows)


@pytest.mark.parametrize("name", ["train", "validation"])
def test_find_photo_overlap_rejects_data_with_one_split(tmp_path, name):
    folder = factories.shards(tmp_path / "shards", {name: (FACES[:2], np.array([0, 1]))})
    with pytest.raises(UserError, match=f"has no train split and another one .* its splits: {name}"):
        photo_overlap.find_photo_overlap(folder)
