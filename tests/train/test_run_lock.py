"""Checks that only one process at a time trains in a run directory."""

import errno
import json
import os
import subprocess
import sys
import threading
import time

import pytest

from fer import run_dir
from fer.errors import RunInUseError, StorageError, UserError
from fer.io import files, processes
from fer.run_dir import RunDir
from fer.train import run_lock
from tests.train import factories

HOLD = """
import sys, time
from fer.train import run_lock
with run_lock.hold(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def short_leases(monkeypatch):
    """Treats every path as one of an object store, with leases that expire after 0.5 s."""
    monkeypatch.setattr(run_lock, "is_remote", lambda path: True)
    monkeypatch.setattr(run_lock, "LEASE_S", 0.5)
    monkeypatch.setattr(run_lock, "RENEW_S", 0.05)
    monkeypatch.setattr(run_lock, "SETTLE_S", 0.1)


def read_owner(workdir) -> dict:
    return json.loads((workdir / run_lock.OWNER_FILE).read_text())


def test_hold_removes_its_own_files(tmp_path):
    with run_lock.hold(str(tmp_path / "a" / "run")):
        assert read_owner(tmp_path / "a" / "run")["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []
    with run_lock.hold(str(tmp_path / "run")):
        (tmp_path / "run" / "config.json").touch()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.json"]


def test_hold_removes_its_new_directory_when_the_run_cannot_start(tmp_path):
    with pytest.raises(ValueError, match="no start"), run_lock.hold(str(tmp_path / "run")):
        raise ValueError("no start")
    assert list(tmp_path.iterdir()) == []


def test_hold_rejects_directory_with_owner_and_names_it(tmp_path):
    workdir = str(tmp_path / "run")
    with run_lock.hold(workdir):
        with pytest.raises(UserError, match=rf"run is in use by process {os.getpid()} on .*, since \d{{4}}-"):
            run_lock.hold(workdir).__enter__()
        assert read_owner(tmp_path / "run")["pid"] == os.getpid()
    with run_lock.hold(workdir):
        pass


@pytest.mark.extended
def test_hold_takes_over_from_killed_process(root, synthetic_shards, tmp_path):
    workdir = str(tmp_path / "run")
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", HOLD, workdir]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=rf"in use by process {process.pid} on"):
            run_lock.hold(workdir).__enter__()
        process.kill()
    assert (tmp_path / "run" / run_lock.OWNER_FILE).exists()
    # A run that was killed at its start can start.
    run_dir.check_run_dir(RunDir(workdir), None, factories.experiment(), synthetic_shards)
    with run_lock.hold(workdir):
        assert read_owner(tmp_path / "run")["pid"] == os.getpid()


def test_hold_keeps_the_lock_when_the_disk_is_full(tmp_path, monkeypatch):
    def fail(*_arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(run_lock.os, "write", fail)
    with run_lock.hold(str(tmp_path)), pytest.raises(RunInUseError):
        run_lock.hold(str(tmp_path)).__enter__()


def test_hold_error_names_path_that_is_not_writable(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"Cannot write .*file/run"):
        run_lock.hold(str(tmp_path / "file" / "run")).__enter__()


def test_hold_in_a_store_renews_its_lease_and_removes_it(short_leases, tmp_path):
    (tmp_path / "run").mkdir()
    with run_lock.hold(str(tmp_path / "run")):
        first = read_owner(tmp_path / "run")
        while read_owner(tmp_path / "run")["renewals"] < 2:
            pass
        assert read_owner(tmp_path / "run")["lease"] == first["lease"]
    assert list((tmp_path / "run").iterdir()) == []


def test_hold_in_a_store_waits_for_a_lease_to_expire(short_leases, tmp_path, capsys):
    owner = {"host": "elsewhere", "pid": 7, "started": "2026-01-01 00:00:00", "lease": "x", "renewals": 3}
    (tmp_path / run_lock.OWNER_FILE).write_text(json.dumps(owner))
    with run_lock.hold(str(tmp_path)):
        assert read_owner(tmp_path)["pid"] == os.getpid()
    assert "has an owner, process 7 on elsewhere, since 2026-01-01" in capsys.readouterr().out


def test_hold_in_a_store_rejects_a_lease_that_is_renewed(short_leases, tmp_path, monkeypatch):
    path, renewals = tmp_path / run_lock.OWNER_FILE, iter(range(10**6))
    owner = {"host": "elsewhere", "pid": 7, "started": "2026-01-01 00:00:00", "lease": "x"}
    path.write_text(json.dumps(owner))
    monkeypatch.setattr(
        run_lock.time, "sleep", lambda _: path.write_text(json.dumps({**owner, "renewals": next(renewals)}))
    )
    with pytest.raises(UserError, match="in use by process 7 on elsewhere"):
        run_lock.hold(str(tmp_path)).__enter__()
    assert read_owner(tmp_path)["host"] == "elsewhere"


def test_hold_in_a_store_rejects_a_lease_that_another_process_writes_at_the_same_time(
    short_leases, tmp_path, monkeypatch
):
    other = {"host": "elsewhere", "pid": 7, "started": "2026-01-01 00:00:00", "lease": "x", "renewals": 0}
    path = tmp_path / run_lock.OWNER_FILE
    monkeypatch.setattr(run_lock.time, "sleep", lambda _: path.write_text(json.dumps(other)))
    with pytest.raises(UserError, match="in use by process 7 on elsewhere"):
        run_lock.hold(str(tmp_path)).__enter__()
    assert read_owner(tmp_path) == other


def check_for_a_minute(check: run_lock.Check) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        check()


@pytest.mark.parametrize("successor", [{"host": "elsewhere", "pid": 7, "started": "2026", "lease": "x"}, None])
def test_hold_in_a_store_checks_that_no_process_took_the_run_over(short_leases, tmp_path, monkeypatch, successor):
    """After an outage, in which another process took the run over; it may have ended already.

    By the clock of this process, which stands still while its machine is suspended, the lease has not expired.
    """
    write, owner = files.write_json, tmp_path / run_lock.OWNER_FILE
    lock, reachable = threading.Lock(), [True]

    def write_if_reachable(path: str, content: object) -> None:
        with lock:
            if not reachable[0]:
                raise StorageError("unreachable")
            write(path, content)

    monkeypatch.setattr(run_lock.files, "write_json", write_if_reachable)
    with run_lock.hold(str(tmp_path)) as check:
        check()
        with lock:
            reachable[0] = False
            owner.write_text(json.dumps(successor)) if successor else owner.unlink()
        time.sleep(run_lock.LEASE_S / 2)
        reachable[0] = True
        with pytest.raises(UserError, match="in use by process 7 on elsewhere" if successor else "in use by another"):
            check_for_a_minute(check)
    assert owner.exists() == bool(successor)
    if successor:
        assert read_owner(tmp_path) == successor


@pytest.mark.parametrize("content", ["", "{", "[1]", "null"])
def test_hold_in_a_store_ignores_an_unreadable_lease(short_leases, tmp_path, content):
    (tmp_path / run_lock.OWNER_FILE).write_text(content)
    with run_lock.hold(str(tmp_path)):
        assert read_owner(tmp_path)["pid"] == os.getpid()


def test_hold_in_a_store_waits_for_the_lease_of_a_machine_of_the_same_name(short_leases, tmp_path, capsys):
    """Two machines may have one host name, and containers one process id."""
    owner = {**run_lock._make_owner(), "process": f"00000000-{os.getpid()}-1", "lease": "x"}
    (tmp_path / run_lock.OWNER_FILE).write_text(json.dumps(owner))
    with run_lock.hold(str(tmp_path)):
        assert read_owner(tmp_path)["pid"] == os.getpid()
    assert "for its lease to expire" in capsys.readouterr().out


def test_hold_in_a_store_takes_over_from_an_ended_process_of_this_machine_at_once(short_leases, tmp_path, capsys):
    with subprocess.Popen(["true"]) as process:
        pass
    owner = {**run_lock._make_owner(), "process": f"{processes.machine()}-{process.pid}-1", "lease": "x"}
    (tmp_path / run_lock.OWNER_FILE).write_text(json.dumps(owner))
    with run_lock.hold(str(tmp_path)):
        assert read_owner(tmp_path)["pid"] == os.getpid()
    assert capsys.readouterr().out == ""
