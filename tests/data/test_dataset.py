"""Tests of fer/data/dataset.py."""

import gc

import numpy as np
import pytest
import tensorflow as tf

import fer
from fer.data import example_codec, pipeline
from fer.data.sampling import BatchSchedule
from tests.evaluation import factories

BATCH, STEPS = 32, 10  # of 320 examples


@pytest.fixture(scope="module")
def train(synthetic_shards) -> fer.Dataset:
    return fer.open_dataset(synthetic_shards.folder, "train")


def collect(batches) -> list[np.ndarray]:
    """Returns the components of a dataset, each as one array of all batches."""
    return [np.concatenate(parts) for parts in zip(*batches.as_numpy_iterator())]


def test_batches_are_those_of_training_in_each_epoch(train, synthetic_shards):
    source = example_codec.read_split(synthetic_shards, "train")
    expected = list(pipeline.training_batches(source, BatchSchedule(7, BATCH, 0, 3 * STEPS, 1, [0])))
    batches = train.batches(BATCH, seed=7)
    gc.collect()
    for epoch in range(3):
        found = list(batches)
        assert len(found) == len(batches) == STEPS
        for (images, labels), batch in zip(found, expected[epoch * STEPS :]):
            np.testing.assert_array_equal(images, batch.images)
            np.testing.assert_array_equal(labels, batch.labels)


def test_batches_continue_from_first_epoch(train):
    batches = train.batches(BATCH, seed=1)
    first, second = collect(batches), collect(batches)
    assert not np.array_equal(first[1], second[1])
    np.testing.assert_array_equal(collect(train.batches(BATCH, seed=1, first_epoch=1))[0], second[0])
    assert not np.array_equal(collect(train.batches(BATCH, seed=2))[1], first[1])


def test_batches_are_the_same_for_a_split_that_is_streamed(train, synthetic_shards, monkeypatch):
    monkeypatch.setattr("fer.data.dataset.Data", lambda: fer.config.Data(mode="stream"))
    streamed = fer.open_dataset(synthetic_shards.folder, "train").batches(BATCH)
    epochs = [collect(streamed) for _ in range(2)]
    assert not np.array_equal(epochs[0][0], epochs[1][0])
    everything = sorted(image.tobytes() for image in train.arrays()[0])
    for images, _ in epochs:
        assert sorted(image.tobytes() for image in images) == everything


def test_batches_of_evaluation_have_every_example_once_in_the_order_of_the_shards(synthetic_shards):
    split = fer.open_dataset(synthetic_shards.folder, "validation")
    batches = split.batches(BATCH)
    images, labels = split.arrays()
    assert [len(each) for _, each in batches] == [32, 8]
    assert len(batches) == 2
    for _ in range(2):
        found = collect(batches)
        np.testing.assert_array_equal(found[0], images)
        np.testing.assert_array_equal(found[1], labels)


def test_batches_have_one_hot_labels_and_seeds_on_request(train):
    plain = collect(train.batches(BATCH))[1]
    batches = train.batches(BATCH, one_hot=True, with_seed=True)
    assert batches.element_spec == (
        tf.TensorSpec([BATCH, 48, 48, 1], tf.uint8),
        tf.TensorSpec([BATCH, 7], tf.float32),
        tf.TensorSpec([2], tf.int32),
    )
    first, second = list(batches.as_numpy_iterator()), list(batches.as_numpy_iterator())
    np.testing.assert_array_equal(np.concatenate([labels for _, labels, _ in first]), np.eye(7)[plain])
    seeds = [tuple(seed) for epoch in (first, second) for _, _, seed in epoch]
    assert len(set(seeds)) == 2 * STEPS
    again = train.batches(BATCH, with_seed=True, first_epoch=1).as_numpy_iterator()
    assert [tuple(seed) for _, _, seed in again] == seeds[STEPS:]


def test_dataset_describes_its_split(train, synthetic_shards):
    assert train.examples == sum(train.class_counts.values()) == 320
    assert list(train.class_counts) == list(train.classes)
    assert repr(train) == f"fer.open_dataset({synthetic_shards.folder!r}, 'train')"


def test_test_split_has_batches_for_evaluation_only(synthetic_shards):
    test = fer.open_dataset(synthetic_shards.folder, "test")
    np.testing.assert_array_equal(collect(test.batches(BATCH))[1], test.arrays()[1])
    with pytest.raises(fer.UserError, match="The test split is for evaluation only"):
        test.batches(BATCH, shuffle=True)


@pytest.mark.parametrize("size", [0, 321])
def test_batches_reject_a_batch_size_without_an_epoch(train, size):
    with pytest.raises(fer.UserError, match=f"batch_size is {size}; it must be 1 to 320, the examples of train"):
        train.batches(size)


def test_open_dataset_error_names_folder_split_and_shard(synthetic_shards, tmp_path):
    with pytest.raises(fer.UserError, match=r"nowhere has no manifest\.json"):
        fer.open_dataset(tmp_path / "nowhere", "train")
    with pytest.raises(fer.UserError, match="has no split 'valid'; it has train, validation, test"):
        fer.open_dataset(synthetic_shards.folder, "valid")
    images = factories.images(3)
    folder = factories.shards(tmp_path / "faces", {"train": (images, np.array([0, 1, -1]))})
    with pytest.raises(fer.UserError, match="has 1 faces without a label"):
        fer.open_dataset(folder, "train").batches(1)
    next((tmp_path / "faces").glob("*.tfrecord")).unlink()
    with pytest.raises(fer.UserError, match=r"train-00000-of-00001\.tfrecord is missing"):
        fer.open_dataset(folder, "train")
