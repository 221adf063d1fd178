"""Tests of fer/benchmark/convert.py."""

import pathlib

import numpy as np
import pytest
import tensorflow as tf

from fer import progress
from fer.benchmark import convert, process_usage
from fer.convert.readers import csv_reader
from fer.labels import CLASSES


@pytest.fixture(scope="module")
def csv(tmp_path_factory) -> str:
    path = str(tmp_path_factory.mktemp("rows") / "faces.csv")
    convert.write_rows(path, 60)
    return path


def read_examples(folder: pathlib.Path) -> list[tuple[int, bytes]]:
    """Returns label and image of each example in the shards of a folder, sorted."""
    found = []
    for record in tf.data.TFRecordDataset([str(path) for path in sorted(folder.glob("*.tfrecord"))]):
        feature = tf.train.Example.FromString(record.numpy()).features.feature
        found.append((feature["label"].int64_list.value[0], feature["image"].bytes_list.value[0]))
    return sorted(found)


@pytest.mark.extended
def test_convert_candidates_write_the_same_examples(csv, tmp_path):
    found = []
    for name, command in convert.COMMANDS.items():
        process_usage.run(command(csv, str(tmp_path / name)))
        found.append(read_examples(tmp_path / name))
    assert found[0] == found[1]
    assert len(found[0]) == 60


def test_write_rows_writes_different_images_in_the_format_of_fer2013(csv):
    [piece] = csv_reader.iter_chunks("faces.csv", iter([pathlib.Path(csv).read_bytes()]))
    block = csv_reader.parse_lines(piece)
    assert (piece.header.form, block.count, block.rejects) == ("fer2013.csv (emotion,pixels,Usage)", 60, ())
    assert len(np.unique(block.images, axis=0)) == 60
    assert block.images.std() > 25
    assert block.labels.tolist() == [row % len(CLASSES) for row in range(60)]


def test_convert_suite_prints_a_line_before_each_measurement(monkeypatch, capsys):
    """The conversions are stubs; each must find the lines of the measurements up to its own on the standard output."""
    monkeypatch.setattr(progress, "STAGE_INTERVAL_S", 600.0)  # no further lines on a slow machine
    lines = []

    def run_stub(command: list[str], **_) -> process_usage.Usage:
        lines.extend(capsys.readouterr().out.splitlines())
        return process_usage.Usage(1.0, 1.0, 100.0)

    monkeypatch.setattr(convert.process_usage, "run", run_stub)
    monkeypatch.setattr(convert, "FER2013_ROWS", 60)
    monkeypatch.setattr(convert, "LARGE_ROWS", 600)
    names = [result.name for result in convert.measure()][:2]
    rounds = [f"convert: round {number} of 5: {name}" for number in range(1, 6) for name in names]
    sizes = ("60", "600")
    assert [line for line in lines if "round" in line] == rounds
    assert [line for line in lines if "peak" in line] == [
        f"convert: peak memory of converting {rows} rows" for rows in sizes
    ]
    assert [line for line in lines if "writing" in line] == [
        f"convert: writing a CSV file of {rows} rows" for rows in sizes
    ]
