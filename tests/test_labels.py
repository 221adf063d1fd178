"""Sets of classes: their order, the check of names, and colours; every label in every file depends on the order."""

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


def test_class_sets_have_the_published_orders():
    # AffectNet: 0 Neutral, 1 Happy, 2 Sad, 3 Surprise, 4 Fear, 5 Disgust, 6 Anger, 7 Contempt. RAF-DB: 1 Surprise,
    # 2 Fear, 3 Disgust, 4 Happiness, 5 Sadness, 6 Anger, 7 Neutral. FER+: the columns of fer2013new.csv.
    sets = labels.CLASS_SETS
    assert sets["affectnet8"] == ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt")
    assert sets["affectnet7"] == sets["affectnet8"][:7]
    assert sets["rafdb"] == ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
    assert sets["ferplus"] == labels.FERPLUS_COLUMNS[:8]
    assert sets["fer2013"] == labels.CLASSES
    assert all(labels.check_classes(classes) == classes for classes in sets.values())


def test_check_classes_strips_names_and_keeps_their_case():
    assert labels.check_classes([" Happy", "größe 2", "c"]) == ("Happy", "größe 2", "c")
    assert len(labels.check_classes([str(number) for number in range(100)])) == 100


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a"], "There are 1 classes; 2 to 100 are supported"),
        ([f"c{number}" for number in range(101)], "There are 101 classes"),
        (["Happy", "happy "], "'happy' is there twice"),
        (["a", " "], "' ' is no name of a class"),
        (["a", 3], "3 is no name of a class"),
        (["a", "b" * 41], "has more than 40 characters"),
        (["a", "b,c"], "'b,c' has the character ','"),
        (["a", "b\nc"], r"has the character '\\n'"),
        (["a", "<b>"], "'<b>' must begin with a letter or a digit"),
        (["a", "None"], "'None' has a reserved name"),
        (["a", "label"], "'label' has a reserved name"),
    ],
)
def test_check_classes_error_names_wrong_name(names, message):
    with pytest.raises(ValueError, match=message):
        labels.check_classes(names)


def test_class_colours_of_expressions_do_not_depend_on_the_set():
    assert labels.class_colours(labels.CLASSES) == labels.COLOURS
    of_class = dict(zip(labels.CLASSES, labels.COLOURS))
    for classes in labels.CLASS_SETS.values():
        found = dict(zip(classes, labels.class_colours(classes)))
        assert len(set(found.values())) == len(classes)
        for name in set(classes) - {"contempt"}:
            assert found[name] == of_class[labels.EMOTION_OF_WORD[name]]


def test_class_colours_stay_distinct_and_visible_up_to_100_classes():
    colours = labels.class_colours(tuple(f"c{number}" for number in range(100)))
    assert colours[:7] == labels.COLOURS
    values = np.array([[int(colour[at : at + 2], 16) for at in (1, 3, 5)] for colour in colours])
    distances = np.linalg.norm(values[:, None] - values[None], axis=-1) + 1000 * np.eye(100)
    assert distances.min() >= 15  # one level of the grid of candidates
    assert np.linalg.norm(values - 255, axis=-1).min() > 30  # none is white
    assert labels.class_colours(("cat", "happy", "dog"))[1] == labels.COLOURS[labels.CLASSES.index("happy")]
