"""A folder that is whole or absent: filled beside its place, then renamed into it.

What a killed run left beside is swept away by the next. A local folder is renamed as one; where a store knows no
folders (s3://), its files are moved one by one, the manifest last, which is what makes a folder whole.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator

import tensorflow as tf

from fer import files
from fer.data.manifest import FILE
from fer.data.remote import is_remote
from fer.errors import UserError

_PARTIAL, _OLD = "partial", "old"


def check(output: str, overwrite: bool) -> None:
    """Refuses an output that may not be written to.

    Raises:
      UserError: it exists and `overwrite` is not set, or it is nothing that a conversion wrote.
    """
    if not tf.io.gfile.exists(output):
        return
    if not overwrite:
        raise UserError(f"{output} exists already: choose another --output, or replace it with --overwrite.")
    if not tf.io.gfile.isdir(output) or (
        tf.io.gfile.listdir(output) and not tf.io.gfile.exists(os.path.join(output, FILE))
    ):
        raise UserError(f"{output} exists and is no conversion (it has no {FILE}): choose another --output.")


@contextlib.contextmanager
def replaced(output: str, overwrite: bool) -> Iterator[str]:
    """Yields an empty folder beside `output` and puts it in its place at the end; after an error nothing is left.

    Raises:
      UserError: as `check` does, or the place cannot be written to.
    """
    try:
        _sweep(output)
        check(output, overwrite)
        with _beside(output) as folder:
            yield folder
            check(output, overwrite)  # it may have come to be in the meantime
            _place(folder, output)
    except (OSError, tf.errors.OpError) as error:
        raise UserError(f"Cannot write {output}: {files.reason(error)}. Free space or choose another place.") from error


@contextlib.contextmanager
def _beside(output: str) -> Iterator[str]:
    folder = _hidden(output, _PARTIAL) + secrets.token_hex(4)
    tf.io.gfile.makedirs(folder)
    with contextlib.ExitStack() as stack:
        if not is_remote(output):
            _lock(folder, stack)
        try:
            yield folder
        finally:
            if tf.io.gfile.exists(folder):
                tf.io.gfile.rmtree(folder)


def _place(folder: str, output: str) -> None:
    tf.io.gfile.makedirs(os.path.dirname(output) or ".")
    if is_remote(output):
        if tf.io.gfile.exists(output):
            tf.io.gfile.remove(os.path.join(output, FILE))
            tf.io.gfile.rmtree(output)
        for name in sorted(tf.io.gfile.listdir(folder), key=lambda name: name == FILE):
            tf.io.gfile.rename(os.path.join(folder, name), os.path.join(output, name), overwrite=True)
        return
    if os.path.exists(output):
        old = _hidden(output, _OLD) + secrets.token_hex(4)
        os.rename(output, old)
        os.rename(folder, output)
        shutil.rmtree(old)
    else:
        os.rename(folder, output)


def _sweep(output: str) -> None:
    """Removes what killed runs left; a folder that was being replaced just then gets its place back."""
    for old in _left(output, _OLD):
        if tf.io.gfile.exists(output):
            tf.io.gfile.rmtree(old)
        else:
            tf.io.gfile.rename(old, output)
    for partial in _left(output, _PARTIAL):
        with contextlib.ExitStack() as stack:
            if is_remote(output) or _lock(partial, stack):
                tf.io.gfile.rmtree(partial)


def _left(output: str, kind: str) -> list[str]:
    parent, start = os.path.split(_hidden(output, kind))
    if not tf.io.gfile.isdir(parent or "."):
        return []
    names = [name.rstrip("/") for name in tf.io.gfile.listdir(parent or ".")]
    return [os.path.join(parent, name) for name in names if name.startswith(start)]


def _hidden(output: str, kind: str) -> str:
    """The beginning of the paths beside `output` that runs use."""
    return os.path.join(os.path.dirname(output), f".{os.path.basename(output)}.{kind}-")


def _lock(folder: str, stack: contextlib.ExitStack) -> bool:
    """Marks a local folder as in use until the stack ends or the process dies; False if another process has."""
    handle = os.open(folder, os.O_RDONLY)
    stack.callback(os.close, handle)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
