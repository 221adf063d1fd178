"""Synthetic faces in FER-2013's form: what the system runs on where no data set is at hand.

The faces are drawn by `fer.synthetic.face_renderer`. Rows come in decks of 200, so that a few hundred hold every class
in every split, and a row does not depend on how many are asked for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from fer.errors import UserError
from fer.io import files, temp_files
from fer.labels import CLASSES
from fer.synthetic.face_renderer import draw_person, draw_units, render

HEADER = b"emotion,pixels,Usage\n"
USAGES = ("Training", "PublicTest", "PrivateTest")
DIGITS = tuple(str(value) for value in range(256))

# In each deck every class has the same share of the two test splits, a tenth. The shares are FER-2013's, but for
# disgust, which has 1.5 % there.
DECK = {"angry": 27, "disgust": 10, "fear": 27, "happy": 48, "sad": 33, "surprise": 22, "neutral": 33}


def faces(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The first faces of a seed's endless row of them.

    Args:
      rows: how many, 1 or more. Row i is the same face however many there are.
      seed: 0 or more.

    Returns:
      images: uint8 [rows, 48, 48], and labels: int64 [rows], indices into `fer.labels.CLASSES`.

    Raises:
      UserError: `rows` or `seed` is out of its range.
    """
    decks = list(_decks(rows, seed))
    images, labels = (np.concatenate(column)[:rows] for column in list(zip(*decks))[:2])
    return images, labels


def write_csv(path: str, rows: int, seed: int) -> None:
    """Writes faces as FER-2013's CSV: emotion, 2,304 pixels row by row, Usage (about 80 / 10 / 10 %).

    The Usage of row i does not depend on `rows` either. Memory stays flat; the file appears when it is whole.

    Args:
      path: the file, replaced if it exists.
      rows, seed: as for `faces`.

    Raises:
      UserError: `rows` or `seed` is out of its range, or the file cannot be written.
    """
    decks = _decks(rows, seed)
    beside = temp_files.path_beside(path)
    try:
        tf.io.gfile.makedirs(os.path.dirname(path) or ".")
        with tf.io.gfile.GFile(beside, "wb") as file:
            file.write(HEADER)
            for number, deck in enumerate(decks):
                lines = [_csv_line(*row) for row in zip(*deck)]
                file.write(b"".join(lines[: rows - number * len(lines)]))
        tf.io.gfile.rename(beside, path, overwrite=True)
    except (OSError, tf.errors.OpError) as error:
        reason = files.error_message(error)
        raise UserError(f"Cannot write {path}: {reason}. Free some space or choose another folder.") from error
    finally:
        if tf.io.gfile.exists(beside):  # whatever ended the writing, an interruption too
            tf.io.gfile.remove(beside)


def _decks(rows: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Images, labels and indices into USAGES, 200 rows at a time, until there are at least `rows`."""
    _require("rows", rows, 1)
    _require("seed", seed, 0)
    size = sum(DECK.values())
    labels = np.repeat(np.arange(len(CLASSES)), [DECK[name] for name in CLASSES])
    usages = np.concatenate([_usages(DECK[name]) for name in CLASSES])
    for number in range(-(-rows // size)):
        random = np.random.default_rng((seed, number))
        order = random.permutation(size)
        images = render(draw_person(random, size), draw_units(random, labels[order]))
        yield images, labels[order], usages[order]


def _usages(count: int) -> np.ndarray:
    """Indices into USAGES for the rows that one class has in a deck: a tenth, at least one, for each test split."""
    held = max(1, round(count / 10))
    return np.repeat([0, 1, 2], [count - 2 * held, held, held])


def _csv_line(image: np.ndarray, label: int, usage: int) -> bytes:
    pixels = " ".join([DIGITS[value] for value in image.tobytes()])
    return f"{label},{pixels},{USAGES[usage]}\n".encode("ascii")


def _require(name: str, value: int, least: int) -> None:
    if value < least:
        raise UserError(f"{name} is {value}; it must be {least} or more.")
