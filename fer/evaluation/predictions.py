"""Predictions on disk: predictions.npz beside an evaluation, predictions.csv for people."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fer import escaping
from fer.errors import UserError
from fer.io import files, npz
from fer.labels import CLASSES

BOX = ("left", "top", "width", "height")


class Predictions(NamedTuple):
    """What a model said of a split, example by example."""

    labels: np.ndarray  # [n] int32
    probabilities: np.ndarray  # [n, 7] float32
    rows: np.ndarray  # [n] int64, of the source: they tell whether two files speak of the same examples

    @property
    def right(self) -> np.ndarray:
        """[n] bool: whether the most probable class is the label."""
        return self.probabilities.argmax(axis=1) == self.labels

    def of_same_examples(self, other: Predictions) -> bool:
        """Whether both speak of the same examples, in the same order."""
        return np.array_equal(self.rows, other.rows) and np.array_equal(self.labels, other.labels)


def normalize(probabilities: np.ndarray) -> np.ndarray:
    """float32 probabilities as float64 whose rows sum to 1 to the last bit but one, as log loss wants them."""
    wide = probabilities.astype(np.float64)
    return wide / wide.sum(axis=1, keepdims=True)


def write_npz(path: str, predictions: Predictions) -> None:
    """Writes the arrays under their names, so that two models can be compared example by example.

    Raises:
      UserError: the file cannot be written.
    """
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **predictions._asdict())
    files.write_bytes(path, buffer.getvalue())


def read_npz(path: str) -> Predictions:
    """Reads what `write_npz` wrote.

    Raises:
      StorageError: the file cannot be read now.
      UserError: it is missing or damaged, or holds other arrays.
    """
    kind = "file of predictions"
    arrays = npz.read(path, kind, f"There is no {path}; scripts/evaluate.py writes it beside eval.json.")
    missing = [name for name in Predictions._fields if name not in arrays]
    if missing:
        raise UserError(f"{path} is no readable {kind}: it holds no array {missing[0]}.")
    found = Predictions(*(arrays[name] for name in Predictions._fields))
    count = len(found.labels) if found.labels.ndim == 1 else -1
    wanted = [("labels", "iu", (count,)), ("probabilities", "f", (count, len(CLASSES))), ("rows", "iu", (count,))]
    for name, kinds, shape in wanted:
        array = getattr(found, name)
        if array.dtype.kind not in kinds or array.shape != shape:
            raise UserError(
                f"{path} is no readable {kind}: {name} is {array.dtype.name} {list(array.shape)}; expected are labels "
                f"[n] of integers, probabilities [n, {len(CLASSES)}] and rows [n] of integers."
            )
    return found


def write_csv(
    path: str, ids: Sequence[str], probabilities: np.ndarray, boxes: Sequence[tuple[int, ...]] | None = None
) -> None:
    """Writes one line a face: id, label (0 to 6), name, and a probability for each class in label order.

    Args:
      path: of the CSV.
      ids: n names, in the order of the lines; written by `fer.escaping.escape_cell`, harmless in spreadsheets.
      probabilities: [n, 7] float32; written with six decimals.
      boxes: left, top, width and height of each face in its photo, as four columns more; empty ones stay empty.

    Raises:
      UserError: the file cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "label", "name", *CLASSES, *(BOX if boxes else ())])
    for name, row, box in zip(ids, probabilities, boxes or [()] * len(ids)):
        label = int(row.argmax())
        empty = [""] * (len(BOX) if boxes and not box else 0)
        writer.writerow(
            [
                escaping.escape_cell(name),
                label,
                CLASSES[label],
                *(f"{probability:.6f}" for probability in row),
                *box,
                *empty,
            ]
        )
    files.write_text(path, text.getvalue())


def write_submission(path: str, probabilities: np.ndarray) -> None:
    """Writes the challenge's submission: a column emotion with the label of each row of test.csv, in its order.

    Raises:
      UserError: the file cannot be written.
    """
    files.write_text(path, "\n".join(["emotion", *map(str, probabilities.argmax(axis=1))]) + "\n")
