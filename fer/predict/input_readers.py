"""Reads what is to be classified: tables of pixels, folders and archives of pictures, photos, or a single picture."""

from __future__ import annotations

import collections
import dataclasses
import os
import sys
from collections.abc import Iterator, Sequence

from fer import storage
from fer.convert.readers import archives, csv_reader, formats, image_reader, unsupported_files
from fer.convert.readers.hashing_reader import HashingReader
from fer.convert.readers.unsupported_files import SkippedFiles
from fer.errors import UserError
from fer.io import files
from fer.labels import SIDE
from fer.predict.classification import Source
from fer.predict.inputs import STANDARD_INPUT


class RowError(UserError):
    """A row of a table that cannot be read, which ends the prediction."""


def read(paths: Sequence[str], skipped: collections.Counter[str] | None = None) -> Iterator[Source]:
    """Reads pictures and rows of tables; labels are ignored.

    Args:
      paths: tables with a column pixels (such as test.csv of the challenge or fer2013.csv) or pictures (of
        `image_reader.FORMAT_NAMES`), alone, in a folder or in an archive; compressed or not. "-" reads one picture from
        the standard input.
      skipped: counts the files of folders and archives that are of other formats, by file extension.

    Yields:
      Them in the order of the paths, and below a folder by name. One with an `error` stands for each picture, file or
      folder that cannot be read.

    Raises:
      RowError: a row of a table cannot be read.
    """
    for path in paths:
        passed = SkippedFiles()
        for source in _read_input(path, passed):
            name = source.name if len(paths) == 1 else source.title
            yield source._replace(name=archives.printable_name(name))
        if skipped is not None:
            skipped.update(passed.counts())


def _read_input(path: str, skipped: SkippedFiles) -> Iterator[Source]:
    empty = True
    for source in _read_standard_input() if path == STANDARD_INPUT else _read_path(path, skipped):
        empty = False
        yield source
    if empty:
        others = unsupported_files.describe_counts(skipped.counts())
        reason = (
            f"{path} holds neither a table with a column pixels nor pictures ({image_reader.FORMAT_NAMES} are read)"
        )
        yield Source(path, path, error=f"{reason}, but {others}" if others else reason)


def _read_path(path: str, skipped: SkippedFiles) -> Iterator[Source]:
    if storage.is_remote(path) or not os.path.isdir(path):
        yield from _read_file(path, "", skipped)
        return
    for full, error in _walk(path, skipped):
        below = os.path.relpath(full, path)
        if error:
            yield Source(full, below, error=error)
        else:
            yield from _read_file(full, below, skipped)


def _walk(folder: str, skipped: SkippedFiles) -> Iterator[tuple[str, str]]:
    """Yields the path of every file below a local folder that is not hidden, folder by folder and by name.

    Links to folders are followed, each folder once. With the path of a folder that cannot be read comes the reason.
    """
    failed: list[OSError] = []
    found: list[tuple[str, list[str]]] = []
    known = {os.path.realpath(folder)}
    for place, folders, names in os.walk(folder, onerror=failed.append, followlinks=True):
        shown = [
            [name for name in each if not skipped.hides(os.path.relpath(os.path.join(place, name), folder))]
            for each in (folders, names)
        ]
        real = {name: os.path.realpath(os.path.join(place, name)) for name in shown[0]}
        folders[:] = [name for name in shown[0] if real[name] not in known]
        known.update(real.values())
        found.append((place, sorted(shown[1])))
    for place, names in sorted(found):
        yield from ((os.path.join(place, name), "") for name in names)
    for error in failed:
        place = str(error.filename)
        yield place, f"Cannot read {place}: {files.error_message(error)}"


def _read_file(path: str, below: str, skipped: SkippedFiles) -> Iterator[Source]:
    """Reads a file, or a folder in a store.

    Args:
      path: of the file.
      below: path below the input, if that is a folder; then files of other formats are skipped.
      skipped: counts them.

    Raises:
      RowError: see `read`.
    """
    try:
        for member in archives.iter_members(path, HashingReader(), skipped):
            yield from _read_member(member, path, below, skipped)
    except RowError:
        raise
    except UserError as error:
        text, name = str(error).rstrip("."), os.path.basename(path)
        shown = path + text[len(name) :] if text.startswith(name) else text
        yield Source(path, below or name, error=shown)


def _read_member(member: archives.Member, path: str, below: str, skipped: SkippedFiles) -> Iterator[Source]:
    head = member.head()
    title, name = path, below or os.path.basename(path)
    if member.path:
        title = f"{path}:{member.path}"
        name = os.path.join(below, member.path)
    if csv_reader.is_table(head):
        yield from _read_table(member, title, head)
    elif image_reader.is_picture(name, head):
        yield Source(title, name, member.content(image_reader.MAX_BYTES))
    elif below or member.path:
        skipped.add(name)
    else:
        yield from _read_table(member, title, head)


def _read_table(member: archives.Member, path: str, head: bytes) -> Iterator[Source]:
    """Reads the rows of a table, without its labels.

    Raises:
      RowError: names the first row that cannot be read.
      UserError: it is no table, or has no rows.
    """
    formats.check_table_text(member.name, head)
    count = 0
    for chunk in csv_reader.iter_chunks(member.name, member.chunks()):
        unlabelled = dataclasses.replace(chunk.header, emotion=None, usage=None)
        block = csv_reader.parse_lines(dataclasses.replace(chunk, header=unlabelled))
        if block.rejects:
            raise RowError(f"{block.rejects[0]}. Repair or remove this row.")
        for row, image in enumerate(block.images.reshape(-1, SIDE, SIDE, 1), start=count):
            yield Source(path, str(row), face=image, row=row)
        count += len(block.images)
    if not count:
        raise UserError(f"{member.name} holds 0 faces: name a table with rows, or pictures of faces.")


def _read_standard_input() -> Iterator[Source]:
    """Reads one picture from the standard input.

    Raises:
      UserError: the standard input is closed, cannot be read, is too large or is no picture.
    """
    try:
        yield Source("stdin", "stdin", _read_picture())
    except UserError as error:
        yield Source("stdin", "stdin", error=str(error).rstrip("."))


def _read_picture() -> bytes:
    """Returns the bytes of the picture on the standard input.

    Raises:
      UserError: the standard input is closed, cannot be read, is too large or is no picture.
    """
    if sys.stdin is None:
        raise UserError("Standard input is closed: --input=- reads one picture from it.")
    try:
        content = sys.stdin.buffer.read(image_reader.MAX_BYTES + 1)
    except OSError as error:
        raise UserError(f"Cannot read standard input: {files.error_message(error)}.") from error
    if len(content) > image_reader.MAX_BYTES:
        raise UserError(
            f"Standard input holds more than {image_reader.MAX_BYTES:,} bytes: --input=- reads one picture."
        )
    if not image_reader.is_picture("", content[: archives.HEAD_BYTES]):
        kind = unsupported_files.identify(content[: archives.HEAD_BYTES])
        found = f"is {kind[0]}" if kind else "is no picture"
        raise UserError(
            f"Standard input {found}: --input=- reads the bytes of one picture ({image_reader.FORMAT_NAMES})."
        )
    return content
