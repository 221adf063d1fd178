"""Durable writes: content reaches the disk before its name does, so that files survive a crash of the machine."""

from __future__ import annotations

import contextlib
import errno
import os

# Errors of file systems without fsync, such as network disks and FUSE; every other error is a failed write.
_UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF, errno.EACCES, errno.EPERM}


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


def sync_tree(folder: str) -> None:
    """Waits until a local folder and all that is in it are on the disk.

    Raises:
      OSError: as `sync`.
    """
    for place, _, names in os.walk(folder):
        for name in names:
            sync(os.path.join(place, name))
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
    os.rename(source, target)
    sync(os.path.dirname(target) or ".")
