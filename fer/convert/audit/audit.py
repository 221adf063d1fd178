"""Audit of a data set: duplicates, conflicting labels, leakage between splits, blank images, and agreement with FER+.

The audit does not change the data. Rows are excluded from the train split only for the reasons that the user names
(`fer.config.DROPPABLE`), and they are counted.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from fer.convert.audit import duplicates
from fer.convert.audit.duplicates import DuplicateGroups
from fer.convert.ferplus import Votes
from fer.convert.ingest import IngestedDataset
from fer.convert.rows import EXCLUDED, SPLITS
from fer.labels import CLASSES

_TRAIN = SPLITS.index("train")


@dataclasses.dataclass(frozen=True)
class Audit:
    """The findings on n faces; masks are bool [n], groups are lists of positions of faces."""

    summary: dict[str, Any]  # counts, for the manifest
    identical: list[np.ndarray]  # groups of at least two
    conflicting: list[np.ndarray]  # those of `identical` whose labels differ
    leaked: list[np.ndarray]  # those of `identical` that are in several splits
    near: list[np.ndarray]  # groups with at least two different images that look alike
    near_leaked: list[np.ndarray]  # those of `near` that are in several splits
    constant: np.ndarray
    nearly_blank: np.ndarray
    not_a_face: np.ndarray
    disputed: np.ndarray  # all votes of FER+ are for another of the seven classes
    droppable: dict[str, np.ndarray]  # by the names of `fer.config.DROPPABLE`


def audit(dataset: IngestedDataset, splits: np.ndarray, found: DuplicateGroups, votes: Votes | None) -> Audit:
    """Checks faces for duplicates, conflicting labels, leakage, blank images and agreement with FER+.

    Args:
      dataset: the faces.
      splits: int64 [n], index into SPLITS.
      found: duplicates among the faces.
      votes: of FER+ on FER-2013's classes, if any.
    """
    labels = dataset.labels
    identical = _group_positions(found.exact)
    near = _select_mixed(_group_positions(found.near), found.exact)
    conflicting, leaked = _select_mixed(identical, labels), _select_mixed(identical, splits)
    near_leaked = _select_mixed(near, splits)
    deviations = dataset.hashes.deviations()
    constant = deviations == 0
    nearly_blank = (deviations < duplicates.NEARLY_BLANK_STD) & ~constant
    not_a_face = np.zeros(len(labels), bool) if votes is None else votes.is_not_a_face()
    elsewhere = splits != _TRAIN
    droppable = {
        "leaked": _shares_group(found.exact, elsewhere),
        "near_leaked": _is_near_any(found, elsewhere),
        "blank": constant | nearly_blank,
        "conflicting": _group_mask(conflicting, len(labels)),
        "not_a_face": not_a_face,
    }
    summary = {
        "distinct_images": int(found.exact.max(initial=-1)) + 1,
        "exact_duplicates": _exact_counts(identical, conflicting, leaked),
        "near_duplicates": _near_counts(len(found.pairs), near, _select_mixed(near, labels), near_leaked),
        "leakage": _count_leakage(found, splits),
        "blank": _blank_counts(constant, nearly_blank),
        "class_balance": _class_balance(dataset, splits),
        "ferplus": None if votes is None else _ferplus_agreement(votes, labels, splits),
    }
    return Audit(
        summary=summary,
        identical=identical,
        conflicting=conflicting,
        leaked=leaked,
        near=near,
        near_leaked=near_leaked,
        constant=constant,
        nearly_blank=nearly_blank,
        not_a_face=not_a_face,
        disputed=_find_disputed(votes, labels),
        droppable=droppable,
    )


def drop_rows(found: Audit, splits: np.ndarray, reasons: tuple[str, ...]) -> tuple[np.ndarray, dict[str, Any]]:
    """Excludes rows from the train split, and from no other.

    Args:
      found: the audit.
      splits: int64 [n], index into SPLITS.
      reasons: of `fer.config.DROPPABLE`.

    Returns:
      splits, with EXCLUDED where a face is dropped; and the number of rows per reason and in total.
    """
    masks = {reason: found.droppable[reason] & (splits == _TRAIN) for reason in reasons}
    dropped = np.logical_or.reduce([np.zeros(len(splits), bool), *masks.values()])
    counts = {reason: int(mask.sum()) for reason, mask in masks.items()}
    return np.where(dropped, EXCLUDED, splits), {"rows": int(dropped.sum()), "by_reason": counts}


def find_train_duplicates(found: DuplicateGroups, splits: np.ndarray, rows: np.ndarray) -> dict[str, tuple[int, ...]]:
    """Finds the faces that are identical, pixel by pixel, to a face of the train split.

    Args:
      found: duplicates among n faces.
      splits: int64 [n], index into SPLITS or EXCLUDED.
      rows: int64 [n], rows of the faces in the source.

    Returns:
      The rows of these faces for each split but train; empty if no face is in the train split.
    """
    in_train = splits == _TRAIN
    if not in_train.any():
        return {}
    identical = _shares_group(found.exact, in_train)
    others = [index for index in range(len(SPLITS)) if index != _TRAIN]
    return {SPLITS[index]: tuple(rows[identical & (splits == index)].tolist()) for index in others}


def list_rows(found: Audit, dataset: IngestedDataset) -> dict[str, Any]:
    """Returns the rows of each finding for audit.json, as zero-based row numbers of the source."""
    groups, masks = (
        ("identical", "conflicting", "leaked", "near", "near_leaked"),
        ("constant", "nearly_blank", "not_a_face", "disputed"),
    )
    return {
        **{name: [dataset.rows[group].tolist() for group in getattr(found, name)] for name in groups},
        **{name: dataset.rows[getattr(found, name)].tolist() for name in masks},
    }


def _group_positions(numbers: np.ndarray) -> list[np.ndarray]:
    """Returns the positions of each group of at least two faces; groups are ordered by their first face."""
    order = np.argsort(numbers, kind="stable")
    # Few faces are in such a group: the selection avoids an array per face.
    order = order[np.bincount(numbers, minlength=1)[numbers[order]] > 1]
    if not len(order):
        return []
    borders = np.flatnonzero(np.diff(numbers[order])) + 1
    return np.split(order, borders)


def _find_disputed(votes: Votes | None, labels: np.ndarray) -> np.ndarray:
    """Returns which faces have all votes for another of the seven classes than their label, bool [n]."""
    if votes is None:
        return np.zeros(len(labels), bool)
    return votes.is_unanimous() & (votes.majority_labels() >= 0) & (votes.majority_labels() != labels) & (labels >= 0)


def _exact_counts(
    identical: list[np.ndarray], conflicting: list[np.ndarray], leaked: list[np.ndarray]
) -> dict[str, int]:
    """Returns the counts of identical faces, as they stand in the manifest."""
    rows = sum(map(len, identical))
    return {
        "groups": len(identical),
        "rows": rows,
        "surplus_rows": rows - len(identical),
        "conflicting_groups": len(conflicting),
        "straddling_groups": len(leaked),
    }


def _near_counts(
    pairs: int, near: list[np.ndarray], conflicting: list[np.ndarray], leaked: list[np.ndarray]
) -> dict[str, Any]:
    """Returns the method and the counts of near-duplicates, as they stand in the manifest."""
    return {
        "method": duplicates.METHOD,
        "threshold": duplicates.THRESHOLD,
        "pairs": pairs,
        "groups": len(near),
        "rows": sum(map(len, near)),
        "conflicting_groups": len(conflicting),
        "straddling_groups": len(leaked),
    }


def _blank_counts(constant: np.ndarray, nearly_blank: np.ndarray) -> dict[str, float]:
    """Returns the counts of blank images, as they stand in the manifest."""
    return {
        "constant": int(constant.sum()),
        "nearly_blank": int(nearly_blank.sum()),
        "nearly_blank_below": duplicates.NEARLY_BLANK_STD,
    }


def _select_mixed(groups: list[np.ndarray], values: np.ndarray) -> list[np.ndarray]:
    """Returns the groups whose members differ in their values, int64 [n]; values below 0 are ignored."""
    if not groups:
        return []
    of_members = values[np.concatenate(groups)]
    starts = np.cumsum([0, *map(len, groups[:-1])])
    highest = np.maximum.reduceat(of_members, starts)
    lowest = np.minimum.reduceat(np.where(of_members < 0, np.iinfo(np.int64).max, of_members), starts)
    return [group for group, mixed in zip(groups, lowest < highest) if mixed]


def _group_mask(groups: list[np.ndarray], count: int) -> np.ndarray:
    """Returns which of `count` faces are in any of the groups, bool [count]."""
    mask = np.zeros(count, bool)
    for group in groups:
        mask[group] = True
    return mask


def _shares_group(groups: np.ndarray, some: np.ndarray) -> np.ndarray:
    """Returns which faces are in a group with any of `some`, bool [n].

    Args:
      groups: int64 [n], the group of each face.
      some: bool [n].
    """
    touched = np.zeros(int(groups.max(initial=-1)) + 1, bool)
    touched[groups[some]] = True
    return touched[groups]


def _is_near_any(found: DuplicateGroups, some: np.ndarray) -> np.ndarray:
    """Returns which faces are duplicates or direct near-duplicates of any of `some`, bool [n]."""
    of_some = _shares_group(found.exact, some)
    near = of_some.copy()
    one, other = found.pairs[:, 0], found.pairs[:, 1]
    touched = np.zeros(len(some), bool)
    np.logical_or.at(touched, one, of_some[other])  # unbuffered: a face may be in several pairs
    np.logical_or.at(touched, other, of_some[one])
    return near | _shares_group(found.exact, touched)


def _count_leakage(found: DuplicateGroups, splits: np.ndarray) -> dict[str, dict[str, int]]:
    """Counts the rows of each split that are also in another: {"validation": {"identical_to_train": 280, ...}, ...}."""
    present = [index for index in range(len(SPLITS)) if (splits == index).any()]
    leakage: dict[str, dict[str, int]] = {}
    for split in present:
        for other in present:
            if other != split:
                inside, outside = splits == split, splits == other
                identical = _shares_group(found.exact, outside) & inside
                near = _is_near_any(found, outside) & inside & ~identical
                leakage.setdefault(SPLITS[split], {}).update(
                    {
                        f"identical_to_{SPLITS[other]}": int(identical.sum()),
                        f"near_identical_to_{SPLITS[other]}": int(near.sum()),
                    }
                )
    return leakage


def _class_balance(dataset: IngestedDataset, splits: np.ndarray) -> dict[str, dict[str, float]]:
    """Returns the share of each class in each split that has labels, rounded to four digits."""
    balance, labels, classes = {}, dataset.labels, dataset.classes
    for index, name in enumerate(SPLITS):
        counts = np.bincount(labels[(splits == index) & (labels >= 0)], minlength=len(classes))
        if counts.sum():
            shares = (counts / counts.sum()).round(4).tolist()
            balance[name] = dict(zip(classes, shares))
    return balance


def _ferplus_agreement(votes: Votes, labels: np.ndarray, splits: np.ndarray) -> dict[str, Any]:
    """Returns how far the labels agree with the majority votes of FER+."""
    majority, unanimous = votes.majority_labels(), votes.is_unanimous()
    comparable = (majority >= 0) & (labels >= 0)
    agree = majority == labels

    def share(some: np.ndarray) -> float | None:
        """Returns the agreement within `some`, bool [n]; None without any face."""
        return round(float(agree[some].mean()), 4) if some.any() else None

    return {
        "not_a_face": {name: int((votes.is_not_a_face() & (splits == i)).sum()) for i, name in enumerate(SPLITS)},
        "without_image_name": int((~votes.has_image_name).sum()),
        "majority_is_one_of_the_seven": int(comparable.sum()),
        "agreement": share(comparable),
        "agreement_by_class": {name: share(comparable & (labels == label)) for label, name in enumerate(CLASSES)},
        "unanimous_majority_is_one_of_the_seven": int((comparable & unanimous).sum()),
        "agreement_where_unanimous": share(comparable & unanimous),
    }
