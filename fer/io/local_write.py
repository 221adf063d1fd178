"""Atomic and durable write of a local file; devices and pipes are written directly.

Content reaches the disk before its name does, so that files survive a crash of the machine.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import errno
import fcntl
import io
import itertools
import os
import re
import stat
import sys
import time

from fer.io import temp_files

PIPE_WAIT_S = 10.0  # seconds for which a named pipe may have no reader
SYNC_THREADS = 8

_DESCRIPTORS = {"stdin": 0, "stdout": 1, "stderr": 2}

# Errors of file systems without fsync, such as network disks and FUSE; every other error is a failed write.
_UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF, errno.EACCES, errno.EPERM}


def is_special(path: str) -> bool:
    """Returns whether a path is a device, a pipe or a stream of this process."""
    return _descriptor(path) is not None or not (
        os.path.isfile(path) or os.path.isdir(path) or not os.path.exists(path)
    )


def is_open_for_writing(path: str) -> bool:
    """Returns whether a path for which `is_special` is true may be written to."""
    number = _descriptor(path)
    if number is None:
        return os.access(path, os.W_OK)
    try:
        return fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
    except (OSError, OverflowError):
        return False


def is_standard_output(path: str) -> bool:
    """Returns whether a path is the standard output of this process; the null device and the like do not count."""
    if _descriptor(path) == _DESCRIPTORS["stdout"]:
        return True
    try:
        found, printed = os.stat(path), os.fstat(_DESCRIPTORS["stdout"])
    except (OSError, ValueError):
        return False
    device = stat.S_ISCHR(found.st_mode) and not os.isatty(_DESCRIPTORS["stdout"])
    return os.path.samestat(found, printed) and not device


def write(path: str, content: bytes) -> None:
    """Replaces a local file by `content`, and creates its folder; behind a symbolic link, the file that it leads to.

    A device, a pipe or a stream of this process is opened and written to, and stays what it is. A reader that leaves
    early is no error.

    Raises:
      OSError: it cannot be written; nothing is left beside it then.
    """
    if is_special(path):
        with contextlib.suppress(BrokenPipeError):
            _write_into(path, content)
        return
    path = os.path.realpath(path)
    if os.path.islink(path):
        raise OSError(errno.ELOOP, "it is a link that leads back to itself")
    temp_files.sweep(os.path.dirname(path))
    beside = temp_files.path_beside(path)
    try:
        make_folders(os.path.dirname(path))
        with open(beside, "wb") as file:
            file.write(content)
        publish(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(beside)
        raise


def open_special(path: str) -> io.FileIO:
    """Opens a device, a pipe or a stream of this process for writing, without a buffer.

    Raises:
      OSError: it cannot be opened, or the pipe has no reader after `PIPE_WAIT_S`.
    """
    for stream in (sys.stdout, sys.stderr):  # so that earlier output comes first
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    number = _descriptor(path)
    return io.FileIO(_open(path) if number is None else os.dup(number), "wb")


def write_all(file: io.FileIO, content: bytes) -> None:
    """Writes to a file of `open_special`.

    Raises:
      OSError: it cannot be written; BrokenPipeError if its reader has exited.
    """
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]


def _descriptor(path: str) -> int | None:
    """Returns the number of the stream of this process that a path names, or None."""
    found = re.fullmatch(r"/dev/(stdin|stdout|stderr)|/(?:dev|proc/self)/fd/(\d{1,99})", os.path.normpath(path))
    return None if found is None else _DESCRIPTORS[found[1]] if found[1] else int(found[2])


def _write_into(path: str, content: bytes) -> None:
    with open_special(path) as file:
        write_all(file, content)


def _open(path: str) -> int:
    """Opens a device or a named pipe; waits for the reader of the pipe.

    Raises:
      OSError: it cannot be opened, or the pipe has no reader after `PIPE_WAIT_S`.
    """
    end = time.monotonic() + PIPE_WAIT_S
    while True:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
            os.set_blocking(descriptor, True)
            return descriptor
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            if time.monotonic() > end:
                raise OSError(errno.ENXIO, "nobody reads from this pipe") from error
            time.sleep(0.05)


def sync(path: str) -> None:
    """Waits until a local file, or the names in a local folder, are on the disk.

    Raises:
      OSError: they cannot be written, as on a full network disk.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # a folder above, which others own
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    finally:
        os.close(descriptor)


def start_sync(path: str) -> None:
    """Starts writing a local file to the disk without waiting, so that `sync` waits less later.

    Does nothing where the system (macOS) or the file system cannot do so.
    """
    if not hasattr(os, "posix_fadvise"):
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # the file system has no such calls
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)  # Linux writes the pages that are not on disk
    finally:
        os.close(descriptor)


def sync_tree(folder: str) -> None:
    """Waits until a local folder and all that is in it are on the disk.

    The files are synced at the same time, since the system combines the flushes of the disk's cache.

    Raises:
      OSError: as `sync`.
    """
    tree = [(place, [os.path.join(place, name) for name in names]) for place, _, names in os.walk(folder)]
    with concurrent.futures.ThreadPoolExecutor(SYNC_THREADS) as pool:
        list(pool.map(sync, itertools.chain.from_iterable(paths for _, paths in tree)))
    for place, _ in tree:
        sync(place)


def make_folders(path: str) -> None:
    """Creates a local folder, with those above it, so that their names are on the disk. One that exists stays.

    Raises:
      OSError: it cannot be created.
    """
    missing, above = [], os.path.abspath(path)
    while not os.path.lexists(above):
        missing.append(above)
        above = os.path.dirname(above)
    os.makedirs(path, exist_ok=True)
    for folder in missing:
        with contextlib.suppress(FileNotFoundError):  # another process has removed the folder again
            sync(os.path.dirname(folder))


def publish(source: str, target: str) -> None:
    """Renames a local file or folder once it is on the disk, and waits until its new name is.

    Raises:
      OSError: it cannot be written or renamed.
    """
    if os.path.isdir(source):
        sync_tree(source)
    else:
        sync(source)
    rename(source, target)


def rename(source: str, target: str) -> None:
    """Renames a local file or folder that is on the disk, and waits until its new name is.

    Raises:
      OSError: it cannot be renamed.
    """
    os.rename(source, target)
    sync(os.path.dirname(target) or ".")
