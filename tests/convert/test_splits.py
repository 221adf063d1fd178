"""Assignment of faces without a split."""

import numpy as np
import pytest

from fer.convert import splits
from fer.convert.rows import NO_SPLIT, TRAIN_OR_VAL

COUNTS = [180, 40, 160, 300, 200, 140, 200]


@pytest.fixture(autouse=True, scope="module")
def limit_stratified_singles():
    """Lowers `_MAX_STRATIFIED_SINGLES`, so that it applies to this small set as to a full data set."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splits, "_MAX_STRATIFIED_SINGLES", 400)
        yield


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    return np.random.default_rng(0).permutation(np.repeat(np.arange(7), COUNTS))


@pytest.fixture(scope="module")
def groups(labels) -> np.ndarray:
    """Returns groups in which every fifth face is a duplicate of the one before."""
    return np.arange(len(labels)) - (np.arange(len(labels)) % 5 == 4)


@pytest.fixture(scope="module")
def assignment(labels, groups) -> np.ndarray:
    return splits.assign_splits(np.full(len(labels), NO_SPLIT), labels, groups, seed=3)


def test_splits_give_a_tenth_to_validation_and_a_tenth_to_test(assignment):
    shares = np.bincount(assignment) / len(assignment)
    np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=0.005)


def test_splits_are_stratified_by_class(assignment, labels):
    for label, count in enumerate(COUNTS):
        shares = np.bincount(assignment[labels == label], minlength=3) / count
        np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=0.03)


def test_splits_keep_duplicates_together(assignment, groups):
    duplicates = np.flatnonzero(np.diff(groups) == 0)
    np.testing.assert_array_equal(assignment[duplicates], assignment[duplicates + 1])


def test_splits_repeat_for_a_seed_and_differ_for_another(assignment, labels, groups):
    given = np.full(len(labels), NO_SPLIT)
    np.testing.assert_array_equal(splits.assign_splits(given, labels, groups, seed=3), assignment)
    assert (splits.assign_splits(given, labels, groups, seed=4) != assignment).any()


def test_splits_keep_given_splits(labels, groups):
    given = np.arange(len(labels)) % 3
    np.testing.assert_array_equal(splits.assign_splits(given, labels, groups, seed=0), given)


def test_splits_fill_only_missing_splits(labels, groups):
    given = np.where(np.arange(len(labels)) < 500, 2, NO_SPLIT)
    found = splits.assign_splits(given, labels, groups, seed=0)
    assert (found[:500] == 2).all()
    assert set(found[500:]) == {0, 1}


def test_splits_of_train_folder_add_validation_but_no_test(labels, groups):
    found = splits.assign_splits(np.full(len(labels), TRAIN_OR_VAL), labels, groups, seed=0)
    np.testing.assert_allclose(np.bincount(found) / len(found), [0.9, 0.1], atol=0.005)


def test_splits_of_train_folder_are_train_beside_validation_folder(labels, groups):
    given = np.where(np.arange(len(labels)) < 500, 1, TRAIN_OR_VAL)
    found = splits.assign_splits(given, labels, groups, seed=0)
    assert (found[500:] == 0).all()


def test_splits_of_few_faces_are_all_train():
    few = np.arange(63) % 7
    assert (splits.assign_splits(np.full(63, NO_SPLIT), few, np.arange(63), seed=0) == 0).all()


def test_splits_of_few_groups_are_all_train():
    assert (splits.assign_splits(np.full(20, NO_SPLIT), np.zeros(20, int), np.arange(20) // 10, seed=0) == 0).all()


def test_splits_put_group_larger_than_a_fold_into_train():
    groups = np.concatenate([np.zeros(60, int), np.arange(1, 201)])
    found = splits.assign_splits(np.full(260, NO_SPLIT), np.zeros(260, int), groups, seed=0)
    assert (found[:60] == 0).all()
    assert np.bincount(found[60:]).tolist() == [160, 20, 20]


def test_splits_keep_unlabelled_faces_with_split():
    assert splits.assign_splits(np.array([2, 2]), np.array([-1, -1]), np.arange(2), seed=0).tolist() == [2, 2]


def test_splits_divide_many_classes_of_fewer_faces_than_folds_without_strata():
    labels, unassigned = np.repeat(np.arange(50), 4), np.full(200, NO_SPLIT)
    groups = np.arange(200) // 2
    assigned = splits.assign_splits(unassigned, labels, groups, seed=0)
    assert np.bincount(assigned, minlength=3).tolist() == [160, 20, 20]
    assert (assigned[::2] == assigned[1::2]).all()
    few = splits.assign_splits(unassigned[:96], labels[:96], groups[:96], seed=0)
    assert few.tolist() == [0] * 96
