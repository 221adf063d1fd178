"""Splits for faces that have none."""

import numpy as np
import pytest

from fer.convert import splits
from fer.convert.rows import NO_SPLIT, TRAIN_OR_VAL

COUNTS = [180, 40, 160, 300, 200, 140, 200]


@pytest.fixture(autouse=True, scope="module")
def few_weighed():
    """Leaves half of the faces without a twin to be dealt out, as of a whole data set most are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splits, "_WEIGHED", 400)
        yield


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    return np.random.default_rng(0).permutation(np.repeat(np.arange(7), COUNTS))


@pytest.fixture(scope="module")
def groups(labels) -> np.ndarray:
    """Every fifth face is a twin of the one before."""
    return np.arange(len(labels)) - (np.arange(len(labels)) % 5 == 4)


@pytest.fixture(scope="module")
def divided(labels, groups) -> np.ndarray:
    return splits.assign(np.full(len(labels), NO_SPLIT), labels, groups, seed=3)


def test_a_tenth_validates_and_a_tenth_tests(divided):
    shares = np.bincount(divided) / len(divided)
    np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=0.005)


def test_every_class_has_its_share_of_every_split(divided, labels):
    for label, count in enumerate(COUNTS):
        shares = np.bincount(divided[labels == label], minlength=3) / count
        np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=0.03)


def test_twins_are_never_apart(divided, groups):
    twins = np.flatnonzero(np.diff(groups) == 0)
    np.testing.assert_array_equal(divided[twins], divided[twins + 1])


def test_the_same_seed_divides_alike_and_another_does_not(divided, labels, groups):
    given = np.full(len(labels), NO_SPLIT)
    np.testing.assert_array_equal(splits.assign(given, labels, groups, seed=3), divided)
    assert (splits.assign(given, labels, groups, seed=4) != divided).any()


def test_a_given_split_stays(labels, groups):
    given = np.arange(len(labels)) % 3
    np.testing.assert_array_equal(splits.assign(given, labels, groups, seed=0), given)


def test_only_splits_that_the_source_lacks_are_filled(labels, groups):
    given = np.where(np.arange(len(labels)) < 500, 2, NO_SPLIT)
    divided = splits.assign(given, labels, groups, seed=0)
    assert (divided[:500] == 2).all()
    assert set(divided[500:]) == {0, 1}


def test_a_train_folder_validates_by_itself_but_gives_no_test(labels, groups):
    divided = splits.assign(np.full(len(labels), TRAIN_OR_VAL), labels, groups, seed=0)
    np.testing.assert_allclose(np.bincount(divided) / len(divided), [0.9, 0.1], atol=0.005)


def test_a_train_folder_beside_a_validation_folder_is_all_train(labels, groups):
    given = np.where(np.arange(len(labels)) < 500, 1, TRAIN_OR_VAL)
    divided = splits.assign(given, labels, groups, seed=0)
    assert (divided[500:] == 0).all()


def test_a_handful_of_faces_is_all_train():
    few = np.arange(63) % 7
    assert (splits.assign(np.full(63, NO_SPLIT), few, np.arange(63), seed=0) == 0).all()


def test_faces_of_a_few_groups_are_all_train():
    assert (splits.assign(np.full(20, NO_SPLIT), np.zeros(20, int), np.arange(20) // 10, seed=0) == 0).all()


def test_a_group_larger_than_a_fold_trains_and_the_others_are_divided():
    groups = np.concatenate([np.zeros(60, int), np.arange(1, 201)])
    divided = splits.assign(np.full(260, NO_SPLIT), np.zeros(260, int), groups, seed=0)
    assert (divided[:60] == 0).all()
    assert np.bincount(divided[60:]).tolist() == [160, 20, 20]


def test_unlabelled_faces_with_a_split_are_left_alone():
    assert splits.assign(np.array([2, 2]), np.array([-1, -1]), np.arange(2), seed=0).tolist() == [2, 2]
