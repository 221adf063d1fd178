"""Replaces several files and folders together: all of them or, after an error, none."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence

from fer.errors import StorageError
from fer.io import files, local_write, temp_files
from fer.storage import is_remote


def publish(folder: str, names: Sequence[str], output: str) -> list[str]:
    """Writes files of a temporary folder into `output` together; see `transaction`.

    Args:
      folder: local.
      names: paths of the files in it, in the order of their writing.
      output: a folder, local or in a store.

    Returns:
      The paths of the written files.

    Raises:
      StorageError: a file cannot be written.
    """
    paths = [os.path.join(output, name) for name in names]
    with transaction() as stage:
        for name, path in zip(names, paths):
            with open(os.path.join(folder, name), "rb") as file:
                files.write_bytes(stage(path), file.read())
    return paths


@contextlib.contextmanager
def transaction(stale: Sequence[str] = ()) -> Iterator[Callable[[str], str]]:
    """Yields a function that returns, for the path of a file or folder, the path to write its new content to.

    At the end, when all new files are on the disk, they are renamed to their targets in the order of the calls. After
    an error the old files are restored, and folders that did not exist are removed. Paths in a store, whose objects
    are complete or absent by themselves, and devices and pipes are written directly.

    Args:
      stale: files that have no new content. Those that exist are removed at the end, and restored after an error.

    Raises:
      StorageError: a file cannot be written; the message names the target.
    """
    staged: dict[str, str] = {}  # by target, the path that its new content is written to

    def stage(path: str) -> str:
        if is_remote(path) or local_write.is_special(path):
            return path
        target = os.path.realpath(path)
        root = _root(target)
        beside = staged.setdefault(root, temp_files.path_beside(root))
        if root == target:
            return beside
        inner = os.path.join(beside, os.path.relpath(target, root))
        os.makedirs(os.path.dirname(inner), exist_ok=True)
        return inner

    try:
        yield stage
        for beside in staged.values():
            if os.path.isdir(beside):
                local_write.sync_tree(beside)
        _publish(staged, [path for path in stale if not is_remote(path)])
        for path in stale:
            if is_remote(path) and files.exists(path):
                files.remove(path)
    except StorageError as error:
        text = str(error)
        for target, beside in staged.items():
            text = text.replace(beside, target)
        raise StorageError(text) from error
    except OSError as error:
        named = next(iter(staged), "the output")
        raise StorageError(
            f"Cannot write {named}: {files.error_message(error)}. Free some space or choose another folder."
        ) from error
    finally:
        for beside in staged.values():
            _remove(beside)


def _root(target: str) -> str:
    """Returns the outermost folder of a path that does not exist yet, or the path itself where its folder does."""
    root = target
    while not os.path.lexists(os.path.dirname(root)):
        root = os.path.dirname(root)
    return root


def _publish(staged: Mapping[str, str], stale: Sequence[str]) -> None:
    """Renames new files to their targets, and removes stale files; after an error, restores the old ones.

    Args:
      staged: paths of the new files, by target.
      stale: local files.
    """
    replaced: list[tuple[str, str]] = []  # target, and path of the old file; "" if there was none
    try:
        for target in [*stale, *staged]:
            old = temp_files.path_beside(target) if os.path.lexists(target) else ""
            replaced.append((target, old))  # before the rename, which an interrupt may follow
            if old:
                os.rename(target, old)
            if target in staged:
                local_write.publish(staged[target], target)
    except BaseException:
        for target, old in reversed(replaced):
            if not old:
                _remove(target)
            elif os.path.lexists(old):
                _remove(target)
                os.rename(old, target)
        raise
    for _, old in replaced:
        _remove(old)


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    elif os.path.lexists(path):
        with contextlib.suppress(OSError):
            os.remove(path)
