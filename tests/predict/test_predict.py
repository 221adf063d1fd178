"""Tests of `fer.predict.predict.summary_lines`."""

import numpy as np
import pytest

from fer.evaluation.inference import Prediction
from fer.predict import input_readers, predict
from fer.predict.face_detection import Box

BOX = Box(0, 0, 9, 9)


def faces(names: list[str], photos: tuple = (), pictures: bool = True) -> input_readers.Faces:
    """Returns blank faces; each of `photos` has its boxes and the position of its first face."""
    images = np.zeros([len(names), 48, 48, 1], np.uint8)
    return input_readers.Faces(
        names, images, [input_readers.Photo(None, *photo) for photo in photos], [], pictures=pictures
    )


def prediction(*rows: dict[int, float], rate: float | None = None) -> Prediction:
    """Returns a prediction from the probabilities of each face by label."""
    probabilities = np.zeros([len(rows), 7], np.float32)
    for row, given in zip(probabilities, rows):
        for label, probability in given.items():
            row[label] = probability
    return Prediction(probabilities, rate)


def test_summary_lines_of_one_face_name_the_photo_and_two_classes():
    one = faces(["a/photo.jpg#1"], photos=(([BOX], 0),))
    assert predict.summary_lines("a/photo.jpg", one, prediction({3: 0.866, 6: 0.064, 0: 0.05})) == [
        "1 face from a/photo.jpg",
        "a/photo.jpg: happy 87 %, neutral 6 %",
    ]


def test_summary_lines_leave_out_a_class_that_is_nearly_impossible():
    one = faces(["face.png"])
    assert predict.summary_lines("face.png", one, prediction({3: 0.998, 6: 0.002}))[1] == "face.png: happy 100 %"


def test_summary_lines_number_the_faces_of_one_photo_and_the_rows_of_a_table():
    predicted = prediction({3: 0.6, 6: 0.4}, {0: 0.7, 1: 0.3}, rate=12.4)
    one = faces(["two.jpg#1", "two.jpg#2"], photos=(([BOX, BOX], 0),))
    assert predict.summary_lines("folder", one, predicted) == [
        "2 faces from folder, 12 images/s",
        "two.jpg#1: happy 60 %, neutral 40 %",
        "two.jpg#2: angry 70 %, disgust 30 %",
    ]
    table = faces(["0", "1"], pictures=False)
    assert predict.summary_lines("test.csv", table, predicted)[1:] == [
        "row 0: happy 60 %, neutral 40 %",
        "row 1: angry 70 %, disgust 30 %",
    ]


@pytest.mark.parametrize(
    ("count", "lines"), [(predict.MAX_LISTED_FACES, predict.MAX_LISTED_FACES + 1), (predict.MAX_LISTED_FACES + 1, 1)]
)
def test_summary_lines_of_many_faces_are_counts_by_class(count, lines):
    predicted = prediction(*[{3: 1.0}] * (count - 1), {6: 1.0}, rate=900.0)
    lines_found = predict.summary_lines(
        "test.csv", faces([str(row) for row in range(count)], pictures=False), predicted
    )
    assert len(lines_found) == lines
    if lines == 1:
        assert lines_found == [f"{count} faces from test.csv, 900 images/s: happy {count - 1}, neutral 1"]
