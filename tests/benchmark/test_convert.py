"""The conversion benchmark compares programs that do the same, on rows that are what they say."""

import pathlib

import numpy as np
import pytest
import tensorflow as tf

from fer.benchmark import convert
from fer.convert.readers import csv_reader
from fer.labels import CLASSES


@pytest.fixture(scope="module")
def csv(tmp_path_factory) -> str:
    path = str(tmp_path_factory.mktemp("rows") / "faces.csv")
    convert.write_rows(path, 60)
    return path


def examples(folder: pathlib.Path) -> list[tuple[int, bytes]]:
    found = []
    for record in tf.data.TFRecordDataset([str(path) for path in sorted(folder.glob("*.tfrecord"))]):
        feature = tf.train.Example.FromString(record.numpy()).features.feature
        found.append((feature["label"].int64_list.value[0], feature["image"].bytes_list.value[0]))
    return sorted(found)


def test_all_write_the_same_faces(csv, tmp_path):
    contestants = {"usual": convert.usual, "ours": convert.ours, "unaudited": convert.unaudited}
    for name, work in contestants.items():
        assert work(csv, str(tmp_path / name)) == 60
    usual, ours, unaudited = (examples(tmp_path / name) for name in contestants)
    assert usual == ours == unaudited


def test_the_rows_are_different_images_in_the_published_form(csv):
    [piece] = csv_reader.iter_chunks("faces.csv", iter([pathlib.Path(csv).read_bytes()]))
    block = csv_reader.parse_lines(piece)
    assert (piece.header.form, block.count, block.rejects) == ("fer2013.csv (emotion,pixels,Usage)", 60, ())
    assert len(np.unique(block.images, axis=0)) == 60
    assert block.images.std() > 25
    assert block.labels.tolist() == [row % len(CLASSES) for row in range(60)]
