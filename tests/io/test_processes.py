"""Tests of fer/io/processes.py."""

import io
import os
import subprocess
import sys

from fer.io import processes


def test_is_running_distinguishes_running_from_ended_process():
    process = subprocess.Popen(["sleep", "60"])
    name = process_name(process.pid)
    assert processes.is_running(name)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # the process has ended, and its id is still in use
    if sys.platform == "linux":
        assert processes.is_running(name) is False
    process.wait()
    assert processes.is_running(name) is False


def process_name(pid: int) -> str:
    """Returns the name of another process of this machine."""
    return f"{processes.machine()}-{pid}-{processes._start_time(pid)}"


def test_is_running_is_false_for_earlier_process_with_same_id():
    assert processes.name() == process_name(os.getpid())
    assert processes.is_running(processes.name())
    assert processes.is_running(f"{processes.machine()}-{os.getpid()}-1") is False


def test_is_running_is_none_for_process_of_another_machine_and_for_unknown_process():
    assert processes.is_running(f"00000000-{os.getpid()}-1") is None
    assert processes.is_running("") is None
    assert processes.is_running(processes.machine()) is None
    assert processes.is_running(f"{processes.machine()}-x-1") is None


def test_machine_differs_between_boots_of_machines_with_one_name(monkeypatch):
    monkeypatch.setattr(processes.socket, "gethostname", lambda: "ubuntu")
    boots = iter(["a", "b", "b"])
    monkeypatch.setattr("builtins.open", lambda *arguments, **options: io.StringIO(f"{next(boots)}\n"))
    names = [processes.machine.__wrapped__() for _ in range(3)]
    assert names[0] != names[1] == names[2]
