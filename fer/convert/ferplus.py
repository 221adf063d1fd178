"""FER+ of Microsoft (Barsoum et al. 2016, arXiv:1608.01041): votes of ten annotators on every row of FER-2013.

`fer2013new.csv` has no pixels: its n-th row refers to the n-th row of fer2013.csv, which its column Usage confirms.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import os
import re

import numpy as np

from fer.convert.readers import archives
from fer.convert.readers.archives import Member
from fer.convert.readers.hashing_reader import HashingReader
from fer.convert.rows import NO_SPLIT, SPLIT_OF_USAGE
from fer.errors import UserError
from fer.labels import CLASSES, FERPLUS_COLUMNS, majority_class

MAX_VOTES = 127  # votes in a cell, so that one takes a byte in a record

# Minimum of the agreement of labels and majority votes beyond chance, (agreement - chance) / (1 - chance), where the
# chance of a vote is its share in all rows. In all rows, this is Cohen's kappa; a window of one class has a kappa of 0,
# but a chance-corrected agreement. Votes on other faces have 0. FER-2013 and FER+ have 0.58 (agreement 0.657, expected
# by chance 0.185), and 0.42 to 0.75 in every 100 rows; shifted by one row, -0.15 to 0.14.
MIN_AGREEMENT = 0.3
WINDOW_ROWS = 100  # consecutive rows that are also checked alone: votes may be misplaced from some row on
MIN_ROWS = 30  # the agreement of fewer rows varies too much

MAJORITY_RULE = "more than half of the votes, without those of columns with a single vote"

_COLUMNS = ("Usage", "Image name", *FERPLUS_COLUMNS)
_NOT_A_FACE = FERPLUS_COLUMNS.index("NF")


# Labels of `Votes.ferplus_labels` for rows that are left out, by the reason.
_NO_MAJORITY, _UNKNOWN, _NO_FACE = -1, -2, -3
LEFT_OUT = {_NO_MAJORITY: "no_majority", _UNKNOWN: "unknown", _NO_FACE: "not_a_face"}


@dataclasses.dataclass(frozen=True)
class Votes:
    """The FER+ votes on n rows."""

    counts: np.ndarray  # uint8 [n, 10], in the order of fer.labels.FERPLUS_COLUMNS
    splits: np.ndarray  # int64 [n], index into SPLITS
    has_image_name: np.ndarray  # bool [n], whether FER+ names an image: it names none for most rows that show no face

    def is_unanimous(self) -> np.ndarray:
        """Returns whether all votes went to one column, bool [n]."""
        return self.counts.max(axis=1) == self.counts.sum(axis=1)

    def is_not_a_face(self) -> np.ndarray:
        """Returns which rows have most votes for "not a face" or no image name, bool [n].

        "Not a face" (NF) loses a tie, since it is the last column.
        """
        return (self.counts.argmax(axis=1) == _NOT_A_FACE) | ~self.has_image_name

    def majority_labels(self) -> np.ndarray:
        """Returns `majority_class` of the counts."""
        return majority_class(self.counts)

    def ferplus_labels(self) -> np.ndarray:
        """Returns the label of each row in FER+'s classes by the majority rule of its authors, int64 [n].

        The rule is that of mode "majority" of their program (github.com/microsoft/FERPlus, src/ferplus.py, with Barsoum
        et al. 2016): a column with a single vote counts as an outlier and loses it; the label is then the column with
        more than half of the votes that remain. A row is left out if no column has them, if "unknown" or "not a face"
        has them, or if FER+ names no image.

        Returns:
          An index into `fer.labels.CLASS_SETS["ferplus"]`; otherwise one of `LEFT_OUT`.
        """
        counts = np.where(self.counts > 1, self.counts, 0).astype(np.int64)
        column = np.where(2 * counts.max(axis=1) > counts.sum(axis=1), counts.argmax(axis=1), _NO_MAJORITY)
        column[column == FERPLUS_COLUMNS.index("unknown")] = _UNKNOWN
        column[(column == _NOT_A_FACE) | ~self.has_image_name] = _NO_FACE
        return column


def read_votes(path: str) -> Votes:
    """Reads fer2013new.csv, alone or among other files in a folder or an archive.

    Raises:
      UserError: the file is missing, damaged, another table or there twice, or has a wrong row.
    """
    found: dict[str, Votes] = {}
    others: list[str] = []
    for member in archives.iter_members(path, HashingReader()):
        if not _has_votes_header(member.head()):
            others.append(member.name)
            continue
        if found:
            raise UserError(f"{path} holds FER+ votes twice, {next(iter(found))} and {member.name}: name one of them.")
        found[member.name] = _parse_votes(member)
    if found:
        return next(iter(found.values()))
    if not others:
        raise UserError(f"{path} is an empty folder: --ferplus takes Microsoft's fer2013new.csv.")
    lack = "its columns are not" if len(others) == 1 else "no file in it has the columns"
    raise UserError(
        f"{others[0] if len(others) == 1 else path} does not hold FER+ votes: {lack} {', '.join(_COLUMNS)}."
    )


def join_votes(votes: Votes, path: str, rows: np.ndarray, splits: np.ndarray, source_rows: int) -> Votes:
    """Returns the votes on some faces of the source.

    Args:
      votes: of every row of the source.
      path: the file of the votes, for messages.
      rows: int64 [n], rows of the faces, ascending.
      splits: int64 [n], index into SPLITS.
      source_rows: number of rows of the source.

    Returns:
      The votes on these n faces.

    Raises:
      UserError: the votes are not of this source: their number differs, or they name another split.
    """
    name = os.path.basename(path.rstrip("/"))
    if (splits < 0).any():
        raise UserError(
            f"{name} is joined by row and checked by the column Usage, which the input lacks: leave out --ferplus, or "
            "convert fer2013.csv."
        )
    if not rows[-1] < len(votes.splits) <= source_rows:
        raise UserError(
            f"{name} has votes on {len(votes.splits):,} rows and the input has {source_rows:,} rows: they are not of "
            "the same copy of FER-2013."
        )
    joined = Votes(votes.counts[rows], votes.splits[rows], votes.has_image_name[rows])
    different = np.flatnonzero(joined.splits != splits)
    if len(different):
        row = int(rows[different[0]])
        raise UserError(
            f"{name}, line {row + 2}, column Usage, differs from that of row {row} of the input: they are not of the "
            "same copy of FER-2013, or one of them is out of order."
        )
    return joined


def check_agreement(votes: Votes, labels: np.ndarray, rows: np.ndarray, name: str) -> None:
    """Checks that votes agree with the labels more than votes on other faces would.

    Args:
      votes: on n faces.
      labels: int64 [n], of these faces.
      rows: int64 [n], rows of the faces in the source.
      name: of the file of the votes, for the message.

    Raises:
      UserError: their agreement beyond chance is below `MIN_AGREEMENT`, in all rows or in `WINDOW_ROWS` rows.
    """
    majority = votes.majority_labels()
    judged = np.flatnonzero((majority >= 0) & (labels >= 0))
    if len(judged) < MIN_ROWS or len(np.unique(labels[judged])) == 1:  # with one class, every order agrees equally
        return
    agree = majority[judged] == labels[judged]
    shares = np.bincount(majority[judged], minlength=len(CLASSES)) / len(judged)
    chance = shares[labels[judged]]
    for window in (judged, *np.array_split(judged, max(1, len(judged) // WINDOW_ROWS))):
        inside = np.searchsorted(judged, window)
        found, expected = agree[inside].mean(), chance[inside].mean()
        if found - expected < MIN_AGREEMENT * (1 - expected):
            where = "" if len(window) == len(judged) else f" of rows {rows[window[0]]:,} to {rows[window[-1]]:,}"
            raise UserError(
                f"{name} agrees with {found:.0%} of the labels{where}, where votes on other faces would agree with "
                f"{expected:.0%} and FER+ agrees with 66 % of FER-2013's: one of them is in another order. Give the "
                "rows of both in their original order, or leave out --ferplus."
            )


def _has_votes_header(head: bytes) -> bool:
    """Returns whether the beginning of a file holds the header of fer2013new.csv."""
    first = re.split(r"[\r\n]", head.decode("utf-8-sig", "backslashreplace"), maxsplit=1)[0]
    try:
        return [name.strip() for name in next(csv.reader([first]), [])] == list(_COLUMNS)
    except csv.Error:
        return False


def _parse_votes(member: Member) -> Votes:
    """Parses a file with the header of fer2013new.csv.

    Raises:
      UserError: a line is not CSV or has a wrong value.
    """
    text = b"".join(member.chunks()).decode("utf-8-sig", "backslashreplace")
    lines = csv.reader(io.StringIO(text))
    try:
        next(lines)  # the header
        parsed = [_parse_row(member.name, lines.line_num, fields) for fields in lines if fields]
    except csv.Error as error:
        raise UserError(
            f"{member.name}, line {lines.line_num}, is not a valid CSV line ({error}): lines must end with LF or CRLF, "
            "and hold no NUL."
        ) from error
    splits, named, counts = zip(*parsed) if parsed else ((), (), ())
    return Votes(
        np.array(counts, np.uint8).reshape(-1, len(FERPLUS_COLUMNS)),
        np.array(splits, np.int64),
        np.array(named, bool),
    )


def _parse_row(name: str, line: int, fields: list[str]) -> tuple[int, bool, list[int]]:
    """Returns the split, whether an image is named, and the votes of a row.

    Raises:
      UserError: names file, line, column and value.
    """
    if len(fields) != len(_COLUMNS):
        raise UserError(f"{name}, line {line}: {len(fields)} fields where {len(_COLUMNS)} are expected.")
    split = SPLIT_OF_USAGE.get(fields[0].strip().lower(), NO_SPLIT)
    if split == NO_SPLIT:
        raise UserError(f"{name}, line {line}, column Usage: {fields[0]!r} is not Training, PublicTest or PrivateTest.")
    counts = []
    for column, text in zip(FERPLUS_COLUMNS, fields[2:]):
        if not (text.strip().isdecimal() and text.isascii() and len(text) < 5 and int(text) <= MAX_VOTES):
            raise UserError(f"{name}, line {line}, column {column}: {text!r} is not a number of votes.")
        counts.append(int(text))
    if not any(counts):
        raise UserError(f"{name}, line {line}: all ten columns are 0; a row needs at least one vote.")
    return split, bool(fields[1].strip()), counts
