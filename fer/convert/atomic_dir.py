"""A folder that is whole or absent: filled beside its place, then renamed into it.

What a killed run left beside is swept away by the next. A store (s3://) knows no folders that can be renamed: there
the folder is filled on the local disk, and its files are uploaded one by one, the manifest last, which is what makes a
folder whole. From the first of them to the last, a file named `UNFINISHED` lies with them.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator

from fer.data.manifest import MANIFEST_FILE
from fer.errors import UserError
from fer.io import files, fsync
from fer.storage import is_remote

UNFINISHED = "UNFINISHED"
OUTPUT_FILES = (
    MANIFEST_FILE,
    "audit.html",
    "audit.json",
    "rejects.csv",
    "class_balance.png",
    "preview.png",
    UNFINISHED,
)

TOKEN_BYTES = 4  # random ones, in the names of what lies beside an output for a while

_PARTIAL, _OLD = "partial", "old"


def check_output(output: str, overwrite: bool) -> None:
    """Refuses an output that may not be written to.

    Raises:
      UserError: it exists, is no empty folder, and `overwrite` is not set, or it is nothing that a conversion wrote; or
        it is a folder that cannot be replaced.
    """
    _check_replaceable(output)
    if not files.exists(output) or _is_half_uploaded(output) or _is_empty_folder(output):
        return
    if not overwrite:
        raise UserError(f"{output} exists already: choose another --output, or replace it with --overwrite.")
    fault = _describe_foreign_content(output)
    if fault:
        raise UserError(
            f"{output} exists and is no conversion alone ({fault}): choose another --output, or remove what is there "
            "yourself."
        )


def _is_empty_folder(output: str) -> bool:
    return not is_remote(output) and os.path.isdir(output) and not os.listdir(output)


def _check_replaceable(output: str) -> None:
    """Refuses the folder that the program runs in, and the root of a disk.

    Raises:
      UserError: it is one of them.
    """
    if is_remote(output) or not os.path.isdir(output):
        return
    if os.path.samefile(output, os.curdir):
        raise UserError(f"{output} is the folder that this command runs in, and would be replaced: name another one.")
    if os.path.ismount(os.path.realpath(output)):
        raise UserError(f"{output} is the root of a disk, which cannot be replaced: name a folder in it.")


@contextlib.contextmanager
def atomic_directory(output: str, overwrite: bool) -> Iterator[str]:
    """Yields an empty local folder and puts it in the place of `output` at the end; after an error nothing is left.

    It lies beside `output`, so that it takes the same disk's space; for a store, in the system's temporary folder. Of
    an output that is a symbolic link, the folder behind it is filled and replaced, and the link stays.

    Raises:
      UserError: as `check` does, or the place cannot be written to.
    """
    place = _local_counterpart(output) if is_remote(output) else _resolve_link(output)
    try:
        _remove_leftovers(place)
        check_output(output, overwrite)
        with _partial_folder(place) as folder:
            yield folder
            check_output(output, overwrite)  # it may have come to be in the meantime
            if is_remote(output):
                _upload_folder(folder, output)
            else:
                _publish(folder, place)
    except files.io_errors() as error:
        raise UserError(
            f"Cannot write {output}: {files.error_message(error)}. Free space or choose another place."
        ) from error


@contextlib.contextmanager
def _partial_folder(place: str) -> Iterator[str]:
    folder = _temp_path_prefix(place, _PARTIAL) + secrets.token_hex(TOKEN_BYTES)
    lacking = _missing_folders(os.path.dirname(folder))
    try:
        fsync.make_folders(folder)
        with contextlib.ExitStack() as stack:
            _try_lock(folder, stack)
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    except BaseException:
        for parent in lacking:
            with contextlib.suppress(OSError):  # it was not made, or somebody has put something into it since
                os.rmdir(parent)
        raise


def _missing_folders(folder: str) -> list[str]:
    """Of a local folder and those above it, the ones that are not there, the innermost first."""
    lacking = []
    while folder and not os.path.lexists(folder):
        lacking.append(folder)
        folder = os.path.dirname(folder)
    return lacking


def _publish(folder: str, place: str) -> None:
    if not os.path.exists(place) or _is_empty_folder(place):
        fsync.publish(folder, place)  # takes the place of an empty folder, too
        return
    fsync.sync_tree(folder)  # before the old folder goes: nothing slow happens while neither is in the place
    old = _temp_path_prefix(place, _OLD) + secrets.token_hex(TOKEN_BYTES)
    os.rename(place, old)
    try:
        fsync.publish(folder, place)
    except BaseException:
        os.rename(old, place)
        raise
    shutil.rmtree(old, ignore_errors=True)  # the next run sweeps away what is left of it


def _describe_foreign_content(output: str) -> str:
    """What shows that a place that exists is not a conversion and nothing else; "" for one, or for an empty folder.

    The name of its manifest is not enough: web applications and browser extensions have a file of that name, too.
    """
    if not files.isdir(output):
        return f"it has no {MANIFEST_FILE}"
    if not files.listdir(output):
        return ""
    path = os.path.join(output, MANIFEST_FILE)
    if not files.exists(path):
        return f"it has no {MANIFEST_FILE}"
    try:
        with files.open_file(path) as file:
            found = json.loads(file.read())
    except (ValueError, RecursionError):  # no UTF-8, no JSON, or JSON that is nested without end
        return f"its {MANIFEST_FILE} is damaged"
    ours = (
        isinstance(found, dict)
        and "format_version" in found
        and isinstance(found.get("splits"), dict)
        and str(found.get("created_by")).startswith("fer ")
    )
    if not ours:
        return f"its {MANIFEST_FILE} was written by something else"
    try:
        shards = {shard["file"] for split in found["splits"].values() for shard in split["shards"]}
    except (KeyError, TypeError):
        return f"its {MANIFEST_FILE} is damaged"
    others = sorted(name for name in files.listdir(output) if name not in {*OUTPUT_FILES, *shards})
    return f"it also holds {others[0]}" if others else ""


def _upload_folder(folder: str, output: str) -> None:
    """Replaces what a store has at `output`, which is marked from before the old manifest goes until the new one is."""
    import tensorflow as tf

    marker, manifest = os.path.join(output, UNFINISHED), os.path.join(output, MANIFEST_FILE)
    files.write_text(
        marker, f"A conversion is being uploaded to this place, or was when it was killed: no {MANIFEST_FILE}.\n"
    )
    try:
        if tf.io.gfile.exists(manifest):
            tf.io.gfile.remove(manifest)
        for name in tf.io.gfile.listdir(output):
            if name != UNFINISHED:
                tf.io.gfile.remove(os.path.join(output, name))
        for name in sorted(os.listdir(folder), key=lambda name: (name == MANIFEST_FILE, name)):
            tf.io.gfile.copy(os.path.join(folder, name), os.path.join(output, name), overwrite=True)
        tf.io.gfile.remove(marker)
    except BaseException:
        with contextlib.suppress(tf.errors.OpError):  # what cannot be removed now is marked, and the next run does it
            tf.io.gfile.rmtree(output)
        raise


def _is_half_uploaded(output: str) -> bool:
    """Whether a store has at `output` what a killed run left, and no more."""
    if not is_remote(output):
        return False
    return files.exists(os.path.join(output, UNFINISHED)) and not files.exists(os.path.join(output, MANIFEST_FILE))


def _remove_leftovers(place: str) -> None:
    """Removes what killed runs left; a folder that was being replaced just then gets its place back."""
    lives = False
    for partial in _list_leftovers(place, _PARTIAL):
        with contextlib.ExitStack() as stack:
            if _try_lock(partial, stack):
                shutil.rmtree(partial)
            else:
                lives = True
    if lives:  # it may be replacing the folder at this moment
        return
    for old in _list_leftovers(place, _OLD):
        if os.path.exists(place):
            shutil.rmtree(old)
        else:
            os.rename(old, place)


def _list_leftovers(place: str, kind: str) -> list[str]:
    parent, start = os.path.split(_temp_path_prefix(place, kind))
    if not os.path.isdir(parent or "."):
        return []
    ours = re.compile(re.escape(start) + f"[0-9a-f]{{{2 * TOKEN_BYTES}}}")  # no more: a user's may begin like it
    return [os.path.join(parent, name) for name in os.listdir(parent or ".") if ours.fullmatch(name)]


def _resolve_link(output: str) -> str:
    """The local path that is filled: what a symbolic link leads to, there or not, and otherwise the path as it is.

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
    """The local path beside which the folder for a place in a store is filled: always the same for one place."""
    digest = hashlib.sha256(output.encode()).hexdigest()[:16]
    return os.path.join(tempfile.gettempdir(), f"fer-{os.path.basename(output)}-{digest}")


def _temp_path_prefix(place: str, kind: str) -> str:
    """The beginning of the paths beside a local place that runs use."""
    return os.path.join(os.path.dirname(place), f".{os.path.basename(place)}.{kind}-")


def _try_lock(folder: str, stack: contextlib.ExitStack) -> bool:
    """Marks a local folder as in use until the stack ends or the process dies; False if another process has."""
    handle = os.open(folder, os.O_RDONLY)
    stack.callback(os.close, handle)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
