"""Tests of `fer.evaluation.metrics.train_overlap`."""

import dataclasses
import os

import numpy as np
import pytest

from fer.convert import convert
from fer.convert.options import Options
from fer.data import example_codec, manifest
from fer.data.photo_overlap import PhotoOverlap
from fer.errors import UserError
from fer.evaluation.metrics import train_overlap
from tests.convert import input_factories
from tests.evaluation import factories


@pytest.fixture(params=[(), ("leaked",)], ids=["all", "drop"])
def converted(request, tmp_path) -> manifest.Manifest:
    """Converts 30 faces; rows 3k are in train, 3k + 1 in validation, 3k + 2 in test."""
    images = input_factories.noise(30)
    images[[4, 7, 8, 13]] = images[[3, 3, 0, 14]]  # the last pair is of validation and test
    images[10] = images[9] ^ 1  # a near-duplicate
    source = input_factories.write_file(tmp_path / "in" / "f.csv", input_factories.make_csv(images))
    return convert.convert(Options(input=source, output=str(tmp_path / "out"), drop=request.param))


def read_overlap(shards: manifest.Manifest, split: str) -> dict[int, bool]:
    """Returns whether each row of a split is marked as one of the train split."""
    faces = example_codec.read_split(shards, split)
    marked = train_overlap.find_overlap(shards, split, faces.images, faces.rows)
    return dict(zip(faces.rows.tolist(), marked.tolist()))


def without_lists(shards: manifest.Manifest) -> manifest.Manifest:
    """Returns a manifest as an earlier version would have written it."""
    splits = {name: dataclasses.replace(split, train_duplicates=None) for name, split in shards.splits.items()}
    return dataclasses.replace(shards, splits=splits)


@pytest.mark.parametrize(("split", "rows"), [("validation", {4, 7}), ("test", {8})])
def test_find_overlap_agrees_with_comparison_of_images(converted, split, rows):
    found = read_overlap(converted, split)
    assert found == read_overlap(without_lists(converted), split)
    dropped = converted.raw["options"]["drop"]
    assert {row for row, marked in found.items() if marked} == (set() if dropped else rows)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_find_overlap_reads_train_shards_only_if_manifest_lists_no_rows(converted, split):
    expected = read_overlap(converted, split)
    for shard in converted.splits["train"].shards:
        os.remove(os.path.join(converted.folder, shard.file))
    assert read_overlap(converted, split) == expected
    with pytest.raises(UserError, match=r"train-00000-of-00001.tfrecord is missing"):
        read_overlap(without_lists(converted), split)


def test_find_overlap_marks_all_of_train_split(converted):
    assert set(read_overlap(converted, "train").values()) == {True}


def test_find_overlap_is_none_without_train_split(tmp_path):
    folder = factories.shards(tmp_path / "faces", {"validation": (factories.images(2), np.zeros(2, int))})
    assert (
        train_overlap.find_overlap(manifest.read_manifest(folder), "validation", factories.images(2), np.arange(2))
        is None
    )


def test_in_training_split_compares_every_pixel():
    train = factories.images(5)
    changed = train[3].copy()
    changed[40, 40] ^= 1
    images = np.stack([train[4], changed, train[0], train[4]])
    assert train_overlap.in_training_split(images, train).tolist() == [True, False, True, True]


def test_in_training_split_is_false_without_training_images():
    assert train_overlap.in_training_split(factories.images(2), factories.images(0)).tolist() == [False, False]


def test_exclude_overlap_difference_is_accuracy_with_minus_without():
    labels = np.zeros(10, int)
    predicted = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1])  # 6 of 10
    overlap = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0], bool)  # 2 of 6 without them
    remaining = train_overlap.exclude_overlap(overlap, labels, np.eye(7)[predicted])
    assert (remaining["examples"], remaining["num_duplicates"]) == (6, 4)
    assert remaining["accuracy"] == pytest.approx(2 / 6)
    assert remaining["accuracy_difference"] == pytest.approx(6 / 10 - 2 / 6)


def test_exclude_overlap_is_none_when_nothing_remains():
    assert train_overlap.exclude_overlap(np.array([True]), np.array([0]), np.eye(7)[[0]]) is None


def make_photos(rows: list[int], train_labels: list[int]) -> PhotoOverlap:
    """Returns the overlap of a split of ten faces, rows 100 to 109."""
    return PhotoOverlap(
        rows=np.array(rows, np.int64),
        train_rows=np.zeros(len(rows), np.int64),
        train_labels=np.array(train_labels, np.int32),
        correlations=np.ones(len(rows), np.float32),
        examples=10,
    )


def test_exclude_photos_scores_remaining_faces_and_looks_up_the_others():
    rows = np.arange(109, 99, -1)  # in another order than the file's
    labels = np.zeros(10, int)
    predicted = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1])  # 6 of 10; rows 100 to 103 are wrong
    found = train_overlap.exclude_photos(
        make_photos([101, 103, 105, 107], [0, 0, 0, 2]), rows, labels, np.eye(7)[predicted]
    )
    assert (found["examples"], found["num_duplicates"]) == (6, 4)
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert found["lookup_accuracy"] == pytest.approx((6 + 2 - 1) / 10)  # 101 and 103 become right, 107 wrong


def test_exclude_photos_ignores_rows_without_the_evaluated_kind_of_label():
    rows = np.arange(100, 104)
    found = train_overlap.exclude_photos(
        make_photos([102, 109], [3, 3]), rows, np.zeros(4, int), np.eye(7)[[0, 0, 0, 1]]
    )
    assert (found["examples"], found["num_duplicates"]) == (3, 1)


def test_exclude_photos_is_none_when_nothing_remains():
    assert train_overlap.exclude_photos(make_photos([100], [1]), np.array([100]), np.array([0]), np.eye(7)[[0]]) is None
