"""Format detection: tables and pictures in every published form, recognized by content -> chunks in source order."""

from __future__ import annotations

import os
from collections.abc import Iterator

from fer.convert.parser_process import Chunk
from fer.convert.readers import archives, csv_reader, image_reader, picture_table, unsupported_files
from fer.convert.readers.hashing_reader import HashingReader
from fer.convert.readers.image_folder import Picture, Pictures
from fer.convert.readers.unsupported_files import SkippedFiles
from fer.errors import UserError

MAX_PICTURES = 64  # maximum in a chunk
MAX_PICTURE_BYTES = 16 << 20  # in a chunk; a larger picture is a chunk by itself

IMAGE_FOLDER = "pictures in class folders"


def iter_chunks(path: str, hasher: HashingReader, passed: SkippedFiles | None = None) -> Iterator[Chunk]:
    """Reads a path: one table of pixels or of pictures, or pictures in class folders. Skips and counts other files.

    Args:
      path: a file, an archive or a folder, local or remote.
      hasher: receives the stored bytes.
      passed: counts the skipped files.

    Raises:
      UserError: the path is missing, damaged, neither a table nor pictures, or holds several tables or both.
    """
    found, opened = "", archives.folder_names(path)
    passed = SkippedFiles() if passed is None else passed
    batch = _Batch()
    for member in archives.iter_members(path, hasher, passed):
        head = member.head()
        if not member.path and picture_table.is_table(head):
            found = f"the table {member.name}"
            for picture in picture_table.iter_pictures(path, member, hasher):
                yield from batch.add(picture)
        elif csv_reader.is_table(head) or not member.path:  # a single file must be a table
            if found:
                raise UserError(
                    f"{os.path.basename(path)} holds {found} and also the table {member.name}: unpack it and name the "
                    "one that is meant."
                )
            found = f"the table {member.name}"
            check_table_text(member.name, head)
            yield from csv_reader.iter_chunks(member.name, member.chunks())
        elif image_reader.is_picture(member.path, head):
            if found not in ("", IMAGE_FOLDER):
                raise UserError(f"{os.path.basename(path)} holds {found} and also pictures: unpack it and name one.")
            found = IMAGE_FOLDER
            content = member.content(image_reader.MAX_BYTES)
            yield from batch.add(Picture(member.name, member.path, content, opened))
        else:
            passed.add(member.path)
    yield from batch.flush()
    if not found:
        others = unsupported_files.describe_counts(passed.counts())
        raise UserError(
            f"{path} holds neither a table with a column pixels nor pictures ({image_reader.FORMAT_NAMES} are read)"
            + (f", but {others}." if others else ".")
        )


class _Batch:
    """Pictures that wait for the rest of their chunk."""

    def __init__(self) -> None:
        self._pictures: list[Picture] = []
        self._bytes = 0

    def add(self, picture: Picture) -> Iterator[Pictures]:
        """Adds a picture, and yields the chunk that it completes, if any."""
        self._pictures.append(picture)
        self._bytes += len(picture.content)
        if len(self._pictures) == MAX_PICTURES or self._bytes >= MAX_PICTURE_BYTES:
            yield from self.flush()

    def flush(self) -> Iterator[Pictures]:
        """Yields the pictures that wait as a chunk, if there are any."""
        if self._pictures:
            yield Pictures(tuple(self._pictures))
        self._pictures, self._bytes = [], 0


def total_bytes(path: str) -> int:
    """Returns the size of a file, of all files of a folder, or of a table and its pictures.

    Returns:
      0 for a path that does not exist.

    Raises:
      UserError: names the folder or file that cannot be accessed, such as a broken link.
    """
    return archives.total_bytes(path) + picture_table.picture_bytes(path)


def num_bytes(chunk: Chunk) -> int:
    """Returns the bytes of a chunk."""
    if isinstance(chunk, Pictures):
        return sum(len(picture.content) for picture in chunk.pictures)
    return len(chunk.text)


def describe_format(chunk: Chunk) -> str:
    """Returns the format of a chunk for the user."""
    if isinstance(chunk, Pictures):
        row = chunk.pictures[0].row
        return IMAGE_FOLDER if row is None else f"{row.file}: {row.form}"
    ignored = f"; ignored: {', '.join(chunk.header.ignored)}" if chunk.header.ignored else ""
    return f"{chunk.name}: {chunk.header.form}{ignored}"


def check_table_text(name: str, head: bytes) -> None:
    """Checks that the beginning of a file is text of a table.

    Raises:
      UserError: names the type of the file, where it is known, and what to do.
    """
    if not head.strip():
        raise UserError(f"{name} is empty: get a complete copy of it.")
    kind = unsupported_files.identify(head)
    if kind:
        raise UserError(f"{name} is {kind[0]}, which is not supported: {kind[1]}.")
    if image_reader.is_picture("", head):
        raise UserError(f"{name} is a picture alone, without a class: name the folder that holds the class folders.")
    if b"\0" in head:
        raise UserError(f"{name} is neither a CSV nor an archive of one: its first bytes are {head[:8]!r}.")
    if b"\r" in head.split(b"\n", 1)[0].removesuffix(b"\r"):
        raise UserError(f"{name} ends its lines with CR alone: save it with LF or CRLF.")
    if head.removeprefix(b"\xef\xbb\xbf").startswith(b"Usage,Image name"):
        raise UserError(f"{name} holds FER+ votes, and no faces: give it as --ferplus, and the faces as --input.")
