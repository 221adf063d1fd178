"""The findings of the audit on a small set of faces with known faults."""

import numpy as np
import pytest

from fer.convert.audit import audit, duplicates, image_hashes
from fer.convert.ferplus import Votes
from fer.convert.ingest import IngestedDataset, Source
from fer.convert.rows import EXCLUDED
from fer.io.temp_store import TempStore
from fer.labels import FERPLUS_COLUMNS
from tests.convert import input_factories

TRAIN, VALIDATION, TEST = range(3)
VOTE = {name: np.eye(10, dtype=np.uint8)[i] * 10 for i, name in enumerate(FERPLUS_COLUMNS)}


def soft(seed: int) -> np.ndarray:
    """Returns an image without fine detail, so that a small change of brightness changes no bit of its hash."""
    return np.kron(input_factories.noise(1, seed)[0].reshape(48, 48)[:8, :8], np.ones((6, 6), np.uint8)).ravel() // 2


# image, label, split, what FER+ says; a row is its place here times ten
FACES = [
    (soft(0), 0, TRAIN, "anger"),  # 0: identical to 1 and 2
    (soft(0), 0, VALIDATION, "anger"),  # 1
    (soft(0), 3, TRAIN, "anger"),  # 2: labelled otherwise
    (soft(1), 1, TRAIN, "disgust"),  # 3: identical to 4
    (soft(1), 1, TRAIN, "disgust"),  # 4
    (soft(2), 2, TRAIN, "sadness"),  # 5: a little darker than 6; FER+ disagrees
    (soft(2) + 9, 2, TEST, "fear"),  # 6
    (soft(3), 4, TRAIN, "NF"),  # 7: no face
    (np.zeros(2304, np.uint8), 5, TRAIN, "NF"),  # 8: constant
    (np.arange(2304) // 300 + 7, 6, VALIDATION, "unknown"),  # 9: nearly blank
]


@pytest.fixture(scope="module")
def survey() -> IngestedDataset:
    images = np.array([face[0] for face in FACES], np.uint8)
    return IngestedDataset(
        labels=np.array([face[1] for face in FACES]),
        splits=np.array([face[2] for face in FACES]),
        rows=10 * np.arange(len(FACES)),
        hashes=image_hashes.hash_images(images),
        store=TempStore(),
        sources=(Source("f.csv", "", 100, "f"),),
        blank_lines=0,
    )


@pytest.fixture(scope="module")
def found(survey) -> audit.Audit:
    counts = np.array([VOTE[face[3]] for face in FACES])
    votes = Votes(counts, survey.splits, np.array([face[3] != "NF" for face in FACES]))
    return audit.audit(survey, survey.splits, duplicates.find_duplicates(survey.hashes), votes)


def test_audit_counts_exact_duplicates(found):
    assert found.summary["distinct_images"] == 7
    assert found.summary["exact_duplicates"] == {
        "groups": 2,
        "rows": 5,
        "surplus_rows": 3,
        "conflicting_groups": 1,
        "straddling_groups": 1,
    }


def test_audit_counts_near_duplicates_with_method_and_threshold(found):
    assert found.summary["near_duplicates"] == {
        "method": duplicates.METHOD,
        "threshold": duplicates.THRESHOLD,
        "pairs": 1,
        "groups": 1,
        "rows": 2,
        "conflicting_groups": 0,
        "straddling_groups": 1,
    }


def test_audit_counts_leakage_from_both_splits(found):
    leakage = found.summary["leakage"]
    assert leakage["validation"]["identical_to_train"] == 1
    assert leakage["train"]["identical_to_validation"] == 2
    assert leakage["train"]["near_identical_to_test"] == leakage["test"]["near_identical_to_train"] == 1
    assert leakage["test"]["identical_to_train"] == leakage["validation"]["identical_to_test"] == 0


def audit_leakage(*faces: tuple[np.ndarray, int]) -> dict[str, dict[str, int]]:
    """Returns the leakage among images with their splits, all of one class."""
    images, splits = np.array([image for image, _ in faces], np.uint8), np.array([split for _, split in faces])
    survey = IngestedDataset(
        labels=np.zeros(len(faces), int),
        splits=splits,
        rows=np.arange(len(faces)),
        hashes=image_hashes.hash_images(images),
        store=TempStore(),
        sources=(Source("f.csv", "", len(faces), "f"),),
        blank_lines=0,
    )
    return audit.audit(survey, splits, duplicates.find_duplicates(survey.hashes), None).summary["leakage"]


@pytest.mark.parametrize("validates", range(3))
def test_audit_counts_leakage_through_any_near_duplicate(validates):
    found = audit_leakage(*((soft(4) + 9 * place, VALIDATION if place == validates else TRAIN) for place in range(3)))
    assert found["train"]["near_identical_to_validation"] == 2
    assert found["validation"]["near_identical_to_train"] == 1


def test_audit_counts_leakage_of_copies_of_a_near_duplicate():
    found = audit_leakage((soft(4), TRAIN), (soft(4), TRAIN), (soft(4) + 9, VALIDATION))
    assert found["train"]["near_identical_to_validation"] == 2


def test_audit_counts_blank_faces(found):
    assert found.summary["blank"] == {"constant": 1, "nearly_blank": 1, "nearly_blank_below": 5.0}


def test_audit_class_balance_sums_to_one(found):
    assert set(found.summary["class_balance"]) == {"train", "validation", "test"}
    for shares in found.summary["class_balance"].values():
        assert sum(shares.values()) == pytest.approx(1, abs=0.001)


def test_audit_counts_agreement_with_ferplus(found):
    ferplus = found.summary["ferplus"]
    assert ferplus["not_a_face"] == {"train": 2, "validation": 0, "test": 0}
    assert ferplus["majority_is_one_of_the_seven"] == 7
    assert ferplus["agreement"] == pytest.approx(5 / 7, abs=1e-4)
    assert ferplus["agreement_where_unanimous"] == ferplus["agreement"]
    assert ferplus["agreement_by_class"]["fear"] == 0.5
    assert ferplus["agreement_by_class"]["sad"] is None


def test_details_lists_row_numbers_of_source(found, survey):
    details = audit.list_rows(found, survey)
    assert details["identical"] == [[0, 10, 20], [30, 40]]
    assert details["conflicting"] == details["leaked"] == [[0, 10, 20]]
    assert details["near"] == details["near_leaked"] == [[50, 60]]
    assert (details["constant"], details["nearly_blank"], details["not_a_face"]) == ([80], [90], [70, 80])
    assert details["disputed"] == [20, 50]


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("leaked", [0, 2]),
        ("near_leaked", [0, 2, 5]),
        ("blank", [8]),
        ("conflicting", [0, 2]),
        ("not_a_face", [7, 8]),
    ],
)
def test_drop_excludes_rows_of_a_reason_from_train_only(found, survey, reason, expected):
    splits, counts = audit.drop_rows(found, survey.splits, (reason,))
    assert np.flatnonzero(splits == EXCLUDED).tolist() == expected
    assert counts == {"rows": len(expected), "by_reason": {reason: len(expected)}}
    kept = splits != EXCLUDED
    np.testing.assert_array_equal(splits[kept], survey.splits[kept])


def test_drop_counts_row_with_two_reasons_once(found, survey):
    _, counts = audit.drop_rows(found, survey.splits, ("blank", "not_a_face"))
    assert counts == {"rows": 2, "by_reason": {"blank": 1, "not_a_face": 2}}


def test_drop_without_reasons_keeps_all_rows(found, survey):
    splits, counts = audit.drop_rows(found, survey.splits, ())
    np.testing.assert_array_equal(splits, survey.splits)
    assert counts == {"rows": 0, "by_reason": {}}


def test_audit_without_votes_has_no_ferplus_summary(survey):
    found = audit.audit(survey, survey.splits, duplicates.find_duplicates(survey.hashes), None)
    assert found.summary["ferplus"] is None
    assert not found.not_a_face.any()


def test_audit_counts_no_conflict_with_unlabelled_faces(survey):
    unlabelled = IngestedDataset(**{**vars(survey), "labels": np.where(np.arange(len(FACES)) == 2, -1, survey.labels)})
    found = audit.audit(unlabelled, survey.splits, duplicates.find_duplicates(survey.hashes), None)
    assert found.summary["exact_duplicates"]["conflicting_groups"] == 0
