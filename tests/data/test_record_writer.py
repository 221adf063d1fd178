"""Records as protobuf and TensorFlow write them."""

import numpy as np
import pytest
import tensorflow as tf

from fer.data import record_writer
from tests.data.records import IMAGES, LABELS, ROWS, VOTES, serialize_all


def check_records(folder, *columns) -> None:
    with tf.io.TFRecordWriter(str(folder / "expected")) as writer:
        for message in serialize_all(*columns):
            writer.write(message)
    assert record_writer.encode_records(*columns) == (folder / "expected").read_bytes()


@pytest.mark.parametrize("votes", [None, VOTES], ids=["without votes", "with votes"])
def test_encode_records_writes_the_bytes_of_protobuf_and_tensorflow(votes, tmp_path):
    check_records(tmp_path, IMAGES, LABELS, ROWS, votes)


def test_encode_records_writes_labels_of_100_classes_and_rows_of_one_layout(tmp_path):
    images = np.repeat(IMAGES, 10, axis=0)
    check_records(tmp_path, images, np.arange(100), np.arange(100), None)
    check_records(tmp_path, images, np.full(100, -1), 200 + np.arange(100), None)


def test_encode_records_keeps_the_order_of_alternating_layouts(tmp_path):
    images, numbers = np.repeat(IMAGES, 10, axis=0), np.arange(100)
    check_records(tmp_path, images, np.where(numbers % 2, numbers % 7, -1), 120 + numbers, None)


def test_encode_records_returns_nothing_without_faces():
    assert record_writer.encode_records(IMAGES[:0], LABELS[:0], ROWS[:0], None) == b""
