"""The order of the classes is that of FER-2013; every label in every file depends on it."""

import numpy as np
import pytest

from fer import labels


def votes(**counts) -> np.ndarray:
    """Returns one row of FER+ votes, [10], from the number of votes of each named column."""
    return np.array([counts.get(column, 0) for column in labels.FERPLUS_COLUMNS])


def test_classes_have_the_order_of_fer2013():
    # The order of the Kaggle challenge of 2013: 0=Angry, 1=Disgust, 2=Fear, 3=Happy, 4=Sad, 5=Surprise, 6=Neutral.
    assert labels.CLASSES == ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


def test_colours_are_unique():
    assert len(set(labels.COLOURS)) == len(labels.CLASSES)


def test_ferplus_of_class_has_one_column_per_class():
    assert len(set(labels.FERPLUS_OF_CLASS)) == len(labels.CLASSES)
    assert set(labels.FERPLUS_OF_CLASS) <= set(labels.FERPLUS_COLUMNS)


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
def test_majority_class_is_class_with_most_votes(column, name):
    other = "fear" if column != "fear" else "happiness"
    assert labels.majority_class(votes(**{column: 6, other: 4})[None]).tolist() == [labels.CLASSES.index(name)]


def test_majority_class_needs_no_absolute_majority():
    assert labels.majority_class(votes(anger=4, sadness=3, neutral=3)[None]).tolist() == [labels.CLASSES.index("angry")]


@pytest.mark.parametrize(
    "counts",
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
def test_majority_class_is_minus_1_without_single_winning_class(counts):
    assert labels.majority_class(votes(**counts)[None]).tolist() == [-1]


def test_majority_class_is_minus_1_for_rows_marked_as_without_votes():
    assert labels.majority_class(np.full((1, 10), -1)).tolist() == [-1]
