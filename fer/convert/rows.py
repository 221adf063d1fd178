"""Rows between a source and the shards: the common format of every form of FER-2013."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

SPLITS = ("train", "validation", "test")
NO_SPLIT = -1  # the source names none; fer.convert.splits assigns one
TRAIN_OR_VAL = -2  # a folder named train: part of it validates if there is no validation split
EXCLUDED = -3  # of all splits: dropped
UNLABELLED = -1

# FER-2013's column `Usage`, and the beginnings of the file names that re-encoded copies carry.
SPLIT_OF_USAGE = {"training": 0, "publictest": 1, "privatetest": 2}


@dataclasses.dataclass(frozen=True)
class Reject:
    """A row that is not a valid face, and the reason."""

    file: str
    line: int  # from 1, the header included; 0 for a picture
    column: str  # "" if the row as a whole is wrong
    kind: str  # counted under this name
    reason: str  # for the user
    original: bytes  # the unchanged row, without its line end; b"" for a picture

    def __str__(self) -> str:
        """Returns file, line, column and reason as text."""
        where = self.file + (f", line {self.line}" if self.line else "")
        return where + (f", column {self.column}" if self.column else "") + f": {self.reason}"


@dataclasses.dataclass(frozen=True)
class Block:
    """Consecutive rows of a source: valid faces as arrays, the others as rejects."""

    images: np.ndarray  # uint8 [n, 2304]
    labels: np.ndarray  # int64 [n], index into the classes or UNLABELLED
    splits: np.ndarray  # int64 [n], index into SPLITS or NO_SPLIT
    rows: np.ndarray  # int64 [n], positions of the faces among the rows of the block that are not blank
    count: int  # rows of the block that are not blank
    blank: int  # blank lines
    rejects: tuple[Reject, ...] = ()
    altered: Mapping[str, int] = dataclasses.field(default_factory=dict)  # pictures, by image_reader.ALTERATIONS
    excluded: int = 0  # rows that a label map excludes
