"""Format detection: any published form of FER-2013, recognized by its content -> chunks, in the order of the source."""

from __future__ import annotations

import os
from collections.abc import Iterator

from fer.convert.readers import archives, csv_reader, image_reader, unsupported_files
from fer.convert.readers.hashing_reader import HashingReader
from fer.convert.readers.image_folder import Picture, Pictures
from fer.convert.readers.unsupported_files import SkippedFiles
from fer.convert.worker_pool import Chunk
from fer.errors import UserError

MAX_PICTURES = 64  # maximum in a chunk
MAX_PICTURE_BYTES = 16 << 20  # in a chunk; a larger picture is a chunk by itself

IMAGE_FOLDER = "pictures in class folders"


def iter_chunks(path: str, hasher: HashingReader, passed: SkippedFiles | None = None) -> Iterator[Chunk]:
    """Reads a path: one table, or pictures in class folders. Other files are skipped and counted.

    Args:
      path: a file, an archive or a folder, local or remote.
      hasher: receives the stored bytes.
      passed: counts the skipped files.

    Raises:
      UserError: the path is missing, damaged, neither a table nor pictures, or holds several tables or both.
    """
    found, batch, held, opened = "", [], 0, archives.folder_names(path)
    passed = SkippedFiles() if passed is None else passed
    for member in archives.iter_members(path, hasher, passed):
        head = member.head()
        if csv_reader.is_table(head) or not member.path:  # a single file must be a table
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
            batch.append(Picture(member.name, member.path, member.content(image_reader.MAX_BYTES), opened))
            held += len(batch[-1].content)
            if len(batch) == MAX_PICTURES or held >= MAX_PICTURE_BYTES:
                yield Pictures(tuple(batch))
                batch, held = [], 0
        else:
            passed.add(member.path)
    if batch:
        yield Pictures(tuple(batch))
    if not found:
        others = unsupported_files.describe_counts(passed.counts())
        raise UserError(
            f"{path} holds neither a table with a column pixels nor pictures ({image_reader.FORMAT_NAMES} are read)"
            + (f", but {others}." if others else ".")
        )


def num_bytes(chunk: Chunk) -> int:
    """Returns the bytes of a chunk."""
    if isinstance(chunk, Pictures):
        return sum(len(picture.content) for picture in chunk.pictures)
    return len(chunk.text)


def describe_format(chunk: Chunk) -> str:
    """Returns the format of a chunk for the user."""
    if isinstance(chunk, Pictures):
        return IMAGE_FOLDER
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
