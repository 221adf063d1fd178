"""Sprite sheet of faces, grouped by cell of the confusion matrix, so that a page with thousands of faces stays small.

A JPEG of quality 90 takes about a third of the bytes of a PNG. A face covers 6 x 6 whole JPEG blocks of 8 x 8 pixels,
so that compression does not mix neighbouring faces.
"""

from __future__ import annotations

import io
import math
from typing import NamedTuple

import numpy as np
from PIL import Image

QUALITY = 90
MAX_FACES_PER_CELL = 1000  # the most confident ones; browsers become slow with more


class Cell(NamedTuple):
    """Range of a cell's faces on the sheet: `shown` places from place `first` on."""

    first: int
    shown: int


class FaceSheet(NamedTuple):
    """A sprite sheet and its index. Place p is in column p % columns of line p // columns."""

    jpeg: bytes
    columns: int
    cells: list[Cell]  # C * C, row by row of the confusion matrix
    positions: np.ndarray  # [places] integers, index of each face among the examples
    confidence: np.ndarray  # [places] of each face, in [0, 1]


def build_sheet(labels: np.ndarray, probabilities: np.ndarray, images: np.ndarray) -> FaceSheet:
    """Builds the sprite sheet: the faces of each cell side by side, the most confident first.

    Args:
      labels: [n] integers in 0..C-1, n at least 1.
      probabilities: [n, C].
      images: [n, 48, 48, 1] uint8.
    """
    confidence = probabilities.max(axis=1)
    classes = probabilities.shape[1]
    numbers = classes * labels + probabilities.argmax(axis=1)
    order = np.lexsort((-confidence, numbers))  # by cell, then by confidence
    counts = np.bincount(numbers, minlength=classes**2)
    chosen = [members[:MAX_FACES_PER_CELL] for members in np.split(order, np.cumsum(counts)[:-1])]
    shown = [len(members) for members in chosen]
    cells = [Cell(first, count) for first, count in zip([0, *np.cumsum(shown).tolist()], shown)]
    positions = np.concatenate(chosen)
    columns = math.ceil(math.sqrt(len(positions)))
    return FaceSheet(_jpeg(images[positions, :, :, 0], columns), columns, cells, positions, confidence[positions])


def _jpeg(faces: np.ndarray, columns: int) -> bytes:
    """Encodes faces [n, 48, 48] uint8 as one JPEG with `columns` faces a line; the rest of the last line is black."""
    side = faces.shape[1]
    lines = -(-len(faces) // columns)
    filled = np.zeros((lines * columns, side, side), np.uint8)
    filled[: len(faces)] = faces
    picture = filled.reshape(lines, columns, side, side).swapaxes(1, 2).reshape(lines * side, columns * side)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=QUALITY, optimize=True)
    return file.getvalue()
