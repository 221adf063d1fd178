"""Tables of faces: every CSV form in which FER-2013 is published, one line per face.

    fer2013.csv         emotion,pixels,Usage
    icml_face_data.csv  emotion, Usage, pixels      (with these spaces)
    train.csv           emotion,pixels
    test.csv            pixels                      (no labels: test set of the challenge)

Columns are found by their names, in any order, case, spacing and quoting; other columns are ignored. A row is a line: a
field may be quoted, but not continue on the next line.
"""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from fer.convert.readers import pixel_parser
from fer.convert.readers.label_map import DEFAULT_MAP, EXCLUDED, FLAG_VALUES, LabelMap, describe_classes
from fer.convert.rows import NO_SPLIT, SPLIT_OF_USAGE, UNLABELLED, Block, Reject
from fer.errors import UserError
from fer.labels import CLASS_SETS, CLASSES

MAX_LINE_BYTES = 1 << 20  # the longest line of FER-2013 has 9.2 kB
_LONG_LINE = 256  # bytes

LABEL_OUT_OF_RANGE = "label out of range"  # kind of reject: the label is a number without a class

Bytes = bytes | memoryview

_BOM = b"\xef\xbb\xbf"

# Columns that a table without labels may have besides `pixels`; any other one may hold labels under another name.
_UNLABELLED_COLUMNS = {
    *("", "id", "index", "idx", "no", "number", "row", "unnamed: 0", "image", "image name", "image_name"),
    *("image_id", "file", "filename", "file name", "file_name", "path", "name"),
}
_SPLIT_COLUMNS = {"split", "splits", "set", "subset", "partition", "phase", "usages", "purpose", "dataset", "data_set"}
_FORMATS = {
    ("emotion", "pixels", "Usage"): "fer2013.csv (emotion,pixels,Usage)",
    ("emotion", " Usage", " pixels"): "icml_face_data.csv (emotion, Usage, pixels)",
    ("emotion", "pixels"): "the challenge's train.csv (emotion,pixels)",
    ("pixels",): "the challenge's test.csv (pixels, no labels)",
}


@dataclasses.dataclass(frozen=True)
class Header:
    """The columns of a table: their number, and the positions of those that are read (None if absent)."""

    columns: int
    pixels: int
    emotion: int | None
    usage: int | None
    form: str  # description for the user
    ignored: tuple[str, ...]
    labels: LabelMap = DEFAULT_MAP  # classes of the values of `emotion`


@dataclasses.dataclass(frozen=True)
class Lines:
    """Consecutive lines of a table, not yet parsed."""

    name: str
    header: Header
    first: int  # number of the first line, from 1
    text: bytes  # without the last line's end


def is_table(head: bytes) -> bool:
    """Returns whether the beginning of a file holds a header with a column `pixels`."""
    first = head.removeprefix(_BOM).split(b"\n", 1)[0]
    return "pixels" in [name.strip().lower() for name in _split_header(first)]


def read_header(name: str, line: bytes) -> Header:
    """Parses the first line of a table.

    Args:
      name: of the file, for messages.
      line: the first line, with or without its end and a byte order mark.

    Raises:
      UserError: a column is missing or occurs twice.
    """
    names = _split_header(line.removeprefix(_BOM))
    found: dict[str, int] = {}
    ignored = []
    for position, column in enumerate(names):
        key = column.strip().lower()
        if key not in ("emotion", "pixels", "usage"):
            ignored.append(column.strip())
        elif key in found:
            raise UserError(f"{name}, line 1: column {column.strip()} occurs twice; keep one of them.")
        else:
            found[key] = position
    if "pixels" not in found or ("usage" in found and "emotion" not in found):
        missing = "emotion" if "pixels" in found else "pixels"
        raise UserError(
            f"{name}, line 1: there is no column {missing}, but {', '.join(names)!r}; expected are the columns "
            "emotion, pixels and Usage of fer2013.csv, emotion and pixels, pixels alone, or path and label of pictures."
        )
    form = _FORMATS.get(tuple(names), f"a table with the columns {', '.join(column.strip() for column in names)}")
    return Header(len(names), found["pixels"], found.get("emotion"), found.get("usage"), form, tuple(ignored))


def check_columns(name: str, header: Header) -> None:
    """Checks that no other column may hold the labels or splits of a table without them: they would be lost.

    Raises:
      UserError: names these columns and the names that are expected.
    """
    if header.emotion is None:
        others = [column for column in header.ignored if column.lower() not in _UNLABELLED_COLUMNS]
        if others:
            raise UserError(
                f"{name}, line 1: there is no column emotion, and {_join_names(others)} may hold the labels: call the "
                "column of the labels emotion (0 angry, 1 disgust, 2 fear, 3 happy, 4 sad, 5 surprise, 6 neutral; "
                "--label_map for others), or remove it from a table without labels."
            )
    elif header.usage is None:
        others = [column for column in header.ignored if column.lower() in _SPLIT_COLUMNS]
        if others:
            raise UserError(
                f"{name}, line 1: there is no column Usage, and {_join_names(others)} may hold the splits: call it "
                "Usage (Training, PublicTest, PrivateTest), or remove it to have the faces divided."
            )


def _join_names(columns: list[str], most: int = 5) -> str:
    """Returns the names of columns for a message, shortened."""
    shown = ", ".join(column if len(column) <= 40 else column[:40] + "..." for column in columns[:most])
    return shown + (f" and {len(columns) - most:,} more" if len(columns) > most else "")


def iter_chunks(name: str, chunks: Iterator[bytes]) -> Iterator[Lines]:
    """Splits the bytes of a table into chunks of whole lines, without the header.

    Raises:
      UserError: the table is empty, its header is wrong, or a line is longer than `MAX_LINE_BYTES`.
    """
    header: Header | None = None
    first, rest = 1, b""
    for chunk in chunks:
        text, newline, rest = _split_at_last_newline(rest, chunk)
        if len(rest) > MAX_LINE_BYTES:
            at = first + text.count(b"\n") + bool(newline)
            raise UserError(f"{name}, line {at} is longer than {MAX_LINE_BYTES:,} bytes: this is not a table of faces.")
        if header is None and newline:
            line, newline, text = text.partition(b"\n")
            header, first = read_header(name, line), 2
        if header is not None and newline:
            yield Lines(name, header, first, text)
            first += _count_newlines(text) + 1
    if header is None:
        header, first, rest = read_header(name, rest), 2, b""
    if rest:
        yield Lines(name, header, first, rest)


def _count_newlines(text: bytes) -> int:
    """Counts newlines; in long lines, like those of FER-2013, `find` is five times as fast as `count`."""
    count, at = 0, text.find(b"\n")
    if at < _LONG_LINE:
        return text.count(b"\n")
    while at >= 0:
        count, at = count + 1, text.find(b"\n", at + 1)
    return count


def _split_at_last_newline(rest: bytes, chunk: bytes) -> tuple[bytes, bytes, bytes]:
    r"""Returns `(rest + chunk).rpartition(b"\n")`, copying each byte once."""
    end = chunk.rfind(b"\n")
    if end < 0:
        return b"", b"", rest + chunk
    return b"".join([rest, memoryview(chunk)[:end]]), b"\n", chunk[end + 1 :]


def parse_lines(lines: Lines) -> Block:
    """Parses lines into faces and rejects, in their order."""
    count = blank = excluded = 0
    faces: list[_PendingRow] = []
    rejects: list[Reject] = []
    cells = lines.header.labels.cell_labels()
    for number, line, fields in _iter_lines(lines):
        if not line or (isinstance(fields, list) and len(fields) < 2 and bytes(line).isspace()):
            blank += 1
            continue
        count += 1
        parsed = _parse_fields(fields, lines.header, cells)
        if isinstance(parsed, _Fault):
            rejects.append(parsed.reject(lines.name, number, line))
        elif parsed[0] == EXCLUDED:
            excluded += 1
        else:
            faces.append(_PendingRow(count - 1, number, line, *parsed))
    images, faults = pixel_parser.parse_pixels([face.pixels for face in faces])
    if faults:
        for position, reason in faults.items():
            fault = _Fault("pixels", "bad pixels", reason)
            rejects.append(fault.reject(lines.name, faces[position].number, faces[position].line))
        rejects.sort(key=lambda reject: reject.line)
        valid = [position for position in range(len(faces)) if position not in faults]
        images, faces = images[valid], [faces[position] for position in valid]
    return Block(
        images=images,
        labels=np.array([face.label for face in faces], np.int64),
        splits=np.array([face.split for face in faces], np.int64),
        rows=np.array([face.row for face in faces], np.int64),
        count=count,
        blank=blank,
        rejects=tuple(rejects),
        excluded=excluded,
    )


class _PendingRow(NamedTuple):
    """A row whose pixels are still to be parsed."""

    row: int
    number: int
    line: memoryview
    label: int
    split: int
    pixels: Bytes


@dataclasses.dataclass(frozen=True)
class _Fault:
    """The fault of a row; `column` is "" if the row as a whole is wrong."""

    column: str
    kind: str
    reason: str

    def reject(self, name: str, number: int, line: memoryview) -> Reject:
        """Returns the reject of the row."""
        return Reject(name, number, self.column, self.kind, self.reason, bytes(line))


def _iter_lines(lines: Lines) -> Iterator[tuple[int, memoryview, list[Bytes] | _Fault]]:
    """Yields number, text and fields of each line, without copying: copies of the long texts would cost time."""
    text, view, quoted = lines.text, memoryview(lines.text), b'"' in lines.text
    start, number = 0, lines.first
    while start <= len(text):
        newline = text.find(b"\n", start)
        stop = newline if newline >= 0 else len(text)
        end = stop - text.endswith(b"\r", start, stop)
        line = view[start:end]
        yield (
            number,
            line,
            _split_quoted_fields(bytes(line), lines.header) if quoted else _split_fields(text, view, start, end),
        )
        start, number = stop + 1, number + 1


def _split_fields(text: bytes, view: memoryview, start: int, stop: int) -> list[Bytes]:
    """Returns the fields of a line without quotes."""
    fields: list[Bytes] = []
    while (comma := text.find(b",", start, stop)) >= 0:
        fields.append(view[start:comma])
        start = comma + 1
    fields.append(view[start:stop])
    return fields


def _split_quoted_fields(line: bytes, header: Header) -> list[Bytes] | _Fault:
    """Returns the fields of a line that may have quotes, or a fault."""
    fields = line.split(b",")
    whole = [field for field in fields if len(field) > 1 and field[:1] == b'"' == field[-1:]]
    if len(fields) == header.columns and line.count(b'"') == 2 * len(whole):
        return [field.strip(b'"') for field in fields]
    try:
        # A stray carriage return is white space, as in a line without quotes; the csv module would end the line there.
        text = line.replace(b"\r", b" ").decode("latin-1")
        parsed = next(csv.reader([text], strict=True, skipinitialspace=True), [""])
        return [field.encode("latin-1") for field in parsed]
    except csv.Error as error:
        return _Fault("", "bad quotes", f"its quotes are wrong ({error})")


def _parse_fields(
    fields: list[Bytes] | _Fault, header: Header, cells: Mapping[bytes, int]
) -> tuple[int, int, Bytes] | _Fault:
    """Returns label, split and pixels of a row, or its first fault; `cells` are the labels by their text."""
    if isinstance(fields, _Fault):
        return fields
    if len(fields) != header.columns:
        counted = f"{len(fields)} field{'s' * (len(fields) != 1)}"
        return _Fault("", "wrong number of fields", f"{counted} where the header names {header.columns}")
    label = UNLABELLED
    split = NO_SPLIT if header.emotion is not None else SPLIT_OF_USAGE["privatetest"]
    if header.emotion is not None:
        text = bytes(fields[header.emotion])
        label = cells.get(text.strip().lower(), UNLABELLED)
        if label == UNLABELLED:
            kind = LABEL_OUT_OF_RANGE if text.strip().isdigit() else "bad label"
            return _Fault(
                "emotion", kind, f"{pixel_parser.shorten(text)} is no label{_describe_labels(text, header.labels)}"
            )
    if header.usage is not None:
        text = bytes(fields[header.usage])
        split = SPLIT_OF_USAGE.get(text.strip().lower().decode("latin-1"), NO_SPLIT)
        if split == NO_SPLIT:
            return _Fault(
                "Usage", "bad usage", f"{pixel_parser.shorten(text)} is not Training, PublicTest or PrivateTest"
            )
    return label, split, fields[header.pixels]


def _describe_labels(text: bytes, labels: LabelMap) -> str:
    """Returns the valid labels, to follow "is no label" in a message."""
    if labels.given:
        return f" of --label_map={labels.given}"
    if labels.classes != CLASSES:
        numbers = f"; name the order of its numbers with --label_map={FLAG_VALUES}" if text.strip().isdigit() else ""
        if labels.classes == CLASS_SETS["ferplus"]:
            numbers = "; give the votes on FER-2013's rows with --ferplus=fer2013new.csv"
        return f"; {describe_classes(labels.classes)} are{numbers}"
    others = ", and words with --label_map=fer2013" if DEFAULT_MAP.find(text.decode("latin-1")) is not None else ""
    if text.strip().isdigit():
        others = ", and other orders with --label_map"
    return f"; 0 to {len(CLASSES) - 1} are{others}"


def _split_header(line: bytes) -> list[str]:
    """Returns the names of a header's columns."""
    text = line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8", "backslashreplace")
    try:
        # A space before a quote is not part of the name. Others are: they identify the form of icml_face_data.csv.
        return next(csv.reader([text], strict=True, skipinitialspace='"' in text), [])
    except csv.Error:
        return text.split(",")
