"""Tables of pictures: a CSV with columns for the path and the label of each picture, and for its split if any.

    path,label,split                                             a table of one's own
    subDirectory_filePath,face_x,...,expression,valence,arousal  AffectNet's training.csv and validation.csv

Paths are relative to the folder of the table. Columns are found by their names, in any order and case; other columns
are ignored. Without a column for the split, a table's own name may be one: "training.csv". A row is a line, as in a
table of pixels.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator

from fer import escaping, storage
from fer.convert.readers import archives, image_folder, image_reader
from fer.convert.readers.archives import Member
from fer.convert.readers.hashing_reader import HashingReader
from fer.convert.readers.image_folder import Picture, TableRow
from fer.convert.rows import NO_SPLIT
from fer.errors import UserError, shorten
from fer.io import files

MAX_BYTES = 1 << 28  # of a table

_COLUMNS = {
    "path": {
        *("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "image_name"),
        "subdirectory_filepath",
    },
    "label": {"label", "class", "emotion", "expression"},
    "split": {"split", "usage", "set", "subset", "partition"},
}


def is_table(head: bytes) -> bool:
    """Returns whether the beginning of a file holds a header with columns for paths and labels, and none for pixels."""
    names = [name.strip().lower() for name in _split_line(head.split(b"\n", 1)[0].decode("utf-8-sig", "replace")) or []]
    return "pixels" not in names and all(_COLUMNS[kind] & set(names) for kind in ("path", "label"))


def iter_pictures(path: str, member: Member, hasher: HashingReader) -> Iterator[Picture]:
    """Reads the pictures of a table, in the order of its rows.

    Args:
      path: of the table, local or remote.
      member: its content.
      hasher: receives the bytes of the pictures.

    Raises:
      UserError: the table is too large, not UTF-8, or has two columns of a kind; or a picture cannot be read.
    """
    for row, place in _iter_rows(path, member.name, member.content(MAX_BYTES)):
        name = f"{row.file}, line {row.line}: {escaping.escape_line(place)}"
        full = os.path.join(os.path.dirname(path), place)
        content = b"" if row.fault else archives.read_file(full, name, hasher, image_reader.MAX_BYTES)
        yield Picture(name, place, content, row=row)


def picture_bytes(path: str) -> int:
    """Returns the size of the pictures that a table names; 0 for a path that is no table, is compressed or is remote.

    Raises:
      UserError: see `iter_pictures`.
    """
    if storage.is_remote(path):  # each size would be a request
        return 0
    with archives.archive_errors(path):
        if not files.exists(path) or files.isdir(path):
            return 0
        with files.open_file(path) as file:
            head = file.read(archives.HEAD_BYTES)
            content = head + file.read(MAX_BYTES) if is_table(head) else b""
    rows = _iter_rows(path, os.path.basename(path), content) if content else ()
    folder = os.path.dirname(path)
    return sum(files.size(os.path.join(folder, place)) for row, place in rows if not row.fault)


def _iter_rows(path: str, name: str, content: bytes) -> Iterator[tuple[TableRow, str]]:
    """Yields the rows of a table that are not blank, and the path that each names.

    Raises:
      UserError: the table is too large, not UTF-8, or has two columns of a kind.
    """
    if len(content) > MAX_BYTES:
        raise UserError(f"{name} has more than {MAX_BYTES:,} bytes: split it into several tables.")
    try:
        head, *lines = content.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is not UTF-8 ({error}): save it as UTF-8.") from error
    columns = _find_columns(name, head)
    names = _split_line(head) or []
    ignored = [column.strip() for position, column in enumerate(names) if position not in columns.values()]
    form = f"a table of pictures{'; ignored: ' if ignored else ''}{', '.join(ignored)}"
    split = None if "split" in columns else image_folder.parse_split(os.path.splitext(os.path.basename(path))[0])
    for number, line in enumerate(lines, 2):
        text = line.removesuffix("\r")
        if text.strip():
            row = TableRow(name, form, number, text.encode(), "", NO_SPLIT if split is None else split)
            yield _parse_row(row, len(names), columns, path)


def _find_columns(name: str, head: str) -> dict[str, int]:
    """Returns the positions of the columns, by the keys of `_COLUMNS`.

    Raises:
      UserError: there are two columns of a kind.
    """
    found: dict[str, int] = {}
    names = _split_line(head) or []
    for position, column in enumerate(names):
        for kind, known in _COLUMNS.items():
            if column.strip().lower() in known:
                if kind in found:
                    raise UserError(
                        f"{name}, line 1: the columns {names[found[kind]].strip()} and {column.strip()} may both hold "
                        f"the {kind}: remove one of them."
                    )
                found[kind] = position
    return found


def _parse_row(row: TableRow, fields: int, columns: dict[str, int], table: str) -> tuple[TableRow, str]:
    """Returns a row with its label and split, or with its fault, and the path that it names."""
    cells = _split_line(row.text.decode())
    if cells is None or len(cells) != fields:
        number = len(cells or ())
        counted = f"{number} field{'s' * (number != 1)} where the header names {fields}"
        counted = "its quotes are wrong" if cells is None else counted
        return row.replace(fault=("", "wrong number of fields", counted)), ""
    place, label = cells[columns["path"]].strip(), cells[columns["label"]].strip()
    row = row.replace(label=label)
    split = image_folder.parse_split(cells[columns["split"]]) if "split" in columns else row.split
    if split is None:
        text = shorten(cells[columns["split"]])
        return row.replace(fault=("split", "bad split", f"{text!r} is not train, validation or test")), place
    full = os.path.join(os.path.dirname(table), place)
    if not label:
        return row.replace(fault=("label", "bad label", "it is empty")), place
    with archives.archive_errors(f"{row.file}, line {row.line}"):
        if not place or not files.exists(full) or files.isdir(full):
            return row.replace(fault=("path", "missing picture", f"there is no file {shorten(place)!r}")), place
    return row.replace(split=split), place


def _split_line(line: str) -> list[str] | None:
    """Returns the fields of a line; None if its quotes are wrong."""
    try:
        return next(csv.reader([line], strict=True, skipinitialspace=True), [])
    except csv.Error:
        return None
