"""Splits for faces whose source names none: stratified by class, seeded, twins never apart."""

from __future__ import annotations

import warnings

import numpy as np

from fer.convert.rows import NO_SPLIT, SPLITS, TRAIN_OR_VAL

NUM_FOLDS = 10  # one to validate, one to test, as FER-2013 itself is divided: 80, 10 and 10 percent

_TRAIN, _VALIDATION, _TEST = range(len(SPLITS))
_MAX_STRATIFIED_SINGLES = 2000  # faces without a twin that are weighed with the others; weighing takes 0.6 ms a group


def assign_splits(given: np.ndarray, labels: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """Divides the faces that have no split among train and those of validation and test that the source lacks.

    Of faces that are only known to be for learning, some validate if no others do.

    Args:
      given: int64 [n], index into SPLITS, NO_SPLIT or TO_LEARN.
      labels: int64 [n], index into fer.labels.CLASSES.
      groups: int64 [n]; faces of a group that have no split come into the same one.
      seed: decides, with the faces' order, which.

    Returns:
      int64 [n], index into SPLITS. Groups larger than a fold go to train, and all do where no class of the others has
      a face for each fold, or where they are fewer groups than folds.
    """
    loose = np.flatnonzero((given == NO_SPLIT) | (given == TRAIN_OR_VAL))
    splits = given.copy()
    splits[loose] = _TRAIN
    lacking = [split for split in (_VALIDATION, _TEST) if not (given == split).any()]
    if _TEST in lacking and (given == TRAIN_OR_VAL).any():
        lacking.remove(_TEST)
    _, group, sizes = np.unique(groups[loose], return_inverse=True, return_counts=True)
    loose = loose[sizes[group.ravel()] <= max(len(loose) / NUM_FOLDS, 1)]
    several = len(np.unique(groups[loose])) >= NUM_FOLDS and np.bincount(labels[loose], minlength=1).max() >= NUM_FOLDS
    if lacking and several:
        numbers = _assign_folds(labels[loose], groups[loose], seed)
        for number, split in enumerate(lacking):
            splits[loose[numbers == number]] = split
    return splits


def _assign_folds(labels: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """The fold of each face, int64 [n], from 0.

    scikit-learn weighs every group against every fold. Faces without a twin need no such care, so beyond the first
    of them they are dealt out class by class, which leaves the folds as even.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold  # takes a second to load

    numbers = np.zeros(len(labels), np.int64)
    _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    alone = np.flatnonzero(sizes[group.ravel()] == 1)[_MAX_STRATIFIED_SINGLES:]
    if not len(alone) or np.bincount(labels[alone]).max() < NUM_FOLDS:
        alone = alone[:0]
    weighed = np.setdiff1d(np.arange(len(labels)), alone)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class with fewer faces than folds is in some of them only
        divider = StratifiedGroupKFold(NUM_FOLDS, shuffle=True, random_state=seed)
        for number, (_, chosen) in enumerate(divider.split(weighed, labels[weighed], groups[weighed])):
            numbers[weighed[chosen]] = number
        if len(alone):
            dealer = StratifiedKFold(NUM_FOLDS, shuffle=True, random_state=seed)
            for number, (_, chosen) in enumerate(dealer.split(alone, labels[alone])):
                numbers[alone[chosen]] = number
    return numbers
