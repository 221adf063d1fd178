"""An output folder that is either complete or absent: filled beside its final path, then renamed into place.

A later run removes what a killed run left behind. An object store (s3://) cannot rename folders: the folder is filled
on the local disk and its files are uploaded one by one, the manifest last, which marks the folder as complete. A file
named `UNFINISHED` lies with them from before the first change until after the last upload.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator

from fer.data.manifest import MANIFEST_FILE, PHOTO_OVERLAP_FILE
from fer.errors import UserError
from fer.io import files, folder_lock, local_write, temp_files
from fer.storage import is_remote

UNFINISHED = "UNFINISHED"
OUTPUT_FILES = (
    *(MANIFEST_FILE, "audit.html", "audit.json", "rejects.csv"),
    *("class_balance.png", "preview.png", PHOTO_OVERLAP_FILE, UNFINISHED),
)

TOKEN_BYTES = 4  # random bytes in the names of temporary folders beside an output

_PARTIAL, _OLD = "partial", "old"


def check_output(output: str, overwrite: bool) -> None:
    """Checks that a conversion may write to an output.

    Raises:
      UserError: the output exists, is not an empty folder, and `overwrite` is not set, or no conversion wrote it; or it
        is a folder that cannot be replaced.
    """
    _check_replaceable(output)
    marker, manifest = os.path.join(output, UNFINISHED), os.path.join(output, MANIFEST_FILE)
    is_half_uploaded = is_remote(output) and files.exists(marker) and not files.exists(manifest)
    if not files.exists(output) or is_half_uploaded or _is_empty_folder(output):
        return
    if not overwrite:
        raise UserError(f"{output} exists already: choose another --output, or replace it with --overwrite.")
    fault = _describe_foreign_content(output)
    if fault:
        raise UserError(
            f"{output} exists and holds something other than a conversion ({fault}): choose another --output, or "
            "remove it yourself."
        )


def _is_empty_folder(output: str) -> bool:
    """Returns whether an output is an empty local folder."""
    return not is_remote(output) and os.path.isdir(output) and not os.listdir(output)


def _check_replaceable(output: str) -> None:
    """Checks that an output is neither the current folder nor the root of a disk.

    Raises:
      UserError: the output is one of them.
    """
    if is_remote(output) or not os.path.isdir(output):
        return
    if os.path.samefile(output, os.curdir):
        raise UserError(f"{output} is the current folder, which would be replaced: name another folder.")
    if os.path.ismount(os.path.realpath(output)):
        raise UserError(f"{output} is the root of a disk, which cannot be replaced: name a folder in it.")


@contextlib.contextmanager
def atomic_directory(output: str, overwrite: bool) -> Iterator[str]:
    """Yields an empty local folder and moves it to `output` at the end; after an error, nothing is left.

    The folder lies beside `output`, so that it uses the space of the same disk; for an object store, it lies in the
    system's folder for temporary files. If `output` is a symbolic link, the folder that it points to is filled and
    replaced, and the link stays.

    Raises:
      UserError: see `check_output`; or the folder cannot be written to.
    """
    place = _local_counterpart(output) if is_remote(output) else _resolve_link(output)
    try:
        with _hold_neighbours(place):
            _remove_leftovers(place)
        check_output(output, overwrite)
        with _partial_folder(place) as folder:
            yield folder
            if is_remote(output):
                check_output(output, overwrite)  # another process may have created it in the meantime
                _upload_folder(folder, output)
            else:
                local_write.sync_tree(folder)  # slow, so before the lock, and before an old folder is moved
                with _hold_neighbours(place):
                    check_output(output, overwrite)
                    _publish(folder, place)
    except files.io_errors() as error:
        raise UserError(
            f"Cannot write {output}: {files.error_message(error)}. Free space or choose another place."
        ) from error


def _hold_neighbours(place: str) -> contextlib.AbstractContextManager[None]:
    """Locks the folder above a local path, so that one conversion at a time moves the folders in it."""
    return folder_lock.hold(os.path.dirname(os.path.abspath(place)))


@contextlib.contextmanager
def _partial_folder(place: str) -> Iterator[str]:
    """Yields a new, locked folder beside `place` and removes it at the end; after an error, also its new parents."""
    folder = _temp_path_prefix(place, _PARTIAL) + secrets.token_hex(TOKEN_BYTES)
    parent = pathlib.Path(os.path.dirname(folder))
    missing = [above for above in (parent, *parent.parents) if not os.path.lexists(above)]  # the innermost first
    try:
        with contextlib.ExitStack() as stack:
            _make_locked(folder, stack)
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    except BaseException:
        for above in missing:
            with contextlib.suppress(OSError):  # it was not created, or another process has written to it
                above.rmdir()
        raise


def _make_locked(folder: str, stack: contextlib.ExitStack) -> None:
    """Creates a local folder and locks it until the stack ends.

    The folder gets its name with the lock: another conversion takes one without a lock for a leftover.
    """
    unlocked = temp_files.path_beside(folder)
    local_write.make_folders(unlocked)
    try:
        _try_lock(unlocked, stack)
        os.rename(unlocked, folder)
    except BaseException:
        shutil.rmtree(unlocked, ignore_errors=True)
        raise


def _publish(folder: str, place: str) -> None:
    """Moves a folder that is on the disk to its final local path, in place of one that is there."""
    if not os.path.exists(place) or _is_empty_folder(place):
        local_write.rename(folder, place)  # also replaces an empty folder
        return
    old = _temp_path_prefix(place, _OLD) + secrets.token_hex(TOKEN_BYTES)
    with contextlib.suppress(FileNotFoundError):  # another conversion has just moved it
        os.rename(place, old)
    try:
        local_write.rename(folder, place)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.rename(old, place)
        raise
    shutil.rmtree(old, ignore_errors=True)  # the next run removes the rest of it


def _describe_foreign_content(output: str) -> str:
    """Returns why an existing path is not a conversion alone; "" for a conversion or an empty folder.

    The manifest's file name proves nothing: web applications and browser extensions also have a file of that name.
    """
    if files.isdir(output) and not files.listdir(output):
        return ""
    path = os.path.join(output, MANIFEST_FILE)
    if not (files.isdir(output) and files.exists(path)):
        return f"it has no {MANIFEST_FILE}"
    try:
        with files.open_file(path) as file:
            found = json.loads(file.read())
        is_conversion = (
            isinstance(found, dict)
            and "format_version" in found
            and isinstance(found.get("splits"), dict)
            and str(found.get("created_by")).startswith("fer ")
        )
        if not is_conversion:
            return f"its {MANIFEST_FILE} was written by something else"
        shards = {shard["file"] for split in found["splits"].values() for shard in split["shards"]}
    except (ValueError, RecursionError, KeyError, TypeError):  # not UTF-8, not JSON, nested too deeply, a missing key
        return f"its {MANIFEST_FILE} is damaged"
    others = sorted(name for name in files.listdir(output) if name not in {*OUTPUT_FILES, *shards})
    return f"it also holds {others[0]}" if others else ""


def _upload_folder(folder: str, output: str) -> None:
    """Replaces the contents of an object store at `output`; a marker lies there while the contents are incomplete."""
    marker, manifest = os.path.join(output, UNFINISHED), os.path.join(output, MANIFEST_FILE)
    files.write_text(
        marker, f"A conversion is being uploaded here, or was killed during the upload: there is no {MANIFEST_FILE}.\n"
    )
    try:
        if files.exists(manifest):
            files.remove(manifest)
        for name in files.listdir(output):
            if name != UNFINISHED:
                files.remove(os.path.join(output, name))
        for name in sorted(os.listdir(folder), key=lambda name: (name == MANIFEST_FILE, name)):
            files.copy(os.path.join(folder, name), os.path.join(output, name))
        files.remove(marker)
    except BaseException:
        with contextlib.suppress(OSError, UserError):  # the marker stays, and the next run removes the rest
            files.remove_tree(output)
        raise


def _remove_leftovers(place: str) -> None:
    """Removes folders that killed runs left; one that was being replaced at that moment is moved back to its path."""
    temp_files.sweep(os.path.dirname(place) or ".")  # see `_make_locked`
    # Listed before the partial folders: a live run that has moved the old folder still has its partial folder.
    replaced = _list_leftovers(place, _OLD)
    is_running = False
    for partial in _list_leftovers(place, _PARTIAL):
        with contextlib.ExitStack() as stack, contextlib.suppress(FileNotFoundError):  # it was published meanwhile
            if _try_lock(partial, stack):
                _remove_tree(partial)
            else:
                is_running = True
    if is_running:  # the other process may be replacing the folder at this moment
        return
    for old in replaced:
        if os.path.exists(place):
            _remove_tree(old)
        else:
            with contextlib.suppress(FileNotFoundError):  # another process has moved it back
                os.rename(old, place)


def _remove_tree(folder: str) -> None:
    """Removes a local folder, which another process may be removing at the same time."""
    while os.path.lexists(folder):
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder)


def _list_leftovers(place: str, kind: str) -> list[str]:
    """Returns the paths of temporary folders of one kind beside `place`."""
    parent, start = os.path.split(_temp_path_prefix(place, kind))
    try:
        names = os.listdir(parent or ".")
    except (FileNotFoundError, NotADirectoryError):
        return []
    # Exact match: a user's folder may begin with the same name.
    pattern = re.compile(re.escape(start) + f"[0-9a-f]{{{2 * TOKEN_BYTES}}}")
    return [os.path.join(parent, name) for name in names if pattern.fullmatch(name)]


def _resolve_link(output: str) -> str:
    """Returns the local path to fill: the target of a symbolic link, existing or not, and any other path as it is.

    Raises:
      UserError: the link leads back to itself.
    """
    if not os.path.islink(output):
        return output
    place = os.path.realpath(output)
    if os.path.islink(place):
        raise UserError(f"{output} is a link that leads back to itself: remove it, or choose another --output.")
    return place


def _local_counterpart(output: str) -> str:
    """Returns the local path beside which the folder for an object store is filled; the same for every run."""
    digest = hashlib.sha256(output.encode()).hexdigest()[:16]
    return os.path.join(tempfile.gettempdir(), f"fer-{os.path.basename(output)}-{digest}")


def _temp_path_prefix(place: str, kind: str) -> str:
    """Returns the beginning of the paths of temporary folders beside a local path."""
    return os.path.join(os.path.dirname(place), f".{os.path.basename(place)}.{kind}-")


def _try_lock(folder: str, stack: contextlib.ExitStack) -> bool:
    """Locks a local folder until the stack ends or the process dies. Returns False if another process has locked it.

    Raises:
      FileNotFoundError: there is no such folder any more.
    """
    handle = os.open(folder, os.O_RDONLY)
    stack.callback(os.close, handle)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
