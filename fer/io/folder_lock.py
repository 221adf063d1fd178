"""Lock of a local folder while its files are replaced together with a record that lists them."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

from fer.storage import is_remote


@contextlib.contextmanager
def hold(folder: str) -> Iterator[None]:
    """Holds the lock of a folder, after the process that holds it has released it or ended.

    The lock is that of the nearest folder above if the folder does not exist, so that nothing is created. A folder in
    a store and one on a file system without locks, as some network disks are, are not locked.

    Args:
      folder: local or in a store.
    """
    if is_remote(folder):
        yield
        return
    descriptor = _lock(os.path.realpath(folder))
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _lock(folder: str) -> int | None:
    """Returns a locked descriptor of the nearest existing folder; None if it cannot be locked."""
    while True:
        nearest = _find_nearest(folder)
        try:
            descriptor = os.open(nearest, os.O_RDONLY)
        except FileNotFoundError:  # it was removed meanwhile
            continue
        except OSError:  # it may not be read
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        # The process that held the lock may have created the folder, or replaced it.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(_find_nearest(folder)), os.fstat(descriptor)):
                return descriptor
        os.close(descriptor)


def _find_nearest(folder: str) -> str:
    """Returns a folder, or the nearest one above that exists."""
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return folder
