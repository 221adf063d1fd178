"""Records as protobuf and TensorFlow write them."""

import numpy as np
import pytest
import tensorflow as tf

from fer.data import record_writer
from tests.data.records import IMAGES, LABELS, ROWS, VOTES, encode, serialize


@pytest.mark.parametrize("votes", [None, VOTES], ids=["without votes", "with votes"])
def test_encode_writes_same_bytes_as_serialize(votes):
    expected = [serialize(*face) for face in zip(IMAGES, LABELS, ROWS, votes if votes is not None else [None] * 10)]
    assert encode(IMAGES, LABELS, ROWS, votes) == expected


def test_encode_returns_no_messages_without_faces():
    assert record_writer.encode_examples(IMAGES[:0], LABELS[:0], ROWS[:0], None) == []


def test_encode_writes_labels_of_100_classes():
    labels = np.arange(100)
    images = np.zeros((100, 2304), np.uint8)
    assert encode(images, labels, labels, None)[99] == serialize(images[99], 99, 99, None)


@pytest.mark.parametrize("votes", [None, VOTES], ids=["without votes", "with votes"])
def test_records_equal_those_of_tensorflow(votes, tmp_path):
    path = str(tmp_path / "expected")
    with tf.io.TFRecordWriter(path) as writer:
        for message in encode(IMAGES, LABELS, ROWS, votes):
            writer.write(message)
    records = record_writer.encode_records(IMAGES, LABELS, ROWS, votes)
    assert b"".join(records) == (tmp_path / "expected").read_bytes()
