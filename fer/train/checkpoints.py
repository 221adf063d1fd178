"""Checkpoints: one folder each, complete or absent, with the hash of every file in it.

In the run folder:
    checkpoints/step-00000500/state.index, state.data-00000-of-00001, checkpoint.json

A folder is written under a temporary name beside its place and renamed. checkpoint.json is its last file, also of an
upload to a store: a folder without it is what a killed run left behind, no checkpoint, and is removed. The newest
`MAX_TO_KEEP` checkpoints are kept. All folders are local: `fer.io.mirror` uploads those of a run in a store.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable

import tensorflow as tf

from fer import tf_workarounds
from fer.errors import StorageError, UserError
from fer.io import files, local_write
from fer.run_dir import (
    CHECKPOINT_FILE,
    CheckpointRecord,
    checkpoint_name,
    parse_checkpoint_name,
    read_checkpoint_record,
    write_checkpoint_record,
)

MAX_TO_KEEP = 3
STATE = "state"  # prefix of the names of TensorFlow's files


def save(
    folder: str,
    state: tf.train.Checkpoint,
    record: CheckpointRecord,
    planned: Callable[[int], bool] = lambda step: True,
) -> None:
    """Writes a checkpoint; keeps the newest `MAX_TO_KEEP` checkpoints and the newest planned one.

    Args:
      folder: of the run's checkpoints.
      state: the state to save.
      record: that `restore` returns; its field `files` is filled in.
      planned: whether an uninterrupted run has a checkpoint of the given step, which is not so for one that was made
        because the run was stopped. A rollback may need the newest planned one.

    Raises:
      StorageError: it cannot be written; earlier checkpoints are unchanged.
    """
    place = os.path.join(folder, checkpoint_name(record.step))
    try:
        temporary = place + ".tmp"
        _remove(temporary)
        local_write.make_folders(temporary)
        _write(temporary, state, record)
        _remove(place)
        local_write.publish(temporary, place)
    except (OSError, tf.errors.OpError) as error:
        with contextlib.suppress(OSError):  # an incomplete checkpoint takes space on a full disk
            _remove(place + ".tmp")
        raise StorageError(
            f"Cannot write the checkpoint {place}: {files.error_message(error)}. Free disk space and run the "
            "same command again; earlier checkpoints are complete."
        ) from error
    saved = list_steps(folder)
    kept = {*saved[-MAX_TO_KEEP:], max(filter(planned, saved), default=record.step)}
    for old in saved:
        if old not in kept:
            _remove(os.path.join(folder, checkpoint_name(old)))


def restore(folder: str, state: tf.train.Checkpoint) -> CheckpointRecord | None:
    """Restores the newest undamaged checkpoint into `state`.

    A damaged one is reported, and removed once an earlier one has been restored.

    Returns:
      The record of the checkpoint, or None if there is no checkpoint.

    Raises:
      StorageError: a checkpoint cannot be read now; it may be undamaged.
      UserError: all checkpoints are damaged, or the state has other variables or shapes.
    """
    found, damaged = list_steps(folder), {}
    for step in reversed(found):
        place = os.path.join(folder, checkpoint_name(step))
        damage = _find_damage(place)
        if damage:
            damaged[place] = damage
            continue
        try:
            with tf_workarounds.literal_path(place) as folder_read:
                state.read(os.path.join(folder_read, STATE)).assert_consumed()
        except (AssertionError, ValueError) as error:  # from TensorFlow, for other names or shapes of variables
            raise UserError(
                f"The checkpoint {place} holds another state than this version's ({files.error_message(error)}): go "
                "on with "
                "the software that config.json beside it names under versions, or choose another --workdir."
            ) from error
        for other, damage in damaged.items():
            print(
                f"The checkpoint {other} is damaged ({damage}); it is removed, and {os.path.basename(place)} is used."
            )
            _remove(other)
        return read_checkpoint_record(place)
    if damaged:
        reasons = "; ".join(f"{os.path.basename(place)}: {damage}" for place, damage in damaged.items())
        raise UserError(
            f"All {len(found)} checkpoints in {folder} are damaged ({reasons}). Restore one of them from a copy, or "
            "choose another --workdir."
        )
    return None


def list_steps(folder: str) -> list[int]:
    """Lists the steps of the checkpoints in `folder`, local or in a store, in ascending order."""
    if not files.isdir(folder):
        return []
    steps = map(parse_checkpoint_name, files.listdir(folder))
    return sorted(step for step in steps if step is not None and _is_complete(folder, checkpoint_name(step)))


def remove_after(folder: str, step: int) -> None:
    """Removes the checkpoints of steps after `step`, the newest first."""
    for later in reversed(list_steps(folder)):
        if later > step:
            _remove(os.path.join(folder, checkpoint_name(later)))


def clean(folder: str) -> None:
    """Removes the incomplete checkpoints of a killed run; names those that have the name of a complete one."""
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        is_partial = parse_checkpoint_name(name) is not None and not _is_complete(folder, name)
        if is_partial:
            print(f"{os.path.join(folder, name)} has no {CHECKPOINT_FILE}: it is incomplete and removed.")
        if is_partial or ".tmp" in name:
            _remove(os.path.join(folder, name))


def _is_complete(folder: str, name: str) -> bool:
    return files.exists(os.path.join(folder, name, CHECKPOINT_FILE))


def _write(folder: str, state: tf.train.Checkpoint, record: CheckpointRecord) -> None:
    """Writes the state and, last, checkpoint.json into an empty local folder."""
    state.write(os.path.join(folder, STATE))
    hashes = {name: files.sha256(os.path.join(folder, name)) for name in sorted(os.listdir(folder))}
    write_checkpoint_record(folder, record._replace(files=hashes))


def _find_damage(place: str) -> str | None:
    """Compares a checkpoint with its hashes. Returns its damage in words, or None if it is undamaged.

    Raises:
      StorageError: it cannot be read.
    """
    try:
        expected = read_checkpoint_record(place).files
    except StorageError:
        raise
    except (UserError, TypeError):
        return f"{CHECKPOINT_FILE} is not a record of a checkpoint"
    for name, digest in expected.items():
        path = os.path.join(place, name)
        if not os.path.exists(path):
            return f"{name} is missing"
        try:
            changed = files.sha256(path) != digest
        except (OSError, tf.errors.OpError) as error:
            raise files.read_error(path, error) from error
        if changed:
            return f"{name} has changed since it was written"
    return None


def _remove(path: str) -> None:
    if os.path.isdir(path):
        shutil.rmtree(path)
    elif os.path.exists(path):
        os.remove(path)
