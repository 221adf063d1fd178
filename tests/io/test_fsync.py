"""Content reaches the disk before its name does."""

import errno
import os
import pathlib

import pytest
import tensorflow as tf

from fer.convert import atomic_dir
from fer.errors import StorageError
from fer.io.fsync import make_folders, publish, sync
from fer.train import checkpoints


@pytest.fixture
def calls(monkeypatch) -> list[tuple[str, str]]:
    """Records syncs and renames in order, each with its path; paths of descriptors are read from /proc."""
    recorded = []
    fsync, rename, replace = os.fsync, os.rename, os.replace

    def record_fsync(descriptor: int) -> None:
        recorded.append(("sync", os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def record_rename(function):
        def call(source, target):
            recorded.append(("rename", os.path.abspath(target)))
            function(source, target)

        return call

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "rename", record_rename(rename))
    monkeypatch.setattr(os, "replace", record_rename(replace))
    return recorded


@pytest.fixture
def checkpoint() -> tf.train.Checkpoint:
    return tf.train.Checkpoint(weights=tf.Variable([1.0]))


def test_publish_syncs_files_and_folders_then_name(tmp_path, calls):
    source, target = tmp_path / "beside", tmp_path / "place"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "file").write_text("content")
    publish(str(source), str(target))
    assert calls[-2:] == [("rename", str(target)), ("sync", str(tmp_path))]
    assert set(calls[:-2]) == {("sync", str(path)) for path in (source, source / "deep", source / "deep" / "file")}


def test_make_folders_syncs_names_of_new_folders(tmp_path, calls):
    make_folders(str(tmp_path / "a" / "b"))
    assert calls == [("sync", str(tmp_path / "a")), ("sync", str(tmp_path))]
    make_folders(str(tmp_path / "a" / "b"))
    assert len(calls) == 2


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_sync_ignores_file_system_without_fsync(tmp_path, monkeypatch, number):
    def raise_error(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", raise_error)
    sync(str(tmp_path))


def test_checkpoint_is_synced_before_its_name(tmp_path, calls, checkpoint):
    checkpoints.save(str(tmp_path), checkpoint, 7, {})
    place = str(tmp_path / "step-00000007")
    at = calls.index(("rename", place))
    synced = {os.path.basename(path) for kind, path in calls[:at] if kind == "sync" and f"{place}.tmp/" in path}
    assert synced >= {"checkpoint.json", "state.index", "state.data-00000-of-00001"}
    assert ("sync", place + ".tmp") in calls[:at]
    assert ("sync", str(tmp_path)) in calls[at:]


def test_checkpoint_error_names_checkpoint_when_disk_is_full_at_sync(tmp_path, monkeypatch, checkpoint):
    def raise_disk_full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", raise_disk_full)
    with pytest.raises(StorageError, match=r"Cannot write .*step-00000007.*: No space left on device"):
        checkpoints.save(str(tmp_path), checkpoint, 7, {})
    assert checkpoints.list_steps(str(tmp_path)) == []


@pytest.mark.parametrize("overwrite", [False, True])
def test_conversion_is_synced_before_its_name(tmp_path, calls, overwrite):
    output = tmp_path / "out"
    content = '{"format_version": 1, "splits": {}, "created_by": "fer 1"}'
    if overwrite:
        output.mkdir()
        (output / "manifest.json").write_text(content)
    with atomic_dir.atomic_directory(str(output), overwrite) as folder:
        pathlib.Path(folder, "manifest.json").write_text(content)
    at = calls.index(("rename", str(output)))
    assert ("sync", os.path.join(folder, "manifest.json")) in calls[:at]
    assert ("sync", folder) in calls[:at]
    assert ("sync", str(tmp_path)) in calls[at:]
