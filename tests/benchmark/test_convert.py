"""The conversion benchmark compares two programs that do the same."""

import pathlib

import tensorflow as tf

from fer.benchmark import convert
from fer.data import synthetic


def examples(paths) -> list[tuple[int, bytes]]:
    found = []
    for record in tf.data.TFRecordDataset([str(path) for path in sorted(paths)]):
        feature = tf.train.Example.FromString(record.numpy()).features.feature
        found.append((feature["label"].int64_list.value[0], feature["image"].bytes_list.value[0]))
    return sorted(found)


def test_both_write_the_same_faces(tmp_path: pathlib.Path):
    csv = str(tmp_path / "faces.csv")
    synthetic.write_csv(csv, 60, seed=0)
    assert convert.usual(csv, str(tmp_path / "usual")) == convert.ours(csv, str(tmp_path / "ours")) == 60
    usual = examples((tmp_path / "usual").glob("*.tfrecord"))
    assert usual == examples((tmp_path / "ours").glob("*.tfrecord"))
