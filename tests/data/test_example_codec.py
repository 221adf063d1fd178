"""Faces read from shards, and errors for damaged shards."""

import dataclasses
import hashlib
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

from fer.data import example_codec, manifest
from fer.errors import UserError
from tests.data.records import IMAGES, LABELS, ROWS, VOTES, serialize, serialize_all


@pytest.mark.parametrize("with_votes", [False, True], ids=["without votes", "with votes"])
def test_parse_returns_images_labels_and_votes_in_graph(with_votes):
    serialized = tf.constant(serialize_all(IMAGES, LABELS, ROWS, VOTES))
    images, labels, votes = tf.function(example_codec.parse_examples)(serialized, with_votes)
    np.testing.assert_array_equal(images, IMAGES.reshape(-1, 48, 48, 1))
    np.testing.assert_array_equal(labels, LABELS)
    np.testing.assert_array_equal(votes, VOTES if with_votes else VOTES[:, :0])
    assert (images.dtype, labels.dtype, votes.dtype) == (tf.uint8, tf.int32, tf.int32)


def write_shard(folder, messages: list[bytes], name: str = "train-00000-of-00001.tfrecord") -> manifest.Shard:
    path = os.path.join(folder, name)
    with tf.io.TFRecordWriter(path) as writer:
        for message in messages:
            writer.write(message)
    with open(path, "rb") as file:
        content = file.read()
    return manifest.Shard(name, len(messages), len(content), hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize("votes", [None, VOTES], ids=["without votes", "with votes"])
def test_read_shard_returns_written_faces(votes, tmp_path):
    faces = example_codec.read_shard(
        str(tmp_path), write_shard(tmp_path, serialize_all(IMAGES, LABELS, ROWS, votes)), 7
    )
    np.testing.assert_array_equal(faces.images, IMAGES.reshape(-1, 48, 48, 1))
    np.testing.assert_array_equal(faces.labels, LABELS)
    np.testing.assert_array_equal(faces.rows, ROWS)
    assert (faces.votes is None) if votes is None else (faces.votes == votes).all()
    assert (faces.images.dtype, faces.labels.dtype, faces.rows.dtype) == (np.uint8, np.int32, np.int64)


def test_read_shard_reads_100_classes_and_rejects_more_than_stated(tmp_path):
    labels = np.arange(100)
    shard = write_shard(tmp_path, serialize_all(np.zeros((100, 2304), np.uint8), labels, labels, None))
    np.testing.assert_array_equal(example_codec.read_shard(str(tmp_path), shard, 100).labels, labels)
    with pytest.raises(UserError, match="a label outside -1 to 98"):
        example_codec.read_shard(str(tmp_path), shard, 99)


def test_read_shard_returns_no_faces_of_empty_shard(tmp_path):
    faces = example_codec.read_shard(str(tmp_path), write_shard(tmp_path, []), 7)
    assert faces.images.shape == (0, 48, 48, 1)


@pytest.fixture
def copy(synthetic_shards, tmp_path) -> manifest.Manifest:
    """Copies a converted folder, which a test may damage."""
    folder = tmp_path / "copy"
    shutil.copytree(synthetic_shards.folder, folder)
    return manifest.read_manifest(str(folder))


def damage(copy: manifest.Manifest, change) -> str:
    """Changes the bytes of the first validation shard. Returns its name."""
    name = copy.splits["validation"].shards[0].file
    path = os.path.join(copy.folder, name)
    with open(path, "rb") as file:
        content = change(bytearray(file.read()))
    with open(path, "wb") as file:
        file.write(content)
    return name


def flip_bit(content: bytearray) -> bytearray:
    content[len(content) // 2] ^= 1
    return content


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda content: content[:-1], "bytes where manifest.json states"),
        (lambda content: content[:0], "has 0 bytes"),
        (lambda content: content + b"\0", "bytes where manifest.json states"),
        (flip_bit, "another SHA-256"),
        (lambda content: bytearray(len(content)), "another SHA-256"),
    ],
    ids=["cut", "empty", "longer", "flipped bit", "zeros"],
)
def test_read_split_error_names_changed_shard(copy, change, reason):
    name = damage(copy, change)
    with pytest.raises(UserError, match=f"{name} .*{reason}"):
        example_codec.read_split(copy, "validation")


def test_read_split_error_names_missing_shard(copy):
    name = copy.splits["validation"].shards[0].file
    os.remove(os.path.join(copy.folder, name))
    with pytest.raises(UserError, match=f"{name} is missing"):
        example_codec.read_split(copy, "validation")


def recompute_hashes(copy: manifest.Manifest, **changes) -> manifest.Manifest:
    """Returns the manifest with the size and hash of the validation shard as it is now."""
    split = copy.splits["validation"]
    with open(os.path.join(copy.folder, split.shards[0].file), "rb") as file:
        content = file.read()
    values = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), **changes}
    split = dataclasses.replace(split, shards=(dataclasses.replace(split.shards[0], **values),))
    return dataclasses.replace(copy, splits={"validation": split})


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([b"no protobuf"], "cannot be read as faces"),
        ([tf.train.Example().SerializeToString()], "cannot be read as faces"),
        ([serialize(IMAGES[0][:2303], 0, 0, None)], "cannot be read as faces"),
        ([serialize(IMAGES[0], 7, 0, None)], "a label outside -1 to 6"),
    ],
    ids=["no protobuf", "no features", "2,303 pixels", "label 7"],
)
def test_read_shard_rejects_records_that_are_no_faces(content, reason, tmp_path):
    with pytest.raises(UserError, match=reason):
        example_codec.read_shard(str(tmp_path), write_shard(tmp_path, content), 7)


def test_read_split_rejects_wrong_record_checksum_despite_matching_manifest(copy):
    damage(copy, flip_bit)
    with pytest.raises(UserError, match="a record whose checksum is wrong"):
        example_codec.read_split(recompute_hashes(copy), "validation")


def test_read_split_error_names_wrong_count(copy):
    with pytest.raises(UserError, match=r"holds 40 faces where manifest.json states 41"):
        example_codec.read_split(recompute_hashes(copy, examples=41), "validation")


def test_read_split_rejects_labels_that_differ_from_class_counts(copy):
    split = copy.splits["validation"]
    counts = {**split.class_counts, "angry": split.class_counts["angry"] + 1}
    changed = dataclasses.replace(copy, splits={"validation": dataclasses.replace(split, class_counts=counts)})
    with pytest.raises(UserError, match="labels of split validation"):
        example_codec.read_split(changed, "validation")
