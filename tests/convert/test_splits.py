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
        patch.setattr(splits, "_MAX_STRATIFIED_SINGLES", 400)
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
    return splits.assign_splits(np.full(len(labels), NO_SPLIT), labels, groups, seed=3)


def test_splits_give_a_tenth_to_validation_and_a_tenth_to_test(divided):
    shares = np.bincount(divided) / len(divided)
    np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=0.005)


def test_splits_are_stratified_by_class(divided, labels):
    for label, count in enumerate(COUNTS):
        shares = np.bincount(divided[labels == label], minlength=3) / count
        np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=0.03)


def test_splits_keep_duplicates_together(divided, groups):
    twins = np.flatnonzero(np.diff(groups) == 0)
    np.testing.assert_array_equal(divided[twins], divided[twins + 1])


def test_splits_repeat_for_a_seed_and_differ_for_another(divided, labels, groups):
    given = np.full(len(labels), NO_SPLIT)
    np.testing.assert_array_equal(splits.assign_splits(given, labels, groups, seed=3), divided)
    assert (splits.assign_splits(given, labels, groups, seed=4) != divided).any()


def test_splits_keep_given_splits(labels, groups):
    given = np.arange(len(labels)) % 3
    np.testing.assert_array_equal(splits.assign_splits(given, labels, groups, seed=0), given)


def test_splits_fill_only_missing_splits(labels, groups):
    given = np.where(np.arange(len(labels)) < 500, 2, NO_SPLIT)
    divided = splits.assign_splits(given, labels, groups, seed=0)
    assert (divided[:500] == 2).all()
    assert set(divided[500:]) == {0, 1}


def test_splits_of_train_folder_add_validation_but_no_test(labels, groups):
    divided = splits.assign_splits(np.full(len(labels), TRAIN_OR_VAL), labels, groups, seed=0)
    np.testing.assert_allclose(np.bincount(divided) / len(divided), [0.9, 0.1], atol=0.005)


def test_splits_of_train_folder_are_train_beside_validation_folder(labels, groups):
    given = np.where(np.arange(len(labels)) < 500, 1, TRAIN_OR_VAL)
    divided = splits.assign_splits(given, labels, groups, seed=0)
    assert (divided[500:] == 0).all()


def test_splits_of_few_faces_are_all_train():
    few = np.arange(63) % 7
    assert (splits.assign_splits(np.full(63, NO_SPLIT), few, np.arange(63), seed=0) == 0).all()


def test_splits_of_few_groups_are_all_train():
    assert (splits.assign_splits(np.full(20, NO_SPLIT), np.zeros(20, int), np.arange(20) // 10, seed=0) == 0).all()


def test_splits_put_group_larger_than_a_fold_into_train():
    groups = np.concatenate([np.zeros(60, int), np.arange(1, 201)])
    divided = splits.assign_splits(np.full(260, NO_SPLIT), np.zeros(260, int), groups, seed=0)
    assert (divided[:60] == 0).all()
    assert np.bincount(divided[60:]).tolist() == [160, 20, 20]


def test_splits_keep_unlabelled_faces_with_split():
    assert splits.assign_splits(np.array([2, 2]), np.array([-1, -1]), np.arange(2), seed=0).tolist() == [2, 2]
