"""Any published form of FER-2013, known by its content -> pieces of work, in the source's order."""

from __future__ import annotations

import os
from collections.abc import Iterator

from fer.convert.readers import archives, csv_reader, file_signatures, image_reader, skipped_files
from fer.convert.readers.hashing_reader import HashingReader
from fer.convert.readers.image_folder import Picture, Pictures
from fer.convert.readers.skipped_files import SkippedFiles
from fer.convert.worker_pool import Chunk
from fer.errors import UserError

MAX_PICTURES = 64  # in a piece, at most
MAX_PICTURE_BYTES = 16 << 20  # in a piece; a larger picture is a piece by itself

IMAGE_FOLDER = "pictures in class folders"


def iter_chunks(path: str, tally: HashingReader, passed: SkippedFiles | None = None) -> Iterator[Chunk]:
    """Reads what is at a path: one table, or pictures in class folders; other files are passed over and counted.

    Args:
      path: a file, an archive or a folder, local or remote.
      tally: sees the bytes as they lie there.
      passed: counts the files that are passed over.

    Raises:
      UserError: it is missing, damaged, neither a table nor pictures, or holds several tables or both.
    """
    found, batch, held, opened = "", [], 0, archives.folder_names(path)
    passed = SkippedFiles() if passed is None else passed
    for member in archives.iter_members(path, tally, passed):
        head = member.head()
        if csv_reader.is_table(head) or not member.path:  # a file that stands alone has to be a table
            if found:
                raise UserError(
                    f"{os.path.basename(path)} holds {found} and also the table {member.name}: unpack it and name the "
                    "one that is meant."
                )
            found = f"the table {member.name}"
            _check_table_text(member.name, head)
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
        others = skipped_files.describe_counts(passed.counts())
        raise UserError(
            f"{path} holds neither a table with a column pixels nor pictures ({image_reader.FORMAT_NAMES} are read)"
            + (f", but {others}." if others else ".")
        )


def num_bytes(piece: Chunk) -> int:
    """Returns the bytes of a piece."""
    if isinstance(piece, Pictures):
        return sum(len(picture.content) for picture in piece.pictures)
    return len(piece.text)


def describe_format(piece: Chunk) -> str:
    """What a piece comes from, in words for the user."""
    if isinstance(piece, Pictures):
        return IMAGE_FOLDER
    ignored = f"; ignored: {', '.join(piece.header.ignored)}" if piece.header.ignored else ""
    return f"{piece.name}: {piece.header.form}{ignored}"


def _check_table_text(name: str, head: bytes) -> None:
    if not head.strip():
        raise UserError(f"{name} is empty: get a whole copy of it.")
    kind = file_signatures.identify(head)
    if kind:
        raise UserError(f"{name} is {kind[0]}, which is not read: {kind[1]}.")
    if image_reader.is_picture("", head):
        raise UserError(f"{name} is a picture alone, without a class: name the folder that holds the class folders.")
    if b"\0" in head:
        raise UserError(f"{name} is neither a CSV nor an archive of one: it begins with {head[:8]!r}.")
    if b"\r" in head.split(b"\n", 1)[0].removesuffix(b"\r"):
        raise UserError(f"{name} ends its lines with CR alone: save it with lines that end with LF or CRLF.")
    if head.removeprefix(b"\xef\xbb\xbf").startswith(b"Usage,Image name"):
        raise UserError(f"{name} holds FER+ votes, and no faces: give it as --ferplus, and the faces as --input.")
