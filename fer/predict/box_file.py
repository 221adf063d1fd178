"""Reads the boxes of faces from a CSV file, to classify these faces instead of detected ones.

This module imports nothing large, so that an error in the file is reported at once.
"""

from __future__ import annotations

import csv
import io
import math
import os
from typing import TYPE_CHECKING, NamedTuple

from fer.errors import UserError
from fer.io import files

if TYPE_CHECKING:
    from PIL import Image

    from fer.predict.classification import Source
    from fer.predict.face_detection import Box, FaceCrops

COLUMNS = ("path", "x", "y", "width", "height")
MAX_BYTES = 64 << 20


class BoxError(ValueError):
    """A row of a file of boxes is wrong. The message names file, line and column."""


class Row(NamedTuple):
    """A row of the file."""

    line: int  # from 1
    path: str
    x: int
    y: int
    width: int
    height: int


def open_boxes(path: str | None, faces: str, output: str | None) -> BoxFile | None:
    """Reads the file of --boxes, if the flag is set.

    Raises:
      UserError: as `BoxFile`; --faces is set too; or the file is that of --output.
    """
    if path is None:
        return None
    if faces != "auto":
        raise UserError(f"--boxes names the faces, and --faces={faces} too: omit one of them.")
    if output is not None and os.path.realpath(output) == os.path.realpath(path):
        raise UserError(f"--output={output} would replace the file of --boxes. Name another.")
    return BoxFile(path)


class BoxFile:
    """Boxes of the faces in pictures. A picture without a row has no face."""

    def __init__(self, path: str):
        """Reads a CSV file.

        Args:
          path: of a file with the columns path, x, y, width and height, in any order, besides others. A picture with
            several faces has several rows. x and y are the left and the upper edge in pixels of the upright picture.
            All four edges are rounded to pixels.

        Raises:
          UserError: the file cannot be read, has no rows, or has wrong ones; the message has a line for each of them.
        """
        self._path = path
        self._rows: dict[str, list[Row]] = {}  # by normalized path of the picture
        errors = []
        content = files.read_bytes(path, f"There is no {path}, which --boxes names.", most=MAX_BYTES)
        text = content.decode("utf-8-sig", "surrogateescape")  # names of pictures may have other encodings
        reader = csv.reader(io.StringIO(text, newline=""))
        try:
            places = self._find_columns([name.strip().lower() for name in next(reader, [])])
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    try:
                        row = self._parse(reader.line_num, cells, places)
                        self._rows.setdefault(os.path.normpath(row.path), []).append(row)
                    except BoxError as error:
                        errors.append(str(error))
        except csv.Error as error:
            raise UserError(f"{path}, line {reader.line_num}: the row is no CSV ({error}).") from error
        if errors:
            raise UserError("\n".join(errors))
        if not self._rows:
            raise UserError(f"{path} has no rows: each has the {', '.join(COLUMNS)} of a face.")
        self._used: dict[str, str] = {}  # by path of `_rows`, the path of the picture of the input

    def extract(self, source: Source) -> FaceCrops:
        """Returns the faces of a picture, in the order of their rows.

        Raises:
          PictureError: it is no picture, is damaged or is too large.
          BoxError: a box is not within the picture.
        """
        from fer.predict import face_detection

        rows = self._find(source)

        def locate(image: Image.Image) -> list[Box]:
            for row in rows:
                self._check_within(row, image, source.path)
            return [face_detection.Box(row.x, row.y, row.width, row.height) for row in rows]

        return face_detection.extract_faces(source.picture, "find", detector=locate)

    def mark_used(self, source: Source) -> None:
        """Marks the rows of a picture of the input.

        Raises:
          UserError: it is a row of a table; or another picture has the same rows, since their path is that of the one
            and, below the input, that of the other.
        """
        if source.row is not None:
            raise UserError(f"--boxes is for pictures, and {source.path} is a table: omit one of them.")
        picture, *_ = _paths(source)
        for path in _paths(source):
            if path not in self._rows:
                continue
            other = self._used.setdefault(path, picture)
            if os.path.realpath(other) != os.path.realpath(picture):
                raise UserError(
                    f"{self._at(self._rows[path][0].line)}, column path: {path!r} names two pictures, {other} and "
                    f"{picture}. Write the path as it is printed, or use absolute paths here and in --input."
                )

    def unused(self) -> list[str]:
        """Returns a message for each path that is not one of a picture of the input."""
        rows = [rows[0] for path, rows in self._rows.items() if path not in self._used]
        return [f"{self._at(row.line)}, column path: {row.path!r} is no picture of the input" for row in rows]

    def _find(self, source: Source) -> list[Row]:
        """Returns the rows of a picture under all of its paths, in their order in the file."""
        return sorted(row for path in _paths(source) for row in self._rows.get(path, []))

    def _at(self, line: int) -> str:
        return f"{self._path}, line {line}"

    def _find_columns(self, header: list[str]) -> list[int]:
        """Returns the positions of `COLUMNS`.

        Raises:
          UserError: one is missing or occurs twice.
        """
        for name in COLUMNS:
            if header.count(name) != 1:
                fault = "occurs twice" if name in header else f"is missing among {', '.join(header)!r}"
                raise UserError(f"{self._at(1)}: column {name} {fault}; expected are {', '.join(COLUMNS)}.")
        return [header.index(name) for name in COLUMNS]

    def _parse(self, line: int, cells: list[str], places: list[int]) -> Row:
        """Returns a row.

        Raises:
          BoxError: a cell is missing or wrong.
        """
        values = []
        for name, place in zip(COLUMNS, places):
            at = f"{self._at(line)}, column {name}"
            cell = cells[place].strip() if place < len(cells) else ""
            if not cell:
                raise BoxError(f"{at}: the cell is empty.")
            if name == "path":
                path = cell
                continue
            try:
                value = float(cell)
            except ValueError:
                value = math.nan
            if not math.isfinite(value):
                raise BoxError(f"{at}: {cell!r} is no number.")
            values.append(value)
            least = 1 if name in ("width", "height") else 0
            if round(value) < least:
                raise BoxError(f"{at}: {cell} is less than {least} pixel{'s' * (least != 1)}.")
        x, y, width, height = values
        return Row(line, path, round(x), round(y), _rounded_length(x, width), _rounded_length(y, height))

    def _check_within(self, row: Row, image: Image.Image, path: str) -> None:
        """Checks a box against its picture.

        Raises:
          BoxError: it is not within the picture.
        """
        edges = (("x", "width", row.x, row.width, image.width), ("y", "height", row.y, row.height, image.height))
        for start_name, name, start, length, side in edges:
            if start + length > side:
                column = start_name if start >= side else name
                raise BoxError(
                    f"{self._at(row.line)}, column {column}: the box ends at {start_name} {start + length}, and {path} "
                    f"has a {name} of {side} pixels"
                )


def _rounded_length(start: float, length: float) -> int:
    """Returns the pixels between the rounded edges, at least 1. A box that ends at the edge of a picture fits in it."""
    return max(1, round(start + length) - round(start))


def _paths(source: Source) -> list[str]:
    """Returns the paths under which a picture may be in the file: as given, and below the input."""
    return list(dict.fromkeys([os.path.normpath(source.path), os.path.normpath(source.name)]))
