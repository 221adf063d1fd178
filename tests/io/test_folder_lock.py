"""Tests that one process at a time holds the lock of a folder."""

import contextlib
import errno
import fcntl
import os
import pathlib
import shutil
import threading
from collections.abc import Iterator

import pytest

from fer.io import folder_lock


@contextlib.contextmanager
def start_holder(folder: pathlib.Path) -> Iterator[threading.Event]:
    """Yields the event that another thread sets while it holds the lock; ends that thread."""
    held, end = threading.Event(), threading.Event()

    def hold() -> None:
        with folder_lock.hold(str(folder)):
            held.set()
            end.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        yield held
    finally:
        end.set()
        thread.join()


def is_locked(folder: pathlib.Path) -> bool:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def test_hold_waits_until_lock_is_released(tmp_path):
    with contextlib.ExitStack() as stack:
        with folder_lock.hold(str(tmp_path)):
            held = stack.enter_context(start_holder(tmp_path))
            assert not held.wait(0.2)
        assert held.wait(60)
    assert not is_locked(tmp_path)


@pytest.mark.parametrize("name", ["new", "new/deeper"])
def test_hold_follows_folder_that_previous_holder_created(tmp_path, name):
    """The second process waits for the lock of the folder above, and a third one takes that of the new folder."""
    folder = tmp_path / name
    with contextlib.ExitStack() as stack:
        with folder_lock.hold(str(folder)):
            assert list(tmp_path.iterdir()) == []
            second = stack.enter_context(start_holder(folder))
            assert not second.wait(0.2)
            folder.mkdir(parents=True)
        assert second.wait(60)
        assert is_locked(folder)
        assert not is_locked(tmp_path)


def test_hold_locks_folder_that_replaced_another(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    with contextlib.ExitStack() as stack:
        with folder_lock.hold(str(folder)):
            second = stack.enter_context(start_holder(folder))
            assert not second.wait(0.2)
            shutil.rmtree(folder)
            folder.mkdir()
        assert second.wait(60)
        assert is_locked(folder)


def test_hold_is_that_of_linked_folder(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with contextlib.ExitStack() as stack:
        with folder_lock.hold(str(tmp_path / "link")):
            held = stack.enter_context(start_holder(tmp_path / "real"))
            assert not held.wait(0.2)
        assert held.wait(60)


def test_hold_goes_on_without_lock_when_file_system_has_none(tmp_path, monkeypatch):
    def raise_no_locks(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", raise_no_locks)
    with folder_lock.hold(str(tmp_path)):
        (tmp_path / "file").write_text("written")


def test_hold_locks_no_folder_in_a_store(monkeypatch):
    monkeypatch.setattr(fcntl, "flock", None)
    with folder_lock.hold("memory://bucket/folder"):
        pass
