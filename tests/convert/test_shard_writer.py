"""Shards: their number, and the order of the faces in them."""

import contextlib
import dataclasses
import os

import numpy as np
import pytest

from fer.convert import shard_writer
from fer.convert.audit import image_hashes
from fer.convert.ingest import IngestedDataset
from fer.convert.rows import EXCLUDED
from fer.convert.worker_pool import ParserPool
from fer.data import example_codec
from fer.io.temp_store import TempStore
from tests.convert import input_factories

COUNT = 850


@pytest.fixture(scope="module")
def dataset() -> IngestedDataset:
    return IngestedDataset(
        labels=np.arange(COUNT) % 7,
        splits=np.where(np.arange(COUNT) < 805, 0, 1),
        rows=3 * np.arange(COUNT),
        hashes=image_hashes.concatenate([]),
        store=TempStore(),
        sources=(),
        blank_lines=0,
    )


@pytest.fixture
def store(tmp_path) -> TempStore:
    store = TempStore(str(tmp_path))
    store.append_faces(input_factories.noise(COUNT))
    yield store
    store.close()


@pytest.fixture
def write(tmp_path, dataset, store):
    def write(splits=dataset.splits, votes=None, count=0, workers=2):
        stored = dataclasses.replace(dataset, store=store)
        with contextlib.closing(ParserPool(workers, size=0)) as parsers:
            return shard_writer.write_shards(str(tmp_path), stored, splits, votes, count, parsers)

    return write


def test_shard_writer_writes_eight_shards_of_train_and_one_of_small_split(write, tmp_path):
    written = write()
    assert [shard.file for shard in written["train"].shards] == [f"train-{i:05d}-of-00008.tfrecord" for i in range(8)]
    assert [shard.file for shard in written["validation"].shards] == ["validation-00000-of-00001.tfrecord"]
    assert len(os.listdir(tmp_path)) == 9


def test_shard_writer_writes_requested_number_of_non_empty_shards(write, dataset):
    written = write(splits=np.where(dataset.rows < 6, 1, 0), count=3)
    assert [len(split.shards) for split in written.values()] == [3, 2]


def test_shard_writer_omits_split_without_faces(write):
    assert list(write(splits=np.full(COUNT, 2))) == ["test"]


def test_shard_writer_keeps_order_of_source(write, dataset, tmp_path):
    written = write()
    faces = [example_codec.read_shard(str(tmp_path), shard, 7) for shard in written["train"].shards]
    np.testing.assert_array_equal(np.concatenate([part.rows for part in faces]), dataset.rows[:805])
    np.testing.assert_array_equal(np.concatenate([part.labels for part in faces]), dataset.labels[:805])
    images = np.concatenate([part.images for part in faces]).reshape(-1, 2304)
    np.testing.assert_array_equal(images, input_factories.noise(COUNT)[:805])
    assert max(len(part.rows) for part in faces) - min(len(part.rows) for part in faces) == 1


def test_shard_writer_omits_excluded_faces(write, dataset, tmp_path):
    written = write(splits=np.where(np.arange(COUNT) % 10 == 3, EXCLUDED, dataset.splits))
    assert sum(split.examples for split in written.values()) == COUNT * 9 // 10
    [shard] = written["validation"].shards
    rows = example_codec.read_shard(str(tmp_path), shard, 7).rows
    np.testing.assert_array_equal(rows, [row for row in dataset.rows[805:] if row // 3 % 10 != 3])


def test_shard_writer_writes_votes_with_their_faces(write, tmp_path):
    votes = np.random.default_rng(0).integers(0, 11, (COUNT, 10)).astype(np.uint8)
    [shard] = write(votes=votes)["validation"].shards
    np.testing.assert_array_equal(example_codec.read_shard(str(tmp_path), shard, 7).votes, votes[805:])


def test_shard_writer_counts_classes(write, dataset):
    counts = write()["train"].class_counts
    assert list(counts.values()) == np.bincount(dataset.labels[:805]).tolist()
