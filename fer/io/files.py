"""Atomic reads and writes of files, on local disks and in object stores.

A local file is written to a temporary file beside it, which is then renamed. Objects in a store (`fer.storage`) are
complete or absent by themselves.
"""

import contextlib
import errno
import hashlib
import io
import json
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

from fer import storage
from fer.errors import StorageError, UserError
from fer.io import local_write, temp_files
from fer.storage import is_remote

CHUNK_BYTES = 1 << 20  # bytes hashed at a time
MAX_BYTES = 2 << 30  # of a file that is read at once
MAX_JSON_BYTES = 64 << 20  # bytes
MAX_MESSAGE_CHARACTERS = 300  # Python's messages may contain the content of a file


def write_bytes(path: str, content: bytes) -> None:
    """Replaces `path` by `content`; a reader sees the old file or the new one, never a part (see `fer.io.local_write`).

    Raises:
      StorageError: the folder cannot be written to, or the disk is full.
    """
    try:
        storage.write_bytes(path, content) if is_remote(path) else local_write.write(path, content)
    except io_errors() as error:
        raise StorageError(
            f"Cannot write {path}: {error_message(error)}. Free some space or choose another folder."
        ) from error


def open_file(path: str) -> io.BufferedReader:
    """Opens a file to read bytes. An object of a store is first downloaded to a temporary file without a name.

    Raises:
      One of `io_errors()`: it cannot be opened.
      UserError, StorageError: a store cannot be read; see `fer.storage`.
    """
    if not is_remote(path):
        return open(path, "rb")
    with temp_files.folder("download") as folder:
        copy = os.path.join(folder, "object")
        storage.download(path, copy)
        return open(copy, "rb")


@contextlib.contextmanager
def open_new(path: str) -> Iterator[BinaryIO]:
    """Opens a file to write bytes piece by piece. An object of a store is uploaded at the end, if there was no error.

    Raises:
      One of `io_errors()`: it cannot be written.
    """
    if not is_remote(path):
        with open(path, "wb") as file:
            yield file
        return
    with temp_files.folder("upload") as folder:
        copy = os.path.join(folder, "object")
        with open(copy, "wb") as file:
            yield file
        storage.upload(copy, path)


def isdir(path: str) -> bool:
    """Returns whether a folder exists."""
    return storage.isdir(path) if is_remote(path) else os.path.isdir(path)


def listdir(path: str) -> list[str]:
    """Returns the names in a folder, in any order.

    Raises:
      One of `io_errors()`: it cannot be read.
    """
    return storage.listdir(path) if is_remote(path) else os.listdir(path)


def list_files(folder: str) -> list[str]:
    """Returns the paths of all files below a folder, relative to it, sorted."""
    if is_remote(folder):
        return storage.walk_files(folder)
    found = (os.path.join(below, name) for below, _, names in os.walk(folder) for name in names)
    return sorted(os.path.relpath(path, folder) for path in found)


def remove(path: str) -> None:
    """Removes a file.

    Raises:
      One of `io_errors()`: it cannot be removed.
    """
    storage.remove(path) if is_remote(path) else os.remove(path)


def remove_tree(path: str) -> None:
    """Removes a folder and all files in it.

    Raises:
      One of `io_errors()`: a file cannot be removed.
    """
    storage.remove_tree(path) if is_remote(path) else shutil.rmtree(path)


def copy(source: str, target: str) -> None:
    """Copies a file, local or in a store, to a local path, or a local file to a store.

    Raises:
      One of `io_errors()`: it cannot be read or written.
    """
    if is_remote(source):
        storage.download(source, target)
    elif is_remote(target):
        storage.upload(source, target)
    else:
        shutil.copyfile(source, target)


@contextlib.contextmanager
def local_folder(path: str) -> Iterator[str]:
    """Yields a local folder: the path itself, or a temporary copy of a folder in a store.

    Raises:
      One of `io_errors()`: a file cannot be read or written.
    """
    if not is_remote(path):
        yield path
        return
    with temp_files.folder("copy") as place:
        for name in storage.walk_files(path):
            target = os.path.join(place, name)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            storage.download(f"{path.rstrip('/')}/{name}", target)
        yield place


def size(path: str) -> int:
    """Returns the bytes of a file.

    Raises:
      One of `io_errors()`: it cannot be read.
    """
    return storage.size(path) if is_remote(path) else os.stat(path).st_size


def check_readable(path: str) -> None:
    """Checks that a file can be opened.

    Raises:
      UserError: it does not exist. StorageError if it cannot be read.
    """
    try:
        open_file(path).close()
    except OSError as error:
        raise read_error(path, error) from error


def check_writable(path: str) -> None:
    """Checks that a local file can be written at `path`, before work whose result it will hold.

    Raises:
      StorageError: the path is a folder, or a folder above it is a file or not writable.
    """
    if is_remote(path):
        return
    if local_write.is_special(path):
        if not local_write.is_open_for_writing(path):
            raise StorageError(f"Cannot write {path}: it may not be written to. Choose another place.")
        return
    try:
        path = os.path.realpath(path) if os.path.islink(path) else path
        if os.path.islink(path):
            raise StorageError(f"Cannot write {path}: it is a link that leads back to itself. Choose another place.")
        os.lstat(path)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):  # ENAMETOOLONG, for one
            raise StorageError(f"Cannot write {path}: {error_message(error)}. Choose another place.") from error
    if os.path.isdir(path):
        raise StorageError(f"Cannot write {path}: it is a folder. Remove it or choose another place.")
    above = os.path.dirname(os.path.abspath(path))
    while not os.path.exists(above):
        above = os.path.dirname(above)
    if not os.path.isdir(above):
        raise StorageError(f"Cannot write {path}: {above} is a file. Choose another folder.")
    if not os.access(above, os.W_OK | os.X_OK):
        raise StorageError(f"Cannot write {path}: {above} may not be written to. Choose another folder.")


def exists(path: str) -> bool:
    """Returns whether a file or folder exists.

    Raises:
      UserError: a store cannot be used; see `fer.storage`.
    """
    return storage.exists(path) if is_remote(path) else os.path.exists(path)


def write_text(path: str, text: str) -> None:
    """Writes a text in UTF-8, as `write_bytes`."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: str, value: Any) -> None:
    """Writes indented JSON, with keys in the order of `value`, as `write_bytes`.

    Raises:
      ValueError: `value` contains NaN or infinity, which JSON cannot represent.
      UserError: the folder cannot be written to, or the disk is full.
    """
    write_text(path, json_text(value))


def json_text(value: Any) -> str:
    """Returns the text that `write_json` writes.

    Raises:
      ValueError: as `write_json`.
    """
    return json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def read_bytes(path: str, absent: str, named: str = "", most: int = MAX_BYTES) -> bytes:
    """Reads a whole file.

    Args:
      path: of the file.
      absent: message if the file does not exist.
      named: name of the file in other messages; its path by default.
      most: largest size in bytes.

    Raises:
      StorageError: the file cannot be read now.
      UserError: the file does not exist, has more than `most` bytes, or is a pipe or a device.
    """
    try:
        large = False
        if not is_remote(path) and os.path.exists(path):
            check_regular(path)
            large = os.path.getsize(path) > most
        with open_file(path) as file:
            content = b"" if large else file.read(most + 1)
        if large or len(content) > most:
            raise UserError(f"{named or path} has more than {most:,} bytes: it is damaged or another file.")
        return content
    except io_errors() as error:
        if is_not_found(error):
            raise UserError(absent) from error
        raise read_error(named or path, error) from error


def join_inside(folder: str, name: str, source: str) -> str:
    """Returns the path of a file in a folder.

    Args:
      folder: the folder that must contain the file.
      name: relative path from an untrusted file, such as "checkpoints/best-00000012.npz".
      source: the file that contains `name`.

    Raises:
      UserError: the path leads out of the folder.
    """
    parts = name.split("/")
    if not name or os.path.isabs(name) or ".." in parts or is_remote(name) or "\0" in name:
        raise UserError(
            f"{source} names the file {name!r}, which is not in {folder}: it is damaged or not to be trusted."
        )
    return os.path.join(folder, name)


def check_regular(path: str) -> None:
    """Rejects pipes and devices, whose reads may block forever; folders pass.

    Args:
      path: an existing path; paths in a store pass.

    Raises:
      UserError: the path is a pipe or a device.
      OSError: its type cannot be determined.
    """
    if not is_remote(path) and not (os.path.isdir(path) or stat.S_ISREG(os.stat(path).st_mode)):
        raise UserError(
            f"{path} is neither a file nor a folder but a pipe or a device, which can be read only once: name a file "
            "(compressed ones are read as they are) or a folder."
        )


def read_json(path: str, what: str) -> Any:
    """Reads a JSON file.

    Args:
      path: a file.
      what: its name in the message, such as "the manifest".

    Raises:
      StorageError: the file cannot be read now.
      UserError: it is missing or not JSON.
    """
    content = read_bytes(path, f"There is no {path}: {what} is missing.", f"{what}, {path}", MAX_JSON_BYTES)
    try:
        return json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, or JSON that is nested without end
        raise UserError(f"{path} is not valid JSON ({error}): {what} is damaged.") from error


def io_errors() -> tuple[type[Exception], ...]:
    """Returns the exceptions of reading and writing: OSError and, where TensorFlow is loaded, its OpError."""
    tensorflow = sys.modules.get("tensorflow")
    return (OSError, tensorflow.errors.OpError) if tensorflow else (OSError,)


def is_not_found(error: Exception) -> bool:
    """Returns whether one of `io_errors()` means that the file does not exist."""
    tensorflow = sys.modules.get("tensorflow")
    absent = (FileNotFoundError, tensorflow.errors.NotFoundError) if tensorflow else FileNotFoundError
    return isinstance(error, absent)


def read_error(named: str, error: Exception) -> UserError:
    """Returns the exception for a file that cannot be read: UserError if it does not exist, else StorageError."""
    return (UserError if is_not_found(error) else StorageError)(f"Cannot read {named}: {error_message(error)}.")


def sha256(path: str) -> str:
    """Returns the SHA-256 of a file, in hexadecimal.

    Raises:
      UserError: it is a pipe or a device.
    """
    digest = hashlib.sha256()
    if not is_remote(path) and os.path.exists(path):
        check_regular(path)
    with open_file(path) as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def error_message(error: Exception) -> str:
    """Returns the reason of an error on one line, in the words of the system or library."""
    if isinstance(error, (MemoryError, RecursionError)):  # their texts are empty or too technical
        return "it needs more memory than there is" if isinstance(error, MemoryError) else "it is nested too deep"
    text = str(getattr(error, "strerror", None) or getattr(error, "message", None) or error).strip()
    line = text.splitlines()[0].rstrip(".") if text else type(error).__name__
    if len(line) <= MAX_MESSAGE_CHARACTERS:
        return line
    half = MAX_MESSAGE_CHARACTERS // 2  # TensorFlow begins with a path and ends with the reason
    return f"{line[:half]}...{line[-half:]}"
