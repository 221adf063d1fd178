"""Split assignment for faces whose source names none: stratified by class, seeded, near-duplicates kept together."""

from __future__ import annotations

import warnings

import numpy as np

from fer.convert.rows import NO_SPLIT, SPLITS, TRAIN_OR_VAL

NUM_FOLDS = 10  # one validates, one tests, as in FER-2013: 80, 10 and 10 %
MIN_UNSTRATIFIED = 100  # faces from which they are divided even if every class has fewer than `NUM_FOLDS`

_TRAIN, _VALIDATION, _TEST = range(len(SPLITS))
_MAX_STRATIFIED_SINGLES = 2000  # faces without a duplicate in StratifiedGroupKFold, which takes 0.6 ms a group


def assign_splits(source_splits: np.ndarray, labels: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """Assigns faces without a split to train and to those of validation and test that the source lacks.

    Part of the faces that are marked as training or validation (TRAIN_OR_VAL) validates if no other faces do.

    Args:
      source_splits: int64 [n], index into SPLITS, NO_SPLIT or TRAIN_OR_VAL.
      labels: int64 [n], index of the class, or -1.
      groups: int64 [n]; faces of a group that have no split are assigned to the same one.
      seed: determines the assignment, together with the order of the faces.

    Returns:
      int64 [n], index into SPLITS. Groups larger than a fold are assigned to train; so are all faces if there are fewer
      groups than folds, or if no class has a face for each fold and there are fewer than `MIN_UNSTRATIFIED` faces.
    """
    unassigned = np.flatnonzero((source_splits == NO_SPLIT) | (source_splits == TRAIN_OR_VAL))
    splits = source_splits.copy()
    splits[unassigned] = _TRAIN
    missing = [split for split in (_VALIDATION, _TEST) if not (source_splits == split).any()]
    if _TEST in missing and (source_splits == TRAIN_OR_VAL).any():
        missing.remove(_TEST)
    _, group, sizes = np.unique(groups[unassigned], return_inverse=True, return_counts=True)
    unassigned = unassigned[sizes[group.ravel()] <= max(len(unassigned) / NUM_FOLDS, 1)]
    strata = labels[unassigned]
    if len(unassigned) >= MIN_UNSTRATIFIED and np.bincount(strata).max() < NUM_FOLDS:
        strata = np.zeros_like(strata)  # many small classes cannot be stratified
    is_divisible = (
        len(np.unique(groups[unassigned])) >= NUM_FOLDS and np.bincount(strata, minlength=1).max() >= NUM_FOLDS
    )
    if missing and is_divisible:
        numbers = _assign_folds(strata, groups[unassigned], seed)
        for number, split in enumerate(missing):
            splits[unassigned[numbers == number]] = split
    return splits


def _assign_folds(labels: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """Returns the fold of each face, int64 [n], from 0.

    StratifiedGroupKFold of scikit-learn compares every group with every fold, which is slow for many groups. Faces
    without a duplicate beyond the first `_MAX_STRATIFIED_SINGLES` are therefore distributed by StratifiedKFold, class
    by class, which keeps the folds as even.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold  # takes a second to load

    numbers = np.zeros(len(labels), np.int64)
    _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    singles = np.flatnonzero(sizes[group.ravel()] == 1)[_MAX_STRATIFIED_SINGLES:]
    if not len(singles) or np.bincount(labels[singles]).max() < NUM_FOLDS:
        singles = singles[:0]
    grouped = np.setdiff1d(np.arange(len(labels)), singles)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class with fewer faces than folds is in some of them only
        group_folds = StratifiedGroupKFold(NUM_FOLDS, shuffle=True, random_state=seed)
        for number, (_, chosen) in enumerate(group_folds.split(grouped, labels[grouped], groups[grouped])):
            numbers[grouped[chosen]] = number
        if len(singles):
            folds = StratifiedKFold(NUM_FOLDS, shuffle=True, random_state=seed)
            for number, (_, chosen) in enumerate(folds.split(singles, labels[singles])):
                numbers[singles[chosen]] = number
    return numbers
