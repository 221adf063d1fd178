"""Tests of `fer.evaluation.prediction_files`."""

import csv

import numpy as np
import pytest
import tensorflow as tf

from fer.errors import StorageError, UserError
from fer.evaluation import prediction_files
from fer.io import files
from fer.labels import CLASSES


@pytest.fixture
def sample() -> prediction_files.Predictions:
    probabilities = np.random.default_rng(0).dirichlet(np.ones(7), 5).astype(np.float32)
    return prediction_files.Predictions(np.array([0, 6, 3, 3, 1], np.int32), probabilities, np.arange(5) + 2**40)


def test_predictions_round_trip_bit_for_bit(sample, tmp_path):
    path = str(tmp_path / "predictions.npz")
    prediction_files.write_npz(path, sample)
    for written, found in zip(sample, prediction_files.read_npz(path)):
        np.testing.assert_array_equal(found, written)
        assert found.dtype == written.dtype


def test_read_npz_error_names_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"no .*predictions\.npz"):
        prediction_files.read_npz(str(tmp_path / "predictions.npz"))


def test_read_npz_reports_unreachable_storage_not_damage(tmp_path, monkeypatch):
    def raise_unavailable(*_):
        raise tf.errors.UnavailableError(None, None, "slow down")

    monkeypatch.setattr(files, "open_file", raise_unavailable)
    with pytest.raises(StorageError, match=r"Cannot read .*predictions\.npz: slow down"):
        prediction_files.read_npz(str(tmp_path / "predictions.npz"))


@pytest.mark.parametrize("keep", [0, 30, -30], ids=["empty", "head", "tail cut"])
def test_read_npz_error_names_truncated_file(sample, tmp_path, keep):
    path = tmp_path / "predictions.npz"
    prediction_files.write_npz(str(path), sample)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"predictions\.npz is no readable"):
        prediction_files.read_npz(str(path))


def test_read_npz_rejects_other_arrays(tmp_path):
    np.savez(tmp_path / "predictions.npz", labels=np.zeros(3))
    with pytest.raises(UserError, match=r"predictions\.npz is no readable"):
        prediction_files.read_npz(str(tmp_path / "predictions.npz"))


def test_csv_has_one_line_for_each_face_in_order(sample, tmp_path):
    path = tmp_path / "predictions.csv"
    ids = ["a.png", 'with "quotes", and commas', "c", "ü", "e"]
    prediction_files.write_csv(str(path), ids, sample.probabilities, CLASSES)
    with path.open(newline="", encoding="utf-8") as file:
        header, *lines = csv.reader(file)
    assert header == ["id", "label", "name", *CLASSES]
    assert [line[0] for line in lines] == ids
    assert [int(line[1]) for line in lines] == sample.probabilities.argmax(axis=1).tolist()
    assert all(line[2] == CLASSES[int(line[1])] for line in lines)
    np.testing.assert_allclose(np.array([line[3:] for line in lines], float), sample.probabilities, atol=5e-7)


def test_csv_has_four_more_columns_for_boxes(tmp_path):
    path = tmp_path / "predictions.csv"
    prediction_files.write_csv(str(path), ["a.jpg#1", "b.png"], np.eye(7)[[3, 0]], CLASSES, [(5, 6, 70, 70), ()])
    header, first, second = path.read_text().splitlines()
    assert header.endswith("neutral,left,top,width,height")
    assert first.endswith(",5,6,70,70")
    assert second.endswith(",,,,")


def test_write_submission_writes_labels_in_row_order(tmp_path):
    path = tmp_path / "submission.csv"
    prediction_files.write_submission(str(path), np.eye(7)[[3, 0, 6]])
    assert path.read_text() == "emotion\n3\n0\n6\n"
