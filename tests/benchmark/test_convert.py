"""Tests of fer/benchmark/convert.py."""

import pathlib

import numpy as np
import pytest
import tensorflow as tf

from fer import progress
from fer.benchmark import convert
from fer.benchmark.process_usage import Usage
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


def test_convert_candidates_write_the_same_examples(csv, tmp_path):
    candidates = {
        "usual": convert.convert_with_pandas,
        "ours": convert.convert_with_fer,
        "unaudited": convert.convert_without_audit,
    }
    for name, work in candidates.items():
        assert work(csv, str(tmp_path / name)) == 60
    usual, ours, unaudited = (read_examples(tmp_path / name) for name in candidates)
    assert usual == ours == unaudited


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

    def convert_stub(csv: str, output: str) -> int:
        lines.extend(capsys.readouterr().out.splitlines())
        return 60

    def memory_stub(command: list[str]) -> Usage:
        lines.extend(capsys.readouterr().out.splitlines())
        return Usage(1.0, 1.0, 100.0)

    for name in ("convert_with_fer", "convert_with_pandas", "convert_without_audit"):
        monkeypatch.setattr(convert, name, convert_stub)
    monkeypatch.setattr(convert.process_usage, "run", memory_stub)
    monkeypatch.setattr(convert, "FER2013_ROWS", 60)
    monkeypatch.setattr(convert, "LARGE_ROWS", 600)
    names = [result.name for result in convert.measure()][:3]
    rounds = [f"convert: round {number} of 5: {name}" for number in range(1, 6) for name in names]
    sizes = ("60", "600")
    assert [line for line in lines if "round" in line] == rounds
    assert [line for line in lines if "peak" in line] == [
        f"convert: peak memory of converting {rows} rows" for rows in sizes
    ]
    assert [line for line in lines if "writing" in line] == [
        f"convert: writing a CSV file of {rows} rows" for rows in sizes
    ]
