"""Local copies of shards that lie in a store, named by their SHA-256 and shared by all processes of a machine."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import shutil
from collections.abc import Iterator

from fer import storage
from fer.data.manifest import MANIFEST_FILE, Manifest, Shard
from fer.errors import StorageError, UserError
from fer.io import files, local_write, temp_files


def local_path(folder: str, shard: Shard) -> str:
    """Returns the local path of a shard; one in a store is downloaded and verified, if no copy is there yet.

    Args:
      folder: of the shards, local or in a store.
      shard: its entry in the manifest.

    Raises:
      UserError: the shard is missing, has another SHA-256 than the manifest states, or does not fit on the disk.
      StorageError: the store or the cache cannot be used.
    """
    path = os.path.join(folder, shard.file)
    if not storage.is_remote(folder):
        return path
    copy = _copy_of(shard)
    with _locked(copy):
        if not _is_whole(copy, shard):
            _download(path, shard, copy)
    return copy


def local_paths(manifest: Manifest, split: str) -> list[str]:
    """Returns the local paths of the shards of a split, in their order: see `local_path`.

    Raises:
      UserError: as `local_path`; or all missing copies together do not fit on the disk.
    """
    shards = manifest.split(split).shards
    if storage.is_remote(manifest.folder):
        _check_space(sum(shard.bytes for shard in shards if not os.path.exists(_copy_of(shard))))
    return [local_path(manifest.folder, shard) for shard in shards]


def _copy_of(shard: Shard) -> str:
    return os.path.join(storage.cache_dir(), "shards", f"{shard.sha256}.tfrecord")


def _is_whole(copy: str, shard: Shard) -> bool:
    """Returns whether a copy is there and has the shard's content."""
    try:
        found = os.stat(copy)
    except FileNotFoundError:
        return False
    return found.st_size == shard.bytes and _sha256(copy, found.st_ino, found.st_mtime_ns) == shard.sha256


@functools.cache
def _sha256(copy: str, inode: int, modified_ns: int) -> str:
    """Returns the SHA-256 of a copy, read once for each state of the file: a split asks for its shards repeatedly."""
    return files.sha256(copy)


def _download(path: str, shard: Shard, copy: str) -> None:
    beside = temp_files.path_beside(copy)
    try:
        storage.download(path, beside)
        if files.sha256(beside) != shard.sha256:
            raise UserError(
                f"{path} has another SHA-256 than {MANIFEST_FILE} states: it is truncated, changed or not of this "
                "data. Convert the data again."
            )
        local_write.publish(beside, copy)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing, and {MANIFEST_FILE} names it: convert the data again.") from error
    except OSError as error:
        raise StorageError(
            f"Cannot write {copy}: {files.error_message(error)}. Free disk space, or name another --cache_dir."
        ) from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(beside)


def _check_space(needed: int) -> None:
    place = storage.cache_dir()
    while not os.path.exists(place):
        place = os.path.dirname(place)
    free = shutil.disk_usage(place).free
    if needed > free:
        raise UserError(
            f"The shards need {needed / 2**30:.1f} GiB in {storage.cache_dir()}, where {free / 2**30:.1f} GiB are "
            "free: free disk space, or name another --cache_dir."
        )


@contextlib.contextmanager
def _locked(copy: str) -> Iterator[None]:
    """Holds the lock of a copy, so that one process of this machine downloads it."""
    try:
        os.makedirs(os.path.dirname(copy), exist_ok=True)
        temp_files.sweep(os.path.dirname(copy))
        lock = open(f"{copy}.lock", "wb")  # noqa: SIM115
    except OSError as error:
        raise StorageError(
            f"Cannot write {os.path.dirname(copy)}: {files.error_message(error)}. Name another --cache_dir."
        ) from error
    with lock:
        with contextlib.suppress(OSError):  # a file system without locks: two processes may both download the copy
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
