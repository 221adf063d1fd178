"""Iteration over the files of a path, through any folders, archives and compression.

The content decides, not the file name: gzip, xz, bzip2, zip and tar are recognized by their first bytes and may be
nested.
"""

from __future__ import annotations

import bz2
import contextlib
import dataclasses
import errno
import gzip
import hashlib
import io
import lzma
import os
import re
import shutil
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO

from fer import escaping, storage
from fer.convert.readers.hashing_reader import HashingReader
from fer.convert.readers.unsupported_files import SkippedFiles
from fer.errors import UserError
from fer.io import decompression_limits, files

CHUNK_BYTES = 1 << 20  # bytes per read, and of the chunks of a table: larger ones save switches between processes
HEAD_BYTES = 4096  # bytes that may be inspected without consuming them

# An archive that exceeds these limits is rejected.
MAX_LAYERS = 5  # around a file: a gzipped table in a .tar.gz in a zip has four
MAX_MEMBERS = 1_000_000  # of one archive
MAX_HEADER_BYTES = 1 << 16  # bytes of a member's header in a tar that extends the plain one
MAX_DIRECTORY_BYTES = 1 << 27  # bytes of a zip's directory
MAX_IDLE_BYTES = 1 << 24  # consecutive bytes that decompress to nothing, such as zeros after the end of a gzip

_DECOMPRESSORS: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"\xfd7zXZ\x00": lzma.open,
    b"BZh": bz2.open,
}
_ZIP_SIGNATURES = (b"PK\x03\x04", b"PK\x05\x06")  # the second is the beginning of an empty zip
_UNIX = 3  # the value of ZipInfo.create_system for Unix
_LINK_MESSAGE = "{0} is a link to another file: unpack the archive and name the folder."
_TAR_SIGNATURE, _TAR_OFFSET = b"ustar", 257
_DAMAGE_ERRORS = (
    EOFError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    NotImplementedError,  # zip: a version, compression or encryption that Python does not support
    ValueError,  # zip: an offset before its beginning, or a name in another encoding than flagged
    struct.error,
    OverflowError,
    RecursionError,  # tar: endless chain of extension headers
    MemoryError,
    tarfile.TarError,
    OSError,  # includes gzip.BadGzipFile
)


@dataclasses.dataclass(frozen=True)
class Member:
    """One file, which must be read before the next one is requested.

    `name` is for messages ("fer2013.tar.gz:fer2013/fer2013.csv"); `path` is the path below the opened path, with "/"
    between folders ("fer2013/fer2013.csv", or "" for the opened file itself).
    """

    name: str
    path: str
    stream: io.BufferedReader

    def head(self) -> bytes:
        """Returns the first bytes, at most `HEAD_BYTES`, without consuming them."""
        return self.stream.peek(HEAD_BYTES)[:HEAD_BYTES]

    def chunks(self) -> Iterator[bytes]:
        """Yields the content, about `CHUNK_BYTES` bytes at a time.

        Raises:
          UserError: the file, or the archive around it, is truncated or damaged.
        """
        with archive_errors(self.name):
            while chunk := self.stream.read(CHUNK_BYTES):
                yield chunk

    def content(self, most: int) -> bytes:
        """Returns the whole content; if it is longer than `most` bytes, the first `most` + 1.

        Raises:
          UserError: see `chunks`.
        """
        with archive_errors(self.name):
            return self.stream.read(most + 1)


@contextlib.contextmanager
def archive_errors(name: str) -> Iterator[None]:
    """Converts the exceptions that damaged archives cause into a UserError that names the file."""
    try:
        yield
    except decompression_limits.LimitError as error:
        raise UserError(f"{name} {error}") from error
    except _DAMAGE_ERRORS as error:
        if isinstance(error, UnicodeEncodeError) and error.encoding.replace("-", "") not in ("utf8", "latin1"):
            raise UserError(
                f"{name} holds a name that the locale's encoding, {error.encoding}, cannot represent: set PYTHONUTF8=1."
            ) from error
        raise UserError(
            f"{name} is truncated, damaged or unreadable ({files.error_message(error)}): get a complete copy of it."
        ) from error


def iter_members(path: str, hasher: HashingReader, passed: SkippedFiles | None = None) -> Iterator[Member]:
    """Yields every file at `path` that is not hidden, in an order that depends only on the content.

    The order is that of the names, folder by folder, with the files of a folder before those of its subfolders; in a
    zip, that of the paths; in a tar, that of the archive.

    Args:
      path: a file, an archive or a folder, local or remote.
      hasher: receives the stored bytes.
      passed: counts hidden files, see `SkippedFiles.hides`.

    Raises:
      UserError: the path does not exist, is truncated, damaged or unreadable, or is a pipe or a device.
    """
    passed = SkippedFiles() if passed is None else passed
    with archive_errors(path):
        there, is_folder = files.exists(path), files.isdir(path)
    if not there:
        _check_link(path)
        raise UserError(f"There is no {path}: check the name.")
    if not is_folder:
        yield from _unpack(_open_file(escaping.escape_line(os.path.basename(path)), "", path, hasher, passed))
        return
    for full, below in _walk_files(path, passed):
        name = escaping.escape_line(os.path.join(os.path.basename(path.rstrip("/")), below))
        yield from _unpack(_open_file(name, below, full, hasher, passed))


@dataclasses.dataclass(frozen=True)
class _Layer(Member):
    """A file that may be an archive or compressed."""

    budget: decompression_limits.Budget  # of the outermost file
    passed: SkippedFiles  # counts hidden files
    layers: int = 0  # number of layers around this one
    once: bool = False  # whether the stream cannot be read out of order

    def inner_layer(self, stream: Any, inner: str = "", once: bool = False) -> _Layer:
        """Returns the layer of a stream that comes out of this one, or out of its member `inner`.

        Raises:
          UserError: there are too many layers.
        """
        if self.layers == MAX_LAYERS:
            raise UserError(
                f"{self.name} has more than {MAX_LAYERS} layers of compression, as decompression bombs have: "
                f"{decompression_limits.ADVICE}."
            )
        return _Layer(
            f"{self.name}:{escaping.escape_line(inner)}" if inner else self.name,
            os.path.join(self.path, inner) if inner else self.path,
            io.BufferedReader(stream, CHUNK_BYTES),
            self.budget,
            self.passed,
            self.layers + 1,
            self.once or once,
        )


def _unpack(packed: _Layer) -> Iterator[Member]:
    """Yields the files of a layer, through all layers inside it."""
    with archive_errors(packed.name):
        head = packed.head()
    opener = next((opener for magic, opener in _DECOMPRESSORS.items() if head.startswith(magic)), None)
    if opener:
        source = _CompressedStream(packed.stream)
        yield from _unpack(packed.inner_layer(_DecompressedStream(opener(source), packed.budget, source)))
    elif head.startswith(_ZIP_SIGNATURES):
        if packed.once:
            raise UserError(f"{packed.name} is a zip inside another archive: unpack it first.")
        yield from _unpack_zip(packed)
    elif head[_TAR_OFFSET : _TAR_OFFSET + len(_TAR_SIGNATURE)] == _TAR_SIGNATURE:
        yield from _unpack_tar(packed)
    else:
        yield packed


def _unpack_zip(packed: _Layer) -> Iterator[Member]:
    """Yields the files of a zip."""
    with archive_errors(packed.name):
        archive = zipfile.ZipFile(_ZipStream(packed.stream if packed.layers == 0 else _copy_to_disk(packed.stream)))
        entries = sorted([(_zip_path(entry), entry) for entry in archive.infolist()], key=lambda pair: pair[0])
        _check_count(len(entries))
    _check_unique(packed.name, [inner for inner, _ in entries])
    for inner, entry in entries:
        if inner.endswith("/") or packed.passed.hides(inner):
            continue
        if entry.create_system == _UNIX and stat.S_ISLNK(entry.external_attr >> 16):
            raise UserError(_LINK_MESSAGE.format(f"{packed.name}:{escaping.escape_line(inner)}"))
        if entry.flag_bits & 1:
            raise UserError(f"{packed.name} is locked by a password: unpack it first.")
        with archive_errors(packed.name):
            opened = _DecompressedStream(archive.open(entry), packed.budget)
        yield from _unpack(packed.inner_layer(opened, inner))


def _zip_path(entry: zipfile.ZipInfo) -> str:
    """Returns the path of an entry, with "/" between folders where a program on Windows wrote backslashes."""
    windows = entry.create_system == 0 or "/" not in entry.filename
    return _normalize_path(entry.filename.replace("\\", "/") if windows else entry.filename)


def _normalize_path(path: str) -> str:
    """Returns a path of an archive without empty parts and "."; the "/" at the end of a folder's path stays."""
    return re.sub(r"(?:(?<=/)|^)\.?/", "", path) or "/"


def _check_unique(name: str, paths: Sequence[str], known: set[bytes] | None = None) -> None:
    """Checks that an archive does not hold a file twice: unpacked, it would have only the later one.

    Args:
      name: of the archive, for the message.
      paths: of files in it.
      known: hashes of earlier paths, to which these are added.

    Raises:
      UserError: names the file.
    """
    known = set() if known is None else known
    for path in paths:
        key = hashlib.blake2b(path.encode("utf-8", "surrogateescape"), digest_size=12).digest()
        if key in known and not path.endswith("/"):
            raise UserError(
                f"{name} holds {escaping.escape_line(path)} twice, as an archive that was appended to: "
                "unpack it and name the folder."
            )
        known.add(key)


def _copy_to_disk(stream: BinaryIO) -> BinaryIO:
    """Returns a temporary copy that can be read out of order without decompressing its beginning each time."""
    copy = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the archive
    shutil.copyfileobj(stream, copy, CHUNK_BYTES)
    return copy


def _unpack_tar(packed: _Layer) -> Iterator[Member]:
    """Yields the files of a tar."""
    with archive_errors(packed.name):
        archive = _Tar.open(fileobj=packed.stream, mode="r|", bufsize=CHUNK_BYTES, tarinfo=_Header)
    count = 0
    known: set[bytes] = set()
    while True:
        with archive_errors(packed.name):
            entry = archive.next()
            _check_count(count := count + 1)
            _drop_headers(archive)
        if entry is None:
            break
        inner = _normalize_path(printable_name(entry.name if "/" in entry.name else entry.name.replace("\\", "/")))
        if packed.passed.hides(inner):
            continue
        if entry.islnk() or entry.issym():  # its target was already read, follows later, or is outside
            raise UserError(_LINK_MESSAGE.format(f"{packed.name}:{inner}"))
        if entry.issparse():
            raise UserError(f"{packed.name} {_SPARSE_MESSAGE.format(inner)}")
        if not (entry.isfile() or entry.isdir()):  # a device, a pipe, or a part of another volume
            packed.passed.add(inner)
        if entry.isfile():
            _check_unique(packed.name, [inner], known)
            yield from _unpack(packed.inner_layer(archive.extractfile(entry), inner, once=True))
    with archive_errors(packed.name):  # to the end, so that the checksum of the compression is verified
        while packed.stream.read(CHUNK_BYTES):
            pass


def _check_count(members: int) -> None:
    """Checks the number of members of an archive.

    Raises:
      decompression_limits.LimitError: there are too many.
    """
    if members > MAX_MEMBERS:
        raise decompression_limits.LimitError(f"holds more than {MAX_MEMBERS:,} files: unpack it and name the folder.")


class _CompressedStream:
    """The compressed side of a layer, which limits the bytes read without any output."""

    def __init__(self, stream: BinaryIO):
        self._stream = stream
        self.idle = 0  # bytes read since the last output

    def read(self, size: int = -1) -> bytes:
        """Reads at most `size` bytes.

        Raises:
          decompression_limits.LimitError: too many bytes in a row decompress to nothing.
        """
        content = self._stream.read(size)
        self.idle += len(content)
        if self.idle > MAX_IDLE_BYTES:
            raise decompression_limits.LimitError(
                f"holds more than {MAX_IDLE_BYTES:,} consecutive bytes that decompress to nothing: "
                f"{decompression_limits.ADVICE}."
            )
        return content


class _DecompressedStream(io.RawIOBase):
    """The decompressed side of a layer, whose bytes are counted."""

    def __init__(self, stream: Any, budget: decompression_limits.Budget, source: _CompressedStream | None = None):
        self._stream, self._budget, self._source = stream, budget, source

    def readable(self) -> bool:
        """Returns True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Reads into a buffer and returns the number of bytes."""
        count = self._stream.readinto(buffer)
        self._budget.take(count)
        if self._source is not None:
            self._source.idle = 0
        return count


class _ZipStream:
    """A file for Python's zip reader, which would read a central directory of any size."""

    def __init__(self, stream: BinaryIO):
        self._stream = stream
        self.seek, self.tell, self.seekable = stream.seek, stream.tell, stream.seekable

    def read(self, size: int = -1) -> bytes:
        """Reads at most `size` bytes.

        Raises:
          decompression_limits.LimitError: the central directory is too large.
        """
        if size > MAX_DIRECTORY_BYTES:
            raise decompression_limits.LimitError(
                f"has a directory of {size:,} bytes, more than {MAX_DIRECTORY_BYTES:,}: unpack it and name the folder."
            )
        return self._stream.read(size)


_SPARSE_MESSAGE = "holds {0} as a sparse file: pack it without --sparse, or unpack it and name the folder."


class _Header(tarfile.TarInfo):
    """A member's header; damaged or missing ones are errors, which Python's reader takes for the end of the archive."""

    _EXTENDING = (
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
        tarfile.SOLARIS_XHDTYPE,
        tarfile.GNUTYPE_LONGNAME,
        tarfile.GNUTYPE_LONGLINK,
    )

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Any:
        """Reads the next header.

        Raises:
          tarfile.ReadError: the header is damaged.
        """
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # not documented
            raise
        except (tarfile.HeaderError, ValueError) as error:  # ValueError: the map of a sparse file is not numeric
            raise tarfile.ReadError(str(error)) from error

    @classmethod
    def frombuf(cls, *arguments: Any) -> Any:
        """Parses the block of a header, before its extension is read.

        Raises:
          decompression_limits.LimitError: the extension is too long, or the member is a sparse file, whose map may be.
        """
        found = super().frombuf(*arguments)
        if found.type in cls._EXTENDING and found.size > MAX_HEADER_BYTES:
            raise decompression_limits.LimitError(
                f"has a header of {found.size:,} bytes, more than {MAX_HEADER_BYTES:,}: unpack it and name the folder."
            )
        if found.type == tarfile.GNUTYPE_SPARSE:
            raise decompression_limits.LimitError(_SPARSE_MESSAGE.format(printable_name(found.name)))
        return found

    def _proc_gnusparse_10(self, member: tarfile.TarInfo, *_: object) -> None:
        """Rejects a sparse file; Python's method reads a map of any length."""
        raise decompression_limits.LimitError(_SPARSE_MESSAGE.format(printable_name(member.name)))

    def _proc_pax(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        """Marks the next read as that of a pax header."""
        stream: Any = archive.fileobj  # a `_TarStream`
        stream.pax = True
        return super()._proc_pax(archive)  # type: ignore[misc]  # not documented


class _Tar(tarfile.TarFile):
    """A tar file that is read through a `_TarStream`."""

    def __init__(self, name: str | None, mode: Any, fileobj: BinaryIO, **options: Any):
        source: Any = _TarStream(fileobj)
        super().__init__(name, mode, source, **options)


class _TarStream:
    """A file for Python's tar reader, which before 3.11.9 searches a pax header in quadratic time."""

    def __init__(self, stream: BinaryIO):
        self._stream = stream
        self.seek, self.tell, self.close = stream.seek, stream.tell, stream.close
        self.pax = False  # whether the next read is a pax header

    def read(self, size: int) -> bytes:
        """Reads at most `size` bytes.

        Raises:
          tarfile.ReadError: a pax header has too many digits in a row.
        """
        content = self._stream.read(size)
        pax, self.pax = self.pax, False
        if pax and re.search(rb"[0-9]{256}", content):  # the search runs from each digit to the last one
            raise tarfile.ReadError("a pax header with more than 255 digits in a row")
        return content


def _drop_headers(archive: tarfile.TarFile) -> None:
    """Removes the headers that an archive object stores.

    Raises:
      decompression_limits.LimitError: the headers that apply to all members are too long.
    """
    archive.members = []  # type: ignore[attr-defined]  # not documented
    headers: dict[str, str] = dict(archive.pax_headers or {})
    if sum([len(name) + len(value) for name, value in headers.items()]) > MAX_HEADER_BYTES:
        raise decompression_limits.LimitError(
            f"has headers of more than {MAX_HEADER_BYTES:,} bytes: unpack it and name the folder."
        )


def printable_name(name: str) -> str:
    r"""Returns a name from a tar as printable text: bytes that are not UTF-8 become escapes such as "\xe9"."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


class _HashedFile(io.RawIOBase):
    """A file, local or remote, as a raw stream that passes the bytes to a `HashingReader`."""

    def __init__(self, path: str, hasher: HashingReader):
        self._path, self._tally = path, hasher
        self._file = files.open_file(path)
        self.size, self._offset = os.fstat(self._file.fileno()).st_size, 0

    def readable(self) -> bool:
        """Returns True."""
        return True

    def seekable(self) -> bool:
        """Returns True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Reads into a buffer and returns the number of bytes."""
        count = self._file.readinto(buffer)
        self._tally.update(self._path, self.size, self._offset, buffer[:count])
        self._offset += count
        return count

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Sets the position and returns it."""
        self._offset = {io.SEEK_SET: 0, io.SEEK_CUR: self._offset, io.SEEK_END: self.size}[whence] + offset
        self._file.seek(self._offset)
        return self._offset

    def tell(self) -> int:
        """Returns the position."""
        return self._offset

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
        super().close()


def check_file(path: str) -> None:
    """Checks that a path is not a pipe or a device, reading from which may block forever.

    Raises:
      UserError: the path is one, or cannot be accessed.
    """
    with archive_errors(path):
        files.check_regular(path)


def _open_file(name: str, below: str, path: str, hasher: HashingReader, passed: SkippedFiles) -> _Layer:
    """Returns the outermost layer of a file."""
    check_file(path)
    with archive_errors(path):
        file = _HashedFile(path, hasher)
        return _Layer(name, below, io.BufferedReader(file, CHUNK_BYTES), decompression_limits.Budget(file.size), passed)


def read_file(path: str, name: str, hasher: HashingReader, most: int) -> bytes:
    """Returns the content of a file as it is; if it is longer than `most` bytes, the first `most` + 1.

    Args:
      path: of the file.
      name: of the file, for messages.
      hasher: receives the bytes.
      most: limit of bytes.

    Raises:
      UserError: the file cannot be read.
    """
    return _open_file(name, "", path, hasher, SkippedFiles()).content(most)


def _check_link(path: str) -> None:
    """Checks that a path is not a broken link.

    Raises:
      UserError: names the link and its target.
    """
    if storage.is_remote(path) or not os.path.islink(path) or os.path.exists(path):
        return
    target = printable_name(os.readlink(path))
    try:
        os.stat(path)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UserError(f"{path} is a link that leads back to itself, by {target}: remove it.") from error
    raise UserError(f"{path} is a link to {target}, which does not exist: remove the link, or restore its target.")


def _walk_files(folder: str, passed: SkippedFiles | None = None) -> Iterator[tuple[str, str]]:
    """Yields the path of every file below a folder, folder by folder and by name, and its path relative to the folder.

    Hidden files and folders are skipped, and counted by `passed`.

    Raises:
      UserError: a folder cannot be read; a link is broken or leads to a folder above it; or a name is not UTF-8, the
        only encoding that TensorFlow accepts.
    """
    root, passed = folder.rstrip("/"), passed or SkippedFiles()

    found = []
    with archive_errors(root):
        for place, folders, names in _walk_store(root) if storage.is_remote(root) else _walk_disk(root):
            below = place[len(root) + 1 :]
            for inner in (folders, names):  # in place: the walk continues into the rest of `folders`
                inner[:] = [name for name in inner if not passed.hides(os.path.join(below, name))]
            if not storage.is_remote(root):
                _check_links(root, place, folders, names)
            found.append((place, sorted(names)))
    for place, names in sorted(found):
        for name in names:
            full = os.path.join(place, name)
            yield full, full[len(root) + 1 :]


def _walk_disk(root: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yields each folder with its folders and files, as os.walk, also through links.

    Raises:
      OSError: a folder cannot be read.
      UserError: a name is not UTF-8.
    """

    def fail(error: OSError) -> None:
        """Raises the error of a folder that cannot be read, which os.walk would skip."""
        raise OSError(error.errno, f"{error.strerror}: {error.filename}") from error

    for place, folders, names in os.walk(root, onerror=fail, followlinks=True):
        for name in (*folders, *names):
            if not name.isascii() and printable_name(name) != name:
                raise UserError(f"{root} holds the name {printable_name(name)}, whose bytes are not UTF-8: rename it.")
        yield place, folders, names


def _walk_store(root: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yields each folder of a store as `_walk_disk`."""
    tree: dict[str, tuple[list[str], list[str]]] = {root: ([], [])}
    for path in storage.walk_files(root):
        *folders, name = path.split("/")
        place = root
        for folder in folders:
            above, place = place, f"{place}/{folder}"
            if place not in tree:
                tree[place] = ([], [])
                tree[above][0].append(folder)
        tree[place][1].append(name)
    pending = [root]
    while pending:
        place = pending.pop()
        yield place, *tree[place]
        pending += [f"{place}/{folder}" for folder in tree[place][0]]


def _check_links(root: str, place: str, folders: list[str], names: list[str]) -> None:
    """Checks for broken links, and for links to folders that hold them, which would be walked forever."""
    for name in names:
        _check_link(os.path.join(place, name))
    links = [full for full in (os.path.join(place, name) for name in folders) if os.path.islink(full)]
    if not links:
        return
    above = [place]
    while above[-1] != root:
        above.append(os.path.dirname(above[-1]))
    inside = [os.path.join(os.path.realpath(folder), "") for folder in above]
    for full in links:
        target = os.path.join(os.path.realpath(full), "")
        if any(folder.startswith(target) for folder in inside):
            raise UserError(
                f"{full} is a link to a folder that holds it, {printable_name(os.readlink(full))}: remove it."
            )


def folder_names(path: str) -> str:
    """Returns the last two names of a folder's path, as in "train/angry": they may name a split and a class.

    Returns:
      "" for a file, and for a path that does not exist.

    Raises:
      UserError: the path cannot be accessed.
    """
    with archive_errors(path):
        if not files.isdir(path):
            return ""
    whole = path if storage.is_remote(path) else os.path.abspath(path)  # "." has a name, too
    return "/".join(whole.rstrip("/").split("/")[-2:])


def total_bytes(path: str) -> int:
    """Returns the size of a file or of all files of a folder; 0 for a path that does not exist.

    Raises:
      UserError: names the folder or file that cannot be accessed, such as a broken link.
    """
    with archive_errors(path):
        if not files.exists(path):
            return 0
        paths = [full for full, _ in _walk_files(path)] if files.isdir(path) else [path]
    total = 0
    for full in paths:
        with archive_errors(full):
            total += files.size(full)
    return total


def sha256(path: str, hasher: HashingReader) -> str:
    """Returns the SHA-256 of a file; for a folder, that of its files' hashes and names in the format of `sha256sum`.

    That of a table of pictures is the same, of the table and then its pictures in the order of its rows.

    Args:
      path: a file or a folder.
      hasher: has hashed the bytes that were read of it.

    Raises:
      UserError: names the folder or file that cannot be read any more.
    """
    with archive_errors(path):
        is_folder = files.isdir(path)
        if not is_folder and set(hasher.paths) <= {path}:
            return hasher.sha256(path)
    digest = hashlib.sha256()
    folder = os.path.join(os.path.dirname(path), "")
    read = _walk_files(path) if is_folder else ((full, full.removeprefix(folder)) for full in hasher.paths)
    for full, below in read:
        with archive_errors(full):
            digest.update(f"{hasher.sha256(full)}  {below}\n".encode())
    return digest.hexdigest()
