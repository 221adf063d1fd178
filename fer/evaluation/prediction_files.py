"""Reads and writes predictions: predictions.npz of an evaluation, predictions.csv and challenge submissions."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fer import escaping
from fer.errors import UserError, command_name
from fer.io import files, npz
from fer.labels import MIN_CLASSES
from fer.run_dir import EVAL_FILE

COLUMNS = ("id", "label", "name")  # the first ones of predictions.csv
SUBMISSION_COLUMN = "emotion"  # the only one of a submission
HEADER_BYTES = 20  # of a CSV file, from which `is_result` recognizes it
BOX = ("left", "top", "width", "height")


class Predictions(NamedTuple):
    """Predictions of a model for the examples of a split."""

    labels: np.ndarray  # [n] int32
    probabilities: np.ndarray  # [n, C] float32
    rows: np.ndarray  # [n] int64, row numbers in the source, which identify the examples

    @property
    def correct(self) -> np.ndarray:
        """Correctness of each prediction, [n] bool: the most probable class is the label."""
        return self.probabilities.argmax(axis=1) == self.labels

    def has_same_examples(self, other: Predictions) -> bool:
        """Returns whether both are predictions for the same examples in the same order."""
        return np.array_equal(self.rows, other.rows) and np.array_equal(self.labels, other.labels)


def normalize(probabilities: np.ndarray) -> np.ndarray:
    """Converts float32 probabilities to float64 whose rows sum to 1 within rounding, as needed for log loss."""
    wide = probabilities.astype(np.float64)
    return wide / wide.sum(axis=1, keepdims=True)


def write_npz(path: str, predictions: Predictions) -> None:
    """Writes the arrays by name, so that two models can be compared example by example.

    Raises:
      UserError: the file cannot be written.
    """
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **predictions._asdict())
    files.write_bytes(path, buffer.getvalue())


def read_npz(path: str) -> Predictions:
    """Reads a file of `write_npz`.

    Raises:
      StorageError: the storage is unreachable.
      UserError: the file is missing or damaged, or has other arrays.
    """
    kind = "file of predictions"
    arrays = npz.read(path, kind, f"There is no {path}; {command_name('evaluate')} writes it beside {EVAL_FILE}.")
    missing = [name for name in Predictions._fields if name not in arrays]
    if missing:
        raise UserError(f"{path} is no readable {kind}: it has no array {missing[0]}.")
    predictions = Predictions(*(arrays[name] for name in Predictions._fields))
    count = len(predictions.labels) if predictions.labels.ndim == 1 else -1
    matrix = predictions.probabilities
    classes = matrix.shape[1] if matrix.ndim == 2 and matrix.shape[1] >= MIN_CLASSES else -1
    expected = [("labels", "iu", (count,)), ("probabilities", "f", (count, classes)), ("rows", "iu", (count,))]
    for name, kinds, shape in expected:
        array = getattr(predictions, name)
        if array.dtype.kind not in kinds or array.shape != shape:
            raise UserError(
                f"{path} is no readable {kind}: {name} is {array.dtype.name} {list(array.shape)}; expected: integer "
                f"labels [n], float probabilities [n, classes] and integer rows [n]."
            )
    return predictions


def is_result(head: bytes) -> bool:
    """Returns whether `write_csv` or `write_submission` wrote a file that begins with `head`, `HEADER_BYTES` long."""
    line = head.partition(b"\n")[0].decode(errors="replace")
    return line == SUBMISSION_COLUMN or line.startswith(",".join([*COLUMNS, ""]))


def write_csv(
    path: str,
    ids: Sequence[str],
    probabilities: np.ndarray,
    classes: Sequence[str],
    boxes: Sequence[tuple[int, ...]] | None = None,
) -> None:
    """Writes one line for each face: id, label, class name, and the probability of each class in label order.

    Args:
      path: of the CSV file.
      ids: n names in the order of the lines; `fer.escaping.escape_cell` escapes them for spreadsheets.
      probabilities: [n, C] float32; written with six decimals.
      classes: the C names.
      boxes: left, top, width and height of each face in its photo, for four more columns; an empty box leaves them
        empty.

    Raises:
      UserError: the file cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, *classes, *(BOX if boxes else ())])
    for name, row, box in zip(ids, probabilities, boxes or [()] * len(ids)):
        label = int(row.argmax())
        empty = [""] * (len(BOX) if boxes and not box else 0)
        writer.writerow(
            [
                escaping.escape_cell(name),
                label,
                classes[label],
                *(f"{probability:.6f}" for probability in row),
                *box,
                *empty,
            ]
        )
    files.write_text(path, text.getvalue())


def write_submission(path: str, probabilities: np.ndarray) -> None:
    """Writes a submission to the Kaggle challenge: a column emotion with the label of each row of test.csv in order.

    Raises:
      UserError: the file cannot be written.
    """
    files.write_text(path, "\n".join([SUBMISSION_COLUMN, *map(str, probabilities.argmax(axis=1))]) + "\n")
