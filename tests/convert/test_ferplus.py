"""FER+ votes: reading, majority classes, and joining to rows."""

import gzip
import pathlib

import numpy as np
import pytest

from fer.convert import ferplus
from fer.errors import UserError
from fer.labels import CLASSES, FERPLUS_COLUMNS, FERPLUS_OF_CLASS
from tests.convert import input_factories
from tests.convert.readers.test_archives import make_zip

HEADER = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF\n"
ROWS = (
    "Training,fer0000000.png,4,0,0,1,3,2,0,0,0,0\n"
    "PublicTest,fer0000001.png,0,10,0,0,0,0,0,0,0,0\n"
    "Training,,0,0,0,0,0,0,0,0,0,10\n"
    "PrivateTest,fer0000003.png,0,0,0,0,0,0,0,5,5,0\n"
    "PrivateTest,,0,0,0,0,0,0,0,5,5,0\n"
)


@pytest.fixture
def votes(tmp_path) -> ferplus.Votes:
    return ferplus.read_votes(input_factories.write_file(tmp_path / "fer2013new.csv", HEADER + ROWS))


def test_read_returns_counts_and_splits_of_file(votes):
    assert votes.counts.tolist()[0] == [4, 0, 0, 1, 3, 2, 0, 0, 0, 0]
    assert votes.splits.tolist() == [0, 1, 0, 2, 2]
    assert votes.has_image_name.tolist() == [True, True, False, True, False]


def test_votes_labels_are_majority_class_or_none(votes):
    assert votes.majority_labels().tolist() == [CLASSES.index("neutral"), CLASSES.index("happy"), -1, -1, -1]


def test_votes_labels_are_none_for_tie():
    """The audit of a conversion and the labels of an evaluation must count the same rows."""
    tied = ferplus.Votes(np.array([[1, 4, 0, 4, 1, 0, 0, 0, 0, 0]], np.uint8), np.zeros(1, int), np.ones(1, bool))
    assert tied.majority_labels().tolist() == [-1]


def test_votes_unanimous_when_one_column_has_all(votes):
    assert votes.is_unanimous().tolist() == [False, True, True, False, False]


def test_votes_not_a_face_by_majority_or_missing_image(votes):
    assert votes.is_not_a_face().tolist() == [False, False, True, False, True]


def test_read_reads_compressed_file(votes, tmp_path):
    packed = ferplus.read_votes(input_factories.write_file(tmp_path / "v", gzip.compress((HEADER + ROWS).encode())))
    np.testing.assert_array_equal(packed.counts, votes.counts)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("emotion,pixels\n", "does not hold FER\\+ votes"),
        ("", "does not hold FER\\+ votes"),
        (HEADER + "Training,f,1\n", "line 2: 3 fields where 12"),
        (HEADER + ROWS + ROWS.splitlines()[0].replace("Training", "Nowhere"), "line 7, column Usage: 'Nowhere'"),
        (HEADER + "Training,f,4,0,0,x,3,2,0,0,0,0\n", "line 2, column sadness: 'x'"),
        (HEADER + "Training,f,0,0,0,0,0,0,0,0,0,0\n", "line 2: all ten columns are 0"),
        (HEADER + "Training,f,4,0,0,1,3,2,0,0,0,-1\n", "line 2, column NF: '-1'"),
        (HEADER + "Training,f,4,0,0,128,3,2,0,0,0,0\n", "line 2, column sadness: '128'"),
        ((HEADER + ROWS).replace("\n", "\r"), "line 1, is not a valid CSV line"),
        (HEADER + ROWS + "Training,\rf\n", "line 7, is not a valid CSV line"),
        (HEADER + "Training,f,4,0,0,\0,3,2,0,0,0,0\n", "line 2"),
    ],
)
def test_read_error_names_file_and_fault(content, reason, tmp_path):
    with pytest.raises(UserError, match=f"v.csv.*{reason}"):
        ferplus.read_votes(input_factories.write_file(tmp_path / "v.csv", content))


OTHERS = {  # files of Microsoft's repository, and of an archive made by macOS
    "FERPlus/README.md": b"# FER+\n",
    "FERPlus/data/FER2013Train/label.csv": b'fer0000002.png,"(0, 0, 48, 48)",4,0,0,1,3,2,0,0,0,0\n',
    "__MACOSX/FERPlus/._fer2013new.csv": b"\0\5\x16\7\0\2\r",
}


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
def test_read_finds_votes_among_other_files(packed, votes, tmp_path):
    files = {**OTHERS, "FERPlus/fer2013new.csv": (HEADER + ROWS).encode()}
    found = ferplus.read_votes(write_input(tmp_path, files, packed))
    np.testing.assert_array_equal(found.counts, votes.counts)


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
def test_read_error_names_input_without_votes(packed, tmp_path):
    path = write_input(tmp_path, OTHERS, packed)
    with pytest.raises(UserError, match=f"^{path} does not hold FER\\+ votes: no file in it has the columns Usage, "):
        ferplus.read_votes(path)


def test_read_rejects_two_files_of_votes(tmp_path):
    path = write_input(tmp_path, {"a.csv": (HEADER + ROWS).encode(), "b.csv": HEADER.encode()}, packed=False)
    with pytest.raises(UserError, match=r"votes twice, votes/a.csv and votes/b.csv: name one of them"):
        ferplus.read_votes(path)


def write_input(folder: pathlib.Path, files: dict[str, bytes], packed: bool) -> str:
    if packed:
        return input_factories.write_file(folder / "votes", make_zip(files))
    for name, content in files.items():
        input_factories.write_file(folder / "votes" / name, content)
    return str(folder / "votes")


def test_join_matches_votes_by_row(votes):
    joined = ferplus.join_votes(votes, "v.csv", np.array([0, 3]), np.array([0, 2]), source_rows=5)
    np.testing.assert_array_equal(joined.counts, votes.counts[[0, 3]])


def test_join_accepts_bad_rows_at_end_without_votes(votes):
    joined = ferplus.join_votes(votes, "v.csv", np.arange(5), votes.splits, source_rows=7)
    assert len(joined.counts) == 5


@pytest.mark.parametrize(("rows", "source_rows"), [(6, 6), (4, 4)])
def test_join_rejects_more_or_fewer_votes_than_rows(votes, rows, source_rows):
    with pytest.raises(UserError, match=f"votes on 5 rows and the input has {source_rows}"):
        ferplus.join_votes(votes, "v.csv", np.arange(rows), np.zeros(rows, int), source_rows)


def test_join_error_names_row_of_another_usage(votes):
    with pytest.raises(UserError, match=r"v.csv, line 4, column Usage, differs from that of row 2"):
        ferplus.join_votes(votes, "v.csv", np.arange(5), np.array([0, 1, 1, 2, 2]), source_rows=5)


def test_join_rejects_input_without_usage(votes):
    with pytest.raises(UserError, match="which the input lacks"):
        ferplus.join_votes(votes, "v.csv", np.arange(4), np.full(4, -1), source_rows=5)


def make_votes(labels: np.ndarray) -> ferplus.Votes:
    """Returns votes whose majority is the given class of each row, or contempt for -1."""
    columns = [FERPLUS_COLUMNS.index(name) for name in (*FERPLUS_OF_CLASS, "contempt")]
    counts = np.eye(len(FERPLUS_COLUMNS), dtype=np.uint8)[[columns[label] for label in labels]]
    return ferplus.Votes(counts, np.zeros(len(labels), int), np.ones(len(labels), bool))


def draw_labels(count: int, agreement: float = 0.63, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns labels with the class shares of FER-2013, and majorities that agree with the given share of them."""
    rng = np.random.default_rng(seed)
    shares = [0.14, 0.02, 0.14, 0.25, 0.17, 0.11, 0.17]
    labels, others = rng.choice(7, (2, count), p=shares)
    return labels, np.where(rng.random(count) < (agreement - 0.18) / 0.82, labels, others)


@pytest.mark.parametrize("count", [30, 210, 5_000])
@pytest.mark.parametrize("agreement", [0.63, 0.9, 1.0])
def test_check_agreement_accepts_agreement_of_ferplus(count, agreement):
    labels, majorities = draw_labels(count, agreement)
    ferplus.check_agreement(make_votes(majorities), labels, np.arange(count), "v.csv")


@pytest.mark.parametrize("count", [30, 210, 5_000])
@pytest.mark.parametrize("order", ["shuffled", "reversed", "one row on"])
def test_check_agreement_rejects_chance_level_with_both_figures(order, count):
    labels, majorities = draw_labels(count, 1.0)
    moved = {
        "shuffled": np.random.default_rng(1).permutation(majorities),
        "reversed": majorities[::-1],
        "one row on": np.roll(majorities, 1),
    }[order]
    with pytest.raises(UserError, match=r"^v.csv agrees with \d+% of the labels, where .* \d+% and FER\+ .* 66 %"):
        ferplus.check_agreement(make_votes(moved), labels, np.arange(count), "v.csv")


def test_check_agreement_error_names_rows_of_misplaced_votes():
    labels, majorities = draw_labels(5_000)
    majorities[4_000:] = np.roll(majorities[4_000:], 1)
    with pytest.raises(UserError, match=r"% of the labels of rows 4,0\d\d to 4,\d\d\d, where"):
        ferplus.check_agreement(make_votes(majorities), labels, np.arange(5_000), "v.csv")


def test_check_agreement_ignores_faces_without_label_or_majority():
    labels, majorities = draw_labels(200, 1.0)
    labels[::4], majorities[1::4] = -1, -1
    ferplus.check_agreement(make_votes(majorities), labels, np.arange(200), "v.csv")


@pytest.mark.parametrize("labels", [np.full(200, 3), np.full(200, -1), np.arange(20) % 7], ids=["one", "none", "few"])
def test_check_agreement_accepts_inconclusive_faces(labels):
    majorities = np.random.default_rng(0).permutation(np.arange(len(labels)) % 7)
    ferplus.check_agreement(make_votes(majorities), labels, np.arange(len(labels)), "v.csv")


def test_check_agreement_accepts_faces_sorted_by_class():
    labels, majorities = draw_labels(7_000)
    order = np.argsort(labels, kind="stable")
    ferplus.check_agreement(make_votes(majorities[order]), labels[order], np.arange(7_000), "v.csv")
