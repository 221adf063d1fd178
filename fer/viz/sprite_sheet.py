"""Many faces in one picture, by cell of the confusion matrix: a page that holds thousands stays small.

A JPEG of quality 90 takes about a third of a PNG's bytes. A face is 6 x 6 of its blocks of 8 x 8 pixels, so that no
face bleeds into the next.
"""

from __future__ import annotations

import io
import math
from typing import NamedTuple

import numpy as np
from PIL import Image

from fer.labels import CLASSES

QUALITY = 90
FACES_A_CELL = 1000  # the most confident; a browser draws no more at once with comfort


class Cell(NamedTuple):
    """Where a cell's faces are: `shown` of them, from place `first` on."""

    first: int
    shown: int


class FaceSheet(NamedTuple):
    """The picture, and what is where in it. Place p is column p % columns of line p // columns."""

    jpeg: bytes
    columns: int
    cells: list[Cell]  # 49, row by row of the confusion matrix
    positions: np.ndarray  # [places] of each face among the examples
    confidence: np.ndarray  # [places]


def sheet(labels: np.ndarray, probabilities: np.ndarray, images: np.ndarray) -> FaceSheet:
    """Lays the faces of each cell out side by side, the most confident first.

    Args:
      labels: [n] integers in 0..6, n at least 1.
      probabilities: [n, 7].
      images: [n, 48, 48, 1] uint8.
    """
    confidence = probabilities.max(axis=1)
    numbers = len(CLASSES) * labels + probabilities.argmax(axis=1)
    cells: list[Cell] = []
    chosen: list[np.ndarray] = []
    first = 0
    for number in range(len(CLASSES) ** 2):
        members = np.flatnonzero(numbers == number)
        members = members[np.argsort(-confidence[members], kind="stable")][:FACES_A_CELL]
        cells.append(Cell(first, len(members)))
        chosen.append(members)
        first += len(members)
    positions = np.concatenate(chosen)
    columns = math.ceil(math.sqrt(first))
    return FaceSheet(_jpeg(images[positions, :, :, 0], columns), columns, cells, positions, confidence[positions])


def _jpeg(faces: np.ndarray, columns: int) -> bytes:
    side = faces.shape[1]
    lines = -(-len(faces) // columns)
    filled = np.zeros((lines * columns, side, side), np.uint8)
    filled[: len(faces)] = faces
    picture = filled.reshape(lines, columns, side, side).swapaxes(1, 2).reshape(lines * side, columns * side)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=QUALITY, optimize=True)
    return file.getvalue()
