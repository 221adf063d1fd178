"""Writing keeps the kind of the output (file, link, pipe, device, stream). Content is on the disk before its name."""

import errno
import os
import pathlib
import stat
import threading

import pytest
import tensorflow as tf

from fer.convert import atomic_dir
from fer.errors import StorageError
from fer.io import files, local_write
from fer.io.local_write import make_folders, publish, sync
from fer.io.transaction import transaction
from fer.run_dir import CheckpointRecord
from fer.train import checkpoints


def read_in_thread(path: pathlib.Path) -> tuple[threading.Thread, list[bytes]]:
    """Starts a thread that reads a pipe to its end."""
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(path.read_bytes()), daemon=True)
    reader.start()
    return reader, found


def test_write_bytes_writes_to_device_and_keeps_it(tmp_path):
    try:
        os.mknod(tmp_path / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root may make a device")
    files.write_bytes(str(tmp_path / "null"), b"content")
    assert stat.S_ISCHR(os.stat(tmp_path / "null").st_mode)
    assert os.listdir(tmp_path) == ["null"]


def test_check_writable_accepts_null_device():
    files.check_writable(os.devnull)
    files.write_bytes(os.devnull, b"content")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_write_bytes_writes_to_pipe_and_keeps_it(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader, found = read_in_thread(tmp_path / "pipe")
    files.write_bytes(str(tmp_path / "pipe"), b"x" * 200_000)
    reader.join(10)
    assert found == [b"x" * 200_000]
    assert stat.S_ISFIFO(os.stat(tmp_path / "pipe").st_mode)


def test_pipe_without_reader_raises_storage_error(tmp_path, monkeypatch):
    monkeypatch.setattr(local_write, "PIPE_WAIT_S", 0.1)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StorageError, match=r"Cannot write .*pipe: nobody reads from this pipe"):
        files.write_bytes(str(tmp_path / "pipe"), b"content")


def test_pipe_whose_reader_closes_early_raises_no_error(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    threading.Timer(0.2, os.close, [reader]).start()
    files.write_bytes(str(tmp_path / "pipe"), b"x" * 1_000_000)


def test_full_device_raises_storage_error():
    with pytest.raises(StorageError, match="Cannot write /dev/full: No space left on device"):
        files.write_bytes("/dev/full", b"content")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/dev/stdout", True),
        ("/dev//fd/1", True),
        ("out", True),
        ("link", True),
        ("pipe", False),
        ("other", False),
        ("absent", False),
        (os.devnull, False),
        ("/dev/stderr", False),
    ],
)
def test_is_standard_output_finds_redirected_file(tmp_path, monkeypatch, path, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").touch()
    (tmp_path / "link").symlink_to("out")
    os.mkfifo(tmp_path / "pipe")
    child = os.fork()
    if child == 0:
        status = 2
        try:
            os.dup2(os.open("out", os.O_WRONLY | os.O_CREAT), 1)
            status = int(local_write.is_standard_output(path))
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == expected


@pytest.mark.parametrize("output", [os.devnull, "pipe"])
def test_is_standard_output_compares_pipes_but_not_null_device(tmp_path, monkeypatch, output):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    child = os.fork()
    if child == 0:
        status = 2
        try:
            os.dup2(os.open(output, os.O_RDWR), 1)
            status = int(local_write.is_standard_output(output))
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == (output == "pipe")


@pytest.mark.parametrize("path", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_write_bytes_appends_to_standard_output(tmp_path, path):
    """A file behind standard output is appended to, not replaced, as the shell has opened it."""
    with open(tmp_path / "out", "wb") as file:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.dup2(file.fileno(), 1)
                os.write(1, b"before ")
                files.write_bytes(path, b"content")
                os.write(1, b" after")
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (tmp_path / "out").read_bytes() == b"before content after"
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("target", ["real.csv", "new.csv", "deep/new.csv"])
def test_write_bytes_keeps_link_and_writes_its_target(tmp_path, target):
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to(target)
    files.write_bytes(str(tmp_path / "link.csv"), b"new")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / target).read_text() == "new"


def test_link_that_leads_to_itself_raises_storage_error(tmp_path):
    (tmp_path / "link.csv").symlink_to("link.csv")
    with pytest.raises(StorageError, match=r"Cannot write .*link\.csv: it is a link that leads back to itself"):
        files.write_bytes(str(tmp_path / "link.csv"), b"new")


def test_transaction_writes_streams_directly():
    with transaction() as stage:
        assert stage("/dev/stdout") == "/dev/stdout"
        assert stage(os.devnull) == os.devnull


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


@pytest.mark.parametrize("number", [None, errno.ENOSYS])
def test_start_sync_keeps_file_when_file_system_takes_advice_or_not(tmp_path, monkeypatch, number):
    advised = []

    def advise(descriptor, *_):
        advised.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        if number is not None:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fadvise", advise)
    path = tmp_path / "shard"
    path.write_bytes(b"content")
    local_write.start_sync(str(path))
    assert advised == [str(path)]
    assert path.read_bytes() == b"content"


def test_start_sync_keeps_file_when_system_has_no_such_call(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "posix_fadvise")  # as on macOS
    (tmp_path / "shard").write_bytes(b"content")
    local_write.start_sync(str(tmp_path / "shard"))
    assert (tmp_path / "shard").read_bytes() == b"content"


def test_checkpoint_is_synced_before_its_name(tmp_path, calls, checkpoint):
    checkpoints.save(str(tmp_path), checkpoint, CheckpointRecord(7))
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
        checkpoints.save(str(tmp_path), checkpoint, CheckpointRecord(7))
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
