"""What is wrong with a set of faces: twins, contradictions, leaks between splits, blanks, and what FER+ says.

Nothing here changes the data. Rows leave the train split by the findings that are named (`fer.config.DROPPABLE`), and
only those are left out, and counted.
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

    summary: dict[str, Any]  # counts alone, for the manifest
    identical: list[np.ndarray]  # groups of at least two
    conflicting: list[np.ndarray]  # those of them whose labels differ
    leaked: list[np.ndarray]  # those of them that are in several splits
    near: list[np.ndarray]  # groups with at least two different images that look alike
    near_leaked: list[np.ndarray]  # those of them that are in several splits
    constant: np.ndarray
    nearly_blank: np.ndarray
    not_a_face: np.ndarray
    disputed: np.ndarray  # FER+ names another of the seven classes, unanimously
    droppable: dict[str, np.ndarray]  # by the names of `fer.config.DROPPABLE`


def audit(survey: IngestedDataset, splits: np.ndarray, found: DuplicateGroups, votes: Votes | None) -> Audit:
    """Looks at everything that is known of the faces.

    Args:
      survey: the faces; splits: int64 [n], index into SPLITS; found: their twins; votes: of FER+, if given.
    """
    labels = survey.labels
    identical = _group_positions(found.exact)
    near = _select_mixed(_group_positions(found.near), found.exact)
    conflicting, leaked, near_leaked = (
        _select_mixed(identical, labels),
        _select_mixed(identical, splits),
        _select_mixed(near, splits),
    )
    deviations = survey.prints.deviations()
    constant = deviations == 0
    nearly_blank = (deviations < duplicates.NEARLY_BLANK_STD) & ~constant
    not_a_face = np.zeros(len(labels), bool) if votes is None else votes.not_a_face()
    disputed = np.zeros(len(labels), bool)
    if votes is not None:
        disputed = votes.unanimous() & (votes.labels() >= 0) & (votes.labels() != labels) & (labels >= 0)
    elsewhere = splits != _TRAIN
    droppable = {
        "leaked": _shares_group(found.exact, elsewhere),
        "near_leaked": _is_near_any(found, elsewhere),
        "blank": constant | nearly_blank,
        "conflicting": _group_mask(conflicting, len(labels)),
        "not_a_face": not_a_face,
    }
    summary = {
        **_duplicate_counts(found, identical, conflicting, leaked, near, _select_mixed(near, labels), near_leaked),
        "leakage": _count_leakage(found, splits),
        "blank": {
            "constant": int(constant.sum()),
            "nearly_blank": int(nearly_blank.sum()),
            "nearly_blank_below": duplicates.NEARLY_BLANK_STD,
        },
        "class_balance": _class_balance(labels, splits),
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
        disputed=disputed,
        droppable=droppable,
    )


def drop_rows(found: Audit, splits: np.ndarray, reasons: tuple[str, ...]) -> tuple[np.ndarray, dict[str, Any]]:
    """Leaves rows out of the train split, and of no other.

    Args:
      found: the audit; splits: int64 [n]; reasons: of `fer.config.DROPPABLE`.

    Returns:
      splits with LEFT_OUT where a face is dropped; and how many rows each reason names, and all together.
    """
    masks = {reason: found.droppable[reason] & (splits == _TRAIN) for reason in reasons}
    dropped = np.logical_or.reduce([np.zeros(len(splits), bool), *masks.values()])
    counts = {reason: int(mask.sum()) for reason, mask in masks.items()}
    return np.where(dropped, EXCLUDED, splits), {"rows": int(dropped.sum()), "by_reason": counts}


def list_rows(found: Audit, survey: IngestedDataset) -> dict[str, Any]:
    """Which rows the findings are about: by their zero-based numbers in the source, as audit.json lists them."""

    def of(group: np.ndarray) -> list[int]:
        return survey.rows[group].tolist()

    return {
        "identical": [of(group) for group in found.identical],
        "conflicting": [of(group) for group in found.conflicting],
        "leaked": [of(group) for group in found.leaked],
        "near": [of(group) for group in found.near],
        "near_leaked": [of(group) for group in found.near_leaked],
        "constant": of(found.constant),
        "nearly_blank": of(found.nearly_blank),
        "not_a_face": of(found.not_a_face),
        "disputed": of(found.disputed),
    }


def _group_positions(numbers: np.ndarray) -> list[np.ndarray]:
    """The positions of each group of at least two, the groups in the order of their first."""
    order = np.argsort(numbers, kind="stable")
    order = order[np.bincount(numbers, minlength=1)[numbers[order]] > 1]  # few are: an array for each would be many
    if not len(order):
        return []
    borders = np.flatnonzero(np.diff(numbers[order])) + 1
    return np.split(order, borders)


def _duplicate_counts(
    found: DuplicateGroups,
    identical: list[np.ndarray],
    conflicting: list[np.ndarray],
    leaked: list[np.ndarray],
    near: list[np.ndarray],
    near_conflicting: list[np.ndarray],
    near_leaked: list[np.ndarray],
) -> dict[str, Any]:
    return {
        "distinct_images": int(found.exact.max(initial=-1)) + 1,
        "exact_duplicates": {
            "groups": len(identical),
            "rows": sum(map(len, identical)),
            "surplus_rows": sum(map(len, identical)) - len(identical),
            "conflicting_groups": len(conflicting),
            "straddling_groups": len(leaked),
        },
        "near_duplicates": {
            "method": duplicates.METHOD,
            "threshold": duplicates.THRESHOLD,
            "pairs": len(found.pairs),
            "groups": len(near),
            "rows": sum(map(len, near)),
            "conflicting_groups": len(near_conflicting),
            "straddling_groups": len(near_leaked),
        },
    }


def _select_mixed(groups: list[np.ndarray], values: np.ndarray) -> list[np.ndarray]:
    """Those groups whose members differ in their values, int64 [n]; one below 0 is none."""
    if not groups:
        return []
    of_members = values[np.concatenate(groups)]
    starts = np.cumsum([0, *map(len, groups[:-1])])
    highest = np.maximum.reduceat(of_members, starts)
    lowest = np.minimum.reduceat(np.where(of_members < 0, np.iinfo(np.int64).max, of_members), starts)
    return [group for group, mixed in zip(groups, lowest < highest) if mixed]


def _group_mask(groups: list[np.ndarray], count: int) -> np.ndarray:
    mask = np.zeros(count, bool)
    for group in groups:
        mask[group] = True
    return mask


def _shares_group(groups: np.ndarray, some: np.ndarray) -> np.ndarray:
    """Faces with a group that any of `some` (bool [n]) is in, bool [n]."""
    touched = np.zeros(int(groups.max(initial=-1)) + 1, bool)
    touched[groups[some]] = True
    return touched[groups]


def _is_near_any(found: DuplicateGroups, some: np.ndarray) -> np.ndarray:
    """Faces that are near-identical (one step, not a chain of them) to any of `some`, or identical to it."""
    of_some = _shares_group(found.exact, some)
    near = of_some.copy()
    one, other = found.pairs[:, 0], found.pairs[:, 1]
    touched = np.zeros(len(some), bool)
    np.logical_or.at(touched, one, of_some[other])  # unbuffered: a face may be in several pairs
    np.logical_or.at(touched, other, of_some[one])
    return near | _shares_group(found.exact, touched)


def _count_leakage(found: DuplicateGroups, splits: np.ndarray) -> dict[str, dict[str, int]]:
    """How many rows of each split are also in another: {"validation": {"identical_to_train": 280, ...}, ...}."""
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


def _class_balance(labels: np.ndarray, splits: np.ndarray) -> dict[str, dict[str, float]]:
    """The share of each class in each split that has labels, rounded to four places."""
    balance = {}
    for index, name in enumerate(SPLITS):
        counts = np.bincount(labels[(splits == index) & (labels >= 0)], minlength=len(CLASSES))
        if counts.sum():
            shares = (counts / counts.sum()).round(4).tolist()
            balance[name] = dict(zip(CLASSES, shares))
    return balance


def _ferplus_agreement(votes: Votes, labels: np.ndarray, splits: np.ndarray) -> dict[str, Any]:
    """How far the labels agree with what most of ten people saw."""
    majority, unanimous = votes.labels(), votes.unanimous()
    judged = (majority >= 0) & (labels >= 0)
    agree = majority == labels

    def share(some: np.ndarray) -> float | None:
        return round(float(agree[some].mean()), 4) if some.any() else None

    return {
        "not_a_face": {name: int((votes.not_a_face() & (splits == i)).sum()) for i, name in enumerate(SPLITS)},
        "without_image_name": int((~votes.named).sum()),
        "majority_is_one_of_the_seven": int(judged.sum()),
        "agreement": share(judged),
        "agreement_by_class": {name: share(judged & (labels == label)) for label, name in enumerate(CLASSES)},
        "unanimous_majority_is_one_of_the_seven": int((judged & unanimous).sum()),
        "agreement_where_unanimous": share(judged & unanimous),
    }
