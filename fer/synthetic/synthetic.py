"""Generates a synthetic data set in the form of FER-2013, for use without a real one.

`fer.synthetic.face_renderer` renders the faces. Rows are generated in decks of 200. A few hundred rows thus contain
every class in every split, and a row does not depend on the number of rows.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fer.errors import UserError
from fer.io.transaction import transaction
from fer.labels import CLASSES
from fer.synthetic.face_renderer import draw_person, draw_units, render

HEADER = b"emotion,pixels,Usage\n"
USAGES = ("Training", "PublicTest", "PrivateTest")
DIGITS = tuple(str(value) for value in range(256))

# Faces per class in each deck; a tenth of each class goes into each of PublicTest and PrivateTest. The shares of the
# classes are those of FER-2013, except for disgust, which has 1.5 % there.
DECK = {"angry": 27, "disgust": 10, "fear": 27, "happy": 48, "sad": 33, "surprise": 22, "neutral": 33}


def generate_faces(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Generates synthetic faces.

    Args:
      rows: number of faces, 1 or more. Row i does not depend on this number.
      seed: 0 or more.

    Returns:
      images: uint8 [rows, 48, 48].
      labels: int64 [rows], indices into `fer.labels.CLASSES`.

    Raises:
      UserError: `rows` or `seed` is out of its range.
    """
    decks = list(_iter_decks(rows, seed))
    images, labels = (np.concatenate(column)[:rows] for column in list(zip(*decks))[:2])
    return images, labels


def write_csv(path: str, rows: int, seed: int) -> None:
    """Writes synthetic faces as a CSV in the form of FER-2013.

    The columns are emotion, pixels (2,304 values, row by row) and Usage (about 80 / 10 / 10 %). The Usage of row i does
    not depend on `rows`. The memory used does not grow with `rows`. The file appears only when it is complete.

    Args:
      path: the file, replaced if it exists.
      rows: number of faces, 1 or more.
      seed: 0 or more.

    Raises:
      UserError: `rows` or `seed` is out of its range, or the file cannot be written.
    """
    with transaction() as stage, open(stage(path), "wb") as file:
        file.write(HEADER)
        for number, deck in enumerate(_iter_decks(rows, seed)):
            lines = [_csv_line(*row) for row in zip(*deck)]
            file.write(b"".join(lines[: rows - number * len(lines)]))


def _iter_decks(rows: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yields decks of 200 rows, at least `rows` in all: images, labels and indices into USAGES."""
    _check_minimum("rows", rows, 1)
    _check_minimum("seed", seed, 0)
    size = sum(DECK.values())
    labels = np.repeat(np.arange(len(CLASSES)), [DECK[name] for name in CLASSES])
    usages = np.concatenate([_assign_usages(DECK[name]) for name in CLASSES])
    for number in range(-(-rows // size)):
        random = np.random.default_rng((seed, number))
        order = random.permutation(size)
        images = render(draw_person(random, size), draw_units(random, labels[order]))
        yield images, labels[order], usages[order]


def _assign_usages(count: int) -> np.ndarray:
    """Returns an index into USAGES for each of `count` rows of a class: a tenth, at least one, for each test split."""
    held = max(1, round(count / 10))
    return np.repeat([0, 1, 2], [count - 2 * held, held, held])


def _csv_line(image: np.ndarray, label: int, usage: int) -> bytes:
    pixels = " ".join([DIGITS[value] for value in image.tobytes()])
    return f"{label},{pixels},{USAGES[usage]}\n".encode("ascii")


def _check_minimum(name: str, value: int, minimum: int) -> None:
    if value < minimum:
        raise UserError(f"{name} is {value}; it must be {minimum} or more.")
