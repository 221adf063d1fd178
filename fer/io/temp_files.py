"""Temporary files and folders, whose names allow removal after the process that created them was killed.

A name contains machine and process, as in curves.png.tmp-0a1b2c3d-4711-89abcdef.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator

from fer.io import processes

MAX_NAME_BYTES = 255  # the limit of common file systems
MAX_AGE_S = 24 * 3600.0  # age in seconds from which a file of another machine counts as left over

_OWNER = r"(?P<machine>[0-9a-f]{8})-(?P<pid>\d{1,10})"
_FILE = re.compile(rf".+\.tmp-(?:{_OWNER}|\d+)-[0-9a-f]{{8}}")  # older versions wrote no machine
_FOLDER = re.compile(rf"fer-[a-z]+-{_OWNER}-\w+")


def path_beside(path: str) -> str:
    """Returns a path beside `path` that no other process uses, on machines that share the disk either.

    A name that would become too long is truncated.
    """
    place, name = os.path.split(path)
    end = f".tmp-{_owner()}-{uuid.uuid4().hex[:8]}"
    name = os.fsencode(name)[: MAX_NAME_BYTES - len(end)].decode(sys.getfilesystemencoding(), "ignore")
    return os.path.join(place, name + end)


@contextlib.contextmanager
def folder(kind: str, within: str | None = None) -> Iterator[str]:
    """Yields a new folder for temporary files, which is removed at the end; first removes those of killed processes.

    Args:
      kind: purpose of the folder, one lower-case word.
      within: parent folder; by default the system's folder for temporary files.
    """
    place = within or tempfile.gettempdir()
    _sweep_folders(place)
    with tempfile.TemporaryDirectory(prefix=f"fer-{kind}-{_owner()}-", dir=place) as path:
        yield path


def sweep(place: str) -> None:
    """Removes files of killed processes from a local folder, once in each process."""
    _sweep_files(os.path.abspath(place))


@functools.lru_cache(maxsize=1000)
def _sweep_files(place: str) -> None:
    with contextlib.suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
            name = _FILE.fullmatch(entry.name)
            if name and (_has_ended(name) or _is_old(entry)):
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    with contextlib.suppress(OSError):
                        os.remove(entry.path)


def _sweep_folders(place: str) -> None:
    with contextlib.suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
            name = _FOLDER.fullmatch(entry.name)
            if name and entry.is_dir(follow_symlinks=False) and _is_ours(entry) and _has_ended(name):
                shutil.rmtree(entry.path, ignore_errors=True)


def _owner() -> str:
    return f"{processes.machine()}-{os.getpid()}"


def _has_ended(name: re.Match) -> bool:
    """Returns whether the process in a name was one of this machine and has ended."""
    return name["machine"] == processes.machine() and processes.has_ended(int(name["pid"]))


def _is_old(entry: os.DirEntry) -> bool:
    with contextlib.suppress(OSError):
        return time.time() - entry.stat(follow_symlinks=False).st_mtime > MAX_AGE_S
    return False


def _is_ours(entry: os.DirEntry) -> bool:
    with contextlib.suppress(OSError):
        return entry.stat(follow_symlinks=False).st_uid == os.getuid()
    return False
