"""Temporary files of killed processes are removed; those of running processes are kept."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

import pytest
import tensorflow as tf

from fer.errors import StorageError
from fer.io import files, temp_files
from fer.run_dir import CheckpointRecord
from fer.train import checkpoints
from fer.train.distributed import multi_worker
from fer.train.distributed.cluster_resolver import Cluster

PID = re.compile(rf"-{os.getpid()}-")


@pytest.fixture(scope="module")
def ended_pid() -> int:
    """Returns the id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def temp_dir(tmp_path, monkeypatch) -> pathlib.Path:
    """Creates an empty folder and makes it the folder for temporary files."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


def rename_to_process(path: str, pid: int) -> str:
    """Returns the name that the process `pid` of this machine would have chosen."""
    return PID.sub(f"-{pid}-", path)


def test_path_beside_differs_each_time():
    names = {temp_files.path_beside("a/b.json") for _ in range(100)}
    assert len(names) == 100
    assert all(re.fullmatch(rf"a/b\.json\.tmp-[0-9a-f]{{8}}-{os.getpid()}-[0-9a-f]{{8}}", name) for name in names)


def test_write_removes_temporary_file_of_ended_process(tmp_path, ended_pid):
    left = pathlib.Path(rename_to_process(temp_files.path_beside(str(tmp_path / "curves.png")), ended_pid))
    left.write_bytes(b"half")
    files.write_bytes(str(tmp_path / "other.png"), b"whole")
    assert os.listdir(tmp_path) == ["other.png"]


@pytest.mark.parametrize("machine", ["this", "another"])
def test_write_keeps_temporary_file_of_process_that_may_live(tmp_path, ended_pid, machine):
    path = temp_files.path_beside(str(tmp_path / "curves.png"))
    if machine == "another":
        path = re.sub(r"tmp-[0-9a-f]{8}", "tmp-00000000", rename_to_process(path, ended_pid))
    pathlib.Path(path).write_bytes(b"half")
    files.write_bytes(str(tmp_path / "other.png"), b"whole")
    assert os.path.exists(path)


@pytest.mark.parametrize("name", ["curves.png.tmp-00000000-1-0123abcd", "curves.png.tmp-1-0123abcd"])
def test_write_removes_temporary_file_of_another_machine_after_a_day(tmp_path, name):
    left = tmp_path / name
    left.write_bytes(b"half")
    os.utime(left, (time.time() - temp_files.MAX_AGE_S - 60,) * 2)
    files.write_bytes(str(tmp_path / "other.png"), b"whole")
    assert os.listdir(tmp_path) == ["other.png"]


@pytest.mark.parametrize("name", ["notes.tmp-final", "notes.tmp-2024-01-02", "a.tmp", ".tmp-1-0123abcd"])
def test_write_keeps_files_of_users(tmp_path, name):
    (tmp_path / name).write_text("mine")
    os.utime(tmp_path / name, (0, 0))
    files.write_bytes(str(tmp_path / "other.png"), b"whole")
    assert (tmp_path / name).read_text() == "mine"


def test_folder_removes_itself_and_those_of_ended_processes(temp_dir, ended_pid):
    with temp_files.folder("export") as mine:
        left = pathlib.Path(rename_to_process(mine, ended_pid))
        (left / "deep").mkdir(parents=True)
        with temp_files.folder("worker") as other:
            assert sorted(os.listdir(temp_dir)) == sorted(map(os.path.basename, (mine, other)))
    assert os.listdir(temp_dir) == []


def test_folder_keeps_folders_of_others(temp_dir):
    names = ["fer-notes", "fer-worker-00000000-1-abc", "tmpabc", "fer-Export-1"]
    for name in names:
        (temp_dir / name).mkdir()
    with temp_files.folder("worker"):
        pass
    assert sorted(os.listdir(temp_dir)) == sorted(names)


def test_worker_dir_removes_folder_of_killed_worker(temp_dir):
    """The killed worker is not the chief."""
    second = Cluster(("a:1", "b:1"), 1)
    child = os.fork()
    if child == 0:
        with multi_worker.worker_dir(second, "run"):
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    (left,) = os.listdir(temp_dir)
    with multi_worker.worker_dir(second, "run") as place:
        assert os.listdir(temp_dir) == [os.path.basename(place)] != [left]


def test_checkpoint_leaves_nothing_when_disk_is_full(tmp_path, monkeypatch):
    state = tf.train.Checkpoint(weights=tf.Variable([1.0]))

    def raise_disk_full(prefix):
        pathlib.Path(prefix + ".index").write_bytes(b"half")
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(state, "write", raise_disk_full)
    with pytest.raises(StorageError, match="No space left on device"):
        checkpoints.save(str(tmp_path), state, CheckpointRecord(50))
    assert os.listdir(tmp_path) == []
