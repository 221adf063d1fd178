"""Checkpoints: a folder each, whole or absent, with the hash of every file in it.

In the run folder:
    checkpoints/step-00000500/state.index, state.data-00000-of-00001, checkpoint.json

A folder is written beside its place and renamed, and checkpoint.json is its last file; what a killed run left
behind is no checkpoint and is cleaned away. Into a store, which cannot rename, it is uploaded in that order. The newest
few are kept.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from fer import storage
from fer.errors import StorageError, UserError
from fer.io import files, fsync, temp_files
from fer.io.literal_path import literal

MAX_TO_KEEP = 3
FORMAT = "step-{:08d}"
META = "checkpoint.json"


def save(
    folder: str,
    state: tf.train.Checkpoint,
    step: int,
    extra: dict[str, Any],
    planned: Callable[[int], bool] = lambda step: True,
) -> None:
    """Writes the state after `step` steps, then removes the oldest beyond the newest `KEPT` and the newest planned one.

    Args:
      folder: of the run's checkpoints.
      state: what is saved.
      step: names the checkpoint.
      extra: plain values that `restore` gives back.
      planned: whether the checkpoint of a step is one that the run makes by itself, and not because it was stopped:
        the newest of these is what it may have to go back to.

    Raises:
      UserError: it cannot be written; earlier checkpoints are untouched.
    """
    place = os.path.join(folder, FORMAT.format(step))
    try:
        if storage.is_remote(folder):
            with temp_files.folder("checkpoint") as beside:
                _write(beside, state, step, extra)
                _upload(beside, place)
        else:
            beside = place + ".tmp"
            _remove(beside)
            fsync.make_folders(beside)
            _write(beside, state, step, extra)
            _remove(place)
            fsync.publish(beside, place)
    except (OSError, tf.errors.OpError) as error:
        if not storage.is_remote(folder):
            with contextlib.suppress(OSError, tf.errors.OpError):  # on a full disk, what is half-written takes space
                _remove(place + ".tmp")
        raise StorageError(
            f"Cannot write the checkpoint {place}: {files.error_message(error)}. Earlier checkpoints are whole; make "
            "room and run the same command again."
        ) from error
    found = list_steps(folder)
    kept = {*found[-MAX_TO_KEEP:], max(filter(planned, found), default=step)}
    for old in found:
        if old not in kept:
            _remove(os.path.join(folder, FORMAT.format(old)))


def restore(folder: str, state: tf.train.Checkpoint) -> dict[str, Any] | None:
    """Puts the newest sound checkpoint into `state`.

    A damaged one is reported, and removed once one before it has been taken.

    Returns:
      What checkpoint.json holds, or None where there is no checkpoint.

    Raises:
      StorageError: a checkpoint cannot be read now, which says nothing of whether it is sound.
      UserError: there are checkpoints, but none is sound, or the state has another shape.
    """
    found, damaged = list_steps(folder), {}
    for step in reversed(found):
        place = os.path.join(folder, FORMAT.format(step))
        fault = _find_fault(place)
        if fault and storage.is_remote(place):  # a store that was away for a moment looks like one without the files
            storage.register_filesystems(place)
            fault = _find_fault(place)
        if fault:
            damaged[place] = fault
            continue
        try:
            with literal(place) as folder_read:
                state.read(os.path.join(folder_read, "state")).assert_consumed()
        except (AssertionError, ValueError) as error:  # what TensorFlow raises for other names and other shapes
            raise UserError(
                f"The checkpoint {place} holds another state than this version's ({files.error_message(error)}): go "
                "on with "
                "the software that config.json beside it names under versions, or choose another --workdir."
            ) from error
        for worse, fault in damaged.items():
            print(f"The checkpoint {worse} is damaged ({fault}); it is removed, and {os.path.basename(place)} is used.")
            _remove(worse)
        return files.read_json(os.path.join(place, META), "the checkpoint")
    if damaged:
        told = "; ".join(f"{os.path.basename(place)}: {fault}" for place, fault in damaged.items())
        raise UserError(
            f"None of the {len(found)} checkpoints in {folder} is sound ({told}); choose another --workdir."
        )
    return None


def list_steps(folder: str) -> list[int]:
    """The steps of the checkpoints in `folder`, in rising order."""
    if not storage.check_or_raise(folder, tf.io.gfile.isdir):
        return []
    names = (re.fullmatch(r"step-(\d{8})/?", name) for name in tf.io.gfile.listdir(folder))
    return sorted(int(name[1]) for name in names if name)


def remove_after(folder: str, step: int) -> None:
    """Removes the checkpoints of steps after `step`, the newest first."""
    for later in reversed(list_steps(folder)):
        if later > step:
            _remove(os.path.join(folder, FORMAT.format(later)))


def clean(folder: str) -> None:
    """Removes what a killed run left half-written."""
    if tf.io.gfile.isdir(folder):
        for name in tf.io.gfile.listdir(folder):
            if ".tmp" in name:
                _remove(os.path.join(folder, name.rstrip("/")))


def _write(folder: str, state: tf.train.Checkpoint, step: int, extra: dict[str, Any]) -> None:
    """Writes the state and, last, checkpoint.json into an empty local folder."""
    state.write(os.path.join(folder, "state"))
    hashes = {name: files.sha256(os.path.join(folder, name)) for name in sorted(tf.io.gfile.listdir(folder))}
    files.write_json(os.path.join(folder, META), {"step": step, "files": hashes, **extra})


def _upload(folder: str, place: str) -> None:
    """Copies a checkpoint to its place in a store, checkpoint.json last."""
    _remove(place)
    for name in sorted(os.listdir(folder), key=lambda name: name == META):
        tf.io.gfile.copy(os.path.join(folder, name), os.path.join(place, name), overwrite=True)


def _find_fault(place: str) -> str | None:
    """What is wrong with a checkpoint, or None.

    Raises:
      StorageError: it cannot be read.
    """
    try:
        expected = files.read_json(os.path.join(place, META), "the checkpoint")["files"]
    except StorageError:
        raise
    except (UserError, KeyError, TypeError):
        return f"{META} is missing or no record of a checkpoint"
    for name, digest in expected.items():
        path = os.path.join(place, name)
        if not tf.io.gfile.exists(path):
            return f"{name} is missing"
        try:
            changed = files.sha256(path) != digest
        except (OSError, tf.errors.OpError) as error:
            raise files.read_error(path, error) from error
        if changed:
            return f"{name} has changed since it was written"
    return None


def _remove(path: str) -> None:
    if tf.io.gfile.isdir(path):
        tf.io.gfile.rmtree(path)
    elif tf.io.gfile.exists(path):
        tf.io.gfile.remove(path)
