"""Whose votes count, and which are left out."""

import numpy as np
import pytest

from fer.convert.ferplus import majority_class
from fer.evaluation.metrics import annotator_agreement
from fer.labels import CLASSES, FERPLUS_COLUMNS


def votes(**people) -> np.ndarray:
    return np.array([people.get(column, 0) for column in FERPLUS_COLUMNS])


@pytest.mark.parametrize(
    ("column", "name"),
    [
        ("anger", "angry"),
        ("disgust", "disgust"),
        ("fear", "fear"),
        ("happiness", "happy"),
        ("sadness", "sad"),
        ("surprise", "surprise"),
        ("neutral", "neutral"),
    ],
)
def test_the_most_votes_name_the_class(column, name):
    other = "fear" if column != "fear" else "happiness"
    assert majority_class(votes(**{column: 6, other: 4})[None]).tolist() == [CLASSES.index(name)]


def test_the_most_need_not_be_half():
    assert majority_class(votes(anger=4, sadness=3, neutral=3)[None]).tolist() == [CLASSES.index("angry")]


@pytest.mark.parametrize(
    "people",
    [
        {"anger": 5, "sadness": 5},
        {"anger": 4, "contempt": 4, "fear": 2},
        {"contempt": 6, "neutral": 4},
        {"unknown": 9, "happiness": 1},
        {"NF": 10},
        {},
    ],
    ids=["tie", "tie with contempt", "contempt", "unknown", "not a face", "no votes"],
)
def test_without_a_class_that_most_chose_there_is_no_label(people):
    assert majority_class(votes(**people)[None]).tolist() == [-1]


def test_rows_marked_as_having_no_votes_are_left_out():
    assert majority_class(np.full((1, 10), -1)).tolist() == [-1]


def test_accuracy_is_told_by_how_many_people_agreed():
    people = np.stack([votes(anger=10), votes(fear=7, sadness=3), votes(fear=7, NF=3), votes(NF=10)])
    found = annotator_agreement.accuracy_by_agreement(people, np.array([True, True, False, False]))
    assert found == [{"votes": 7, "examples": 2, "accuracy": 0.5}, {"votes": 10, "examples": 2, "accuracy": 0.5}]
