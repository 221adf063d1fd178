"""Writing keeps the kind of the output: file, link, pipe, device or stream."""

import os
import pathlib
import stat
import threading

import pytest

from fer.errors import StorageError
from fer.io import files, local_write
from fer.io.transaction import transaction


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
