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


def smooth_image(seed: int) -> np.ndarray:
    """Returns an image without fine detail, so that a small change of brightness changes no bit of its hash."""
    return np.kron(input_factories.noise(1, seed)[0].reshape(48, 48)[:8, :8], np.ones((6, 6), np.uint8)).ravel() // 2


# image, label, split, majority vote of FER+; the row number of a face is ten times its index here
FACES = [
    (smooth_image(0), 0, TRAIN, "anger"),  # 0: identical to 1 and 2
    (smooth_image(0), 0, VALIDATION, "anger"),  # 1
    (smooth_image(0), 3, TRAIN, "anger"),  # 2: another label
    (smooth_image(1), 1, TRAIN, "disgust"),  # 3: identical to 4
    (smooth_image(1), 1, TRAIN, "disgust"),  # 4
    (smooth_image(2), 2, TRAIN, "sadness"),  # 5: a little darker than 6; FER+ disagrees
    (smooth_image(2) + 9, 2, TEST, "fear"),  # 6
    (smooth_image(3), 4, TRAIN, "NF"),  # 7: no face
    (np.zeros(2304, np.uint8), 5, TRAIN, "NF"),  # 8: constant
    (np.arange(2304) // 300 + 7, 6, VALIDATION, "unknown"),  # 9: nearly blank
]


def store_faces(images: np.ndarray) -> TempStore:
    """Returns a store with images, uint8 [n, 2304]."""
    store = TempStore()
    store.append_faces(images)
    return store


def find_duplicates(dataset: IngestedDataset) -> duplicates.DuplicateGroups:
    return duplicates.find_duplicates(dataset.hashes, dataset.read_faces)


@pytest.fixture(scope="module")
def dataset() -> IngestedDataset:
    images = np.array([face[0] for face in FACES], np.uint8)
    return IngestedDataset(
        labels=np.array([face[1] for face in FACES]),
        splits=np.array([face[2] for face in FACES]),
        rows=10 * np.arange(len(FACES)),
        hashes=image_hashes.hash_images(images),
        store=store_faces(images),
        sources=(Source("f.csv", "", 100, "f"),),
        blank_lines=0,
    )


@pytest.fixture(scope="module")
def result(dataset) -> audit.Audit:
    counts = np.array([VOTE[face[3]] for face in FACES])
    votes = Votes(counts, dataset.splits, np.array([face[3] != "NF" for face in FACES]))
    return audit.audit(dataset, dataset.splits, find_duplicates(dataset), votes)


def test_audit_counts_exact_duplicates(result):
    assert result.summary["distinct_images"] == 7
    assert result.summary["exact_duplicates"] == {
        "groups": 2,
        "rows": 5,
        "surplus_rows": 3,
        "conflicting_groups": 1,
        "straddling_groups": 1,
    }


def test_audit_counts_near_duplicates_with_method_and_threshold(result):
    assert result.summary["near_duplicates"] == {
        "method": duplicates.METHOD,
        "threshold": duplicates.THRESHOLD,
        "pairs": 1,
        "groups": 1,
        "rows": 2,
        "conflicting_groups": 0,
        "straddling_groups": 1,
    }


def test_audit_counts_leakage_from_both_splits(result):
    leakage = result.summary["leakage"]
    assert leakage["validation"]["identical_to_train"] == 1
    assert leakage["train"]["identical_to_validation"] == 2
    assert leakage["train"]["near_identical_to_test"] == leakage["test"]["near_identical_to_train"] == 1
    assert leakage["test"]["identical_to_train"] == leakage["validation"]["identical_to_test"] == 0


def audit_leakage(*faces: tuple[np.ndarray, int]) -> dict[str, dict[str, int]]:
    """Returns the leakage among images with their splits, all of one class."""
    images, splits = np.array([image for image, _ in faces], np.uint8), np.array([split for _, split in faces])
    dataset = IngestedDataset(
        labels=np.zeros(len(faces), int),
        splits=splits,
        rows=np.arange(len(faces)),
        hashes=image_hashes.hash_images(images),
        store=store_faces(images),
        sources=(Source("f.csv", "", len(faces), "f"),),
        blank_lines=0,
    )
    return audit.audit(dataset, splits, find_duplicates(dataset), None).summary["leakage"]


@pytest.mark.parametrize("validates", range(3))
def test_audit_counts_leakage_through_any_near_duplicate(validates):
    result = audit_leakage(
        *((smooth_image(4) + 9 * place, VALIDATION if place == validates else TRAIN) for place in range(3))
    )
    assert result["train"]["near_identical_to_validation"] == 2
    assert result["validation"]["near_identical_to_train"] == 1


def test_audit_counts_leakage_of_copies_of_a_near_duplicate():
    result = audit_leakage((smooth_image(4), TRAIN), (smooth_image(4), TRAIN), (smooth_image(4) + 9, VALIDATION))
    assert result["train"]["near_identical_to_validation"] == 2


def test_audit_counts_blank_faces(result):
    assert result.summary["blank"] == {"constant": 1, "nearly_blank": 1, "nearly_blank_below": 5.0}


def test_audit_class_balance_sums_to_one(result):
    assert set(result.summary["class_balance"]) == {"train", "validation", "test"}
    for shares in result.summary["class_balance"].values():
        assert sum(shares.values()) == pytest.approx(1, abs=0.001)


def test_audit_counts_agreement_with_ferplus(result):
    ferplus = result.summary["ferplus"]
    assert ferplus["not_a_face"] == {"train": 2, "validation": 0, "test": 0}
    assert ferplus["majority_is_one_of_the_seven"] == 7
    assert ferplus["agreement"] == pytest.approx(5 / 7, abs=1e-4)
    assert ferplus["agreement_where_unanimous"] == ferplus["agreement"]
    assert ferplus["agreement_by_class"]["fear"] == 0.5
    assert ferplus["agreement_by_class"]["sad"] is None


def test_details_lists_row_numbers_of_source(result, dataset):
    details = audit.list_rows(result, dataset)
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
def test_drop_excludes_rows_of_a_reason_from_train_only(result, dataset, reason, expected):
    splits, counts = audit.drop_rows(result, dataset.splits, (reason,))
    assert np.flatnonzero(splits == EXCLUDED).tolist() == expected
    assert counts == {"rows": len(expected), "by_reason": {reason: len(expected)}}
    kept = splits != EXCLUDED
    np.testing.assert_array_equal(splits[kept], dataset.splits[kept])


def test_drop_counts_row_with_two_reasons_once(result, dataset):
    _, counts = audit.drop_rows(result, dataset.splits, ("blank", "not_a_face"))
    assert counts == {"rows": 2, "by_reason": {"blank": 1, "not_a_face": 2}}


def test_drop_without_reasons_keeps_all_rows(result, dataset):
    splits, counts = audit.drop_rows(result, dataset.splits, ())
    np.testing.assert_array_equal(splits, dataset.splits)
    assert counts == {"rows": 0, "by_reason": {}}


def test_find_train_duplicates_lists_rows_of_other_splits(dataset):
    found = find_duplicates(dataset)
    listed = audit.find_train_duplicates(found, dataset.splits, dataset.rows)
    assert listed == {"validation": (10,), "test": ()}  # a near-duplicate such as row 60 does not count


def test_find_train_duplicates_ignores_excluded_faces(dataset):
    found = find_duplicates(dataset)
    splits = np.where(np.isin(np.arange(len(FACES)), [0, 2]), EXCLUDED, dataset.splits)
    assert audit.find_train_duplicates(found, splits, dataset.rows) == {"validation": (), "test": ()}


def test_find_train_duplicates_is_empty_without_train_split(dataset):
    found = find_duplicates(dataset)
    assert audit.find_train_duplicates(found, np.full(len(FACES), TEST), dataset.rows) == {}


def test_audit_without_votes_has_no_ferplus_summary(dataset):
    result = audit.audit(dataset, dataset.splits, find_duplicates(dataset), None)
    assert result.summary["ferplus"] is None
    assert not result.not_a_face.any()


def test_audit_counts_no_conflict_with_unlabelled_faces(dataset):
    unlabelled = IngestedDataset(
        **{**vars(dataset), "labels": np.where(np.arange(len(FACES)) == 2, -1, dataset.labels)}
    )
    result = audit.audit(unlabelled, dataset.splits, find_duplicates(dataset), None)
    assert result.summary["exact_duplicates"]["conflicting_groups"] == 0
