"""What a path holds: its files, out of whatever folders, archives and compression they are in.

The content decides, not the name: gzip, xz, bzip2, zip and tar are known by their first bytes and may be nested.
"""

from __future__ import annotations

import bz2
import dataclasses
import gzip
import hashlib
import io
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import tensorflow as tf

from fer import files, remote
from fer.data.tally import Tally
from fer.errors import UserError

CHUNK = 1 << 19  # bytes read at a time: larger ones are slower, for the memory is fetched anew each time
HEAD = 4096  # bytes that may be looked at without reading them

_COMPRESSED = {b"\x1f\x8b": gzip.open, b"\xfd7zXZ\x00": lzma.open, b"BZh": bz2.open}
_ZIP = b"PK\x03\x04"
_TAR, _TAR_AT = b"ustar", 257
_DAMAGE = (
    EOFError,
    zlib.error,
    lzma.LZMAError,
    gzip.BadGzipFile,
    zipfile.BadZipFile,
    NotImplementedError,  # of a zip: a version, compression or encryption that Python does not know
    UnicodeError,  # of a zip: a name that is not what its flag says; of a path: one that is not UTF-8
    tarfile.TarError,
    OSError,
)


@dataclasses.dataclass(frozen=True)
class Member:
    """One file, to be read before the next one is asked for.

    `name` is what a user would call it ("fer2013.tar.gz:fer2013/fer2013.csv"); `path` is its place below the path
    that was opened, with "/" between folders ("fer2013/fer2013.csv", or "" for the opened file itself).
    """

    name: str
    path: str
    stream: io.BufferedReader

    def head(self) -> bytes:
        """The first bytes, at most `HEAD`, without reading them."""
        return self.stream.peek(HEAD)[:HEAD]

    def chunks(self) -> Iterator[bytes]:
        """The content, about `CHUNK` bytes at a time.

        Raises:
          UserError: the file, or the archive around it, is cut short or damaged.
        """
        with damage_named(self.name):
            while chunk := self.stream.read(CHUNK):
                yield chunk


class damage_named:  # noqa: N801 - reads as a sentence where it is used
    """Turns what damaged archives raise into a UserError that names the file."""

    def __init__(self, name: str):
        self._name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (*_DAMAGE, tf.errors.OpError)):
            raise UserError(
                f"{self._name} is cut short, damaged or unreadable ({files.reason(error)}): get a whole copy of it."
            ) from error


def members(path: str, tally: Tally) -> Iterator[Member]:
    """Every file at `path`, in an order that the content alone decides.

    It is that of the names, folder by folder, with the files right in a folder before those further down; in a zip that
    of the paths; in a tar they come as they are.

    Args:
      path: a file, an archive or a folder, local or remote.
      tally: sees the bytes as they lie there.

    Raises:
      UserError: nothing is there, or it is cut short, damaged or unreadable, or it is a pipe or a device.
    """
    with damage_named(path):
        there, is_folder = tf.io.gfile.exists(path), tf.io.gfile.isdir(path)
    if not there:
        raise UserError(f"There is no {path}: check the name.")
    if not is_folder:
        yield from _unpacked(os.path.basename(path), "", _open(path, tally))
        return
    for full, below in _walk(path):
        name = os.path.join(os.path.basename(path.rstrip("/")), below)
        yield from _unpacked(name, below, _open(full, tally))


def _unpacked(name: str, path: str, stream: io.BufferedReader, once: bool = False) -> Iterator[Member]:
    """Takes off one layer after the other; `once` says that the stream cannot be read out of order."""
    with damage_named(name):
        head = stream.peek(HEAD)[:HEAD]
    opener = next((opener for magic, opener in _COMPRESSED.items() if head.startswith(magic)), None)
    if opener:
        yield from _unpacked(name, path, io.BufferedReader(opener(stream), CHUNK), once)
    elif head.startswith(_ZIP):
        if once:
            raise UserError(f"{name} is a zip inside another archive: unpack it first.")
        yield from _zipped(name, path, stream)
    elif head[_TAR_AT : _TAR_AT + len(_TAR)] == _TAR:
        yield from _tarred(name, path, stream)
    else:
        yield Member(name, path, stream)


def _zipped(name: str, path: str, stream: BinaryIO) -> Iterator[Member]:
    with damage_named(name):
        archive = zipfile.ZipFile(stream)
        entries = sorted((entry for entry in archive.infolist() if not entry.is_dir()), key=lambda e: e.filename)
    for entry in entries:
        if entry.flag_bits & 1:
            raise UserError(f"{name} is locked by a password: unpack it first.")
        with damage_named(name):
            opened = io.BufferedReader(archive.open(entry), CHUNK)
        yield from _unpacked(f"{name}:{entry.filename}", os.path.join(path, entry.filename), opened)


def _tarred(name: str, path: str, stream: BinaryIO) -> Iterator[Member]:
    with damage_named(name):
        archive = tarfile.open(  # noqa: SIM115 - holds nothing of its own
            fileobj=stream, mode="r|", bufsize=CHUNK, tarinfo=_Header
        )
    while True:
        with damage_named(name):
            entry = archive.next()
        if entry is None:
            break
        inner = _printable(entry.name)
        if entry.islnk() or entry.issym():  # what it leads to has gone by, or is not there yet, or is outside
            raise UserError(f"{name}:{inner} is a link to another file: unpack the archive and name the folder.")
        if entry.isfile():
            opened = io.BufferedReader(archive.extractfile(entry), CHUNK)
            yield from _unpacked(f"{name}:{inner}", os.path.join(path, inner), opened, once=True)
    with damage_named(name):  # to the end, where the compression's own checksum stands
        while stream.read(CHUNK):
            pass


class _Header(tarfile.TarInfo):
    """A member's header. Python takes a damaged one, or none, for the end; only the blocks that mark the end are it."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> tarfile.TarInfo:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:
            raise
        except (tarfile.HeaderError, ValueError) as error:  # ValueError: the map of a sparse file is no numbers
            raise tarfile.ReadError(str(error)) from error


def _printable(name: str) -> str:
    """A name out of a tar, as text that can be printed and written: bytes of it that are no UTF-8 become "\\xe9"."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


class _File(io.RawIOBase):
    """A file, local or remote, as Python's input expects one, and as a tally sees it."""

    def __init__(self, path: str, tally: Tally):
        self._path, self._tally = path, tally
        # Local files go around TensorFlow, which would copy what it reads once more.
        self._file = tf.io.gfile.GFile(path, "rb") if remote.is_remote(path) else io.FileIO(path)
        self._size, self._offset = tf.io.gfile.stat(path).length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        if isinstance(self._file, tf.io.gfile.GFile):
            content = self._file.read(len(buffer))
            count = len(content)
            buffer[:count] = content
        else:
            count = self._file.readinto(buffer)
        self._tally.take(self._path, self._size, self._offset, buffer[:count])
        self._offset += count
        return count

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._offset = {io.SEEK_SET: 0, io.SEEK_CUR: self._offset, io.SEEK_END: self._size}[whence] + offset
        self._file.seek(self._offset)
        return self._offset

    def tell(self) -> int:
        return self._offset

    def close(self) -> None:
        self._file.close()
        super().close()


def _open(path: str, tally: Tally) -> io.BufferedReader:
    with damage_named(path):
        if not remote.is_remote(path) and not stat.S_ISREG(os.stat(path).st_mode):
            raise UserError(
                f"{path} is neither a file nor a folder but a pipe or a device, which can be read only once: name a "
                "file (compressed ones are read as they are) or a folder."
            )
        return io.BufferedReader(_File(path, tally), CHUNK)


def _walk(folder: str) -> Iterator[tuple[str, str]]:
    """The path of every file below a folder, folder by folder and by name, and the part that is below the folder."""
    root = folder.rstrip("/")
    for place, _, names in _listed(root):
        for name in sorted(names):
            full = os.path.join(place, name)
            yield full, full[len(root) + 1 :]


def _listed(root: str) -> list[tuple[str, list[str], list[str]]]:
    """What `tf.io.gfile.walk` finds, sorted by folder.

    Raises:
      UserError: a folder cannot be read, or a name in it is not UTF-8, which is all that TensorFlow takes.
    """

    def fail(error: Exception) -> None:
        raise error  # TensorFlow would leave the folder out

    with damage_named(root):
        try:
            return sorted(tf.io.gfile.walk(root, onerror=fail))
        except UnicodeDecodeError as error:
            name = bytes(error.object).decode("utf-8", "backslashreplace")
            raise UserError(f"{root} holds the name {name}, whose bytes are not UTF-8: rename it.") from error


def own_names(path: str) -> str:
    """The last two names of a folder's path, as in "train/angry": what it is called may say what is in it.

    Returns:
      "" of a file, and of what is not there.

    Raises:
      UserError: the path cannot be looked at.
    """
    with damage_named(path):
        if not tf.io.gfile.isdir(path):
            return ""
    whole = path if remote.is_remote(path) else os.path.abspath(path)  # "." has a name, too
    return "/".join(whole.rstrip("/").split("/")[-2:])


def size(path: str) -> int:
    """The bytes that a file or all files of a folder have; 0 where nothing is.

    Raises:
      UserError: names the folder or the file that cannot be looked at, such as a link that leads nowhere.
    """
    with damage_named(path):
        if not tf.io.gfile.exists(path):
            return 0
        paths = [full for full, _ in _walk(path)] if tf.io.gfile.isdir(path) else [path]
    total = 0
    for full in paths:
        with damage_named(full):
            total += tf.io.gfile.stat(full).length
    return total


def sha256(path: str, tally: Tally) -> str:
    """The SHA-256 of a file's bytes; of a folder, that of its files' sums and names, as `sha256sum` lists them.

    Args:
      path: a file or a folder; tally: has seen what was read of it.

    Raises:
      UserError: names the folder or the file that cannot be read any more.
    """
    with damage_named(path):
        if not tf.io.gfile.isdir(path):
            return tally.sha256(path)
    digest = hashlib.sha256()
    for full, below in _walk(path):
        with damage_named(full):
            digest.update(f"{tally.sha256(full)}  {below}\n".encode())
    return digest.hexdigest()
