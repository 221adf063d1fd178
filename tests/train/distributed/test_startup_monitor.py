"""Checks that a worker is stopped in time when it waits in TensorFlow for a worker that has ended."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

# Waits as TensorFlow does: the GIL is held, so that no thread and no signal handler of this process can run.
WORKER = """
import ctypes, socket, sys
from fer.train.distributed import rendezvous
from fer.train.distributed.cluster_resolver import Cluster
sys.argv[0] = "scripts/train.py"
number, connect, grace, connected, seconds = int(sys.argv[1]), *map(float, sys.argv[2:])
others = rendezvous.ConnectedWorkers(Cluster(("a:1", "b:2"), 0), {1: socket.socket(fileno=number)})
others.start_monitor(connect, grace)
if connected:
    others.report_connected()
print("waiting", flush=True)
ctypes.PyDLL(None).usleep(int(1e6 * seconds))
others.close(started=True)
"""


@pytest.fixture
def start_worker():
    """Returns a function that starts a worker; the test plays the other worker at the end of the connection."""
    started = []

    def start(connect: float, grace: float, connected: bool, seconds: float):
        ours, theirs = socket.socketpair()
        numbers = [theirs.fileno(), connect, grace, int(connected), seconds]
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER, *map(str, numbers)],
            pass_fds=[theirs.fileno()],
            stdout=pipe,
            stderr=pipe,
            text=True,
        )
        theirs.close()
        started.append((process, ours))
        assert process.stdout.readline() == "waiting\n"
        return process, ours

    yield start
    for process, ours in started:
        process.kill()
        process.communicate()
        ours.close()


def wait_for_exit(process: subprocess.Popen) -> tuple[int, str]:
    """Returns exit code and standard error of a process."""
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


def test_worker_ends_when_another_ends_before_the_start(start_worker):
    process, other = start_worker(connect=60, grace=0.2, connected=False, seconds=30)
    began = time.monotonic()
    other.close()
    assert wait_for_exit(process) == (
        -signal.SIGKILL,
        "train.py: This is worker 0 of 2 (a:1), and worker 1 (b:2) ended before all had started; start the same "
        "command on all of them again.\n",
    )
    assert time.monotonic() - began < 20


def test_worker_may_end_by_itself_within_grace_period(start_worker):
    process, other = start_worker(connect=60, grace=30, connected=True, seconds=0.3)
    other.close()
    assert wait_for_exit(process) == (0, "")


def test_worker_ends_when_connection_times_out(start_worker):
    process, _ = start_worker(connect=0.2, grace=60, connected=False, seconds=30)
    assert wait_for_exit(process) == (
        -signal.SIGKILL,
        "train.py: This is worker 0 of 2 (a:1), and TensorFlow did not connect it with the others within 0 s: check "
        "that all of a:1, b:2 reach each other on every port.\n",
    )


def test_worker_has_no_time_limit_once_connected(start_worker):
    process, other = start_worker(connect=0.2, grace=0.2, connected=True, seconds=0.8)
    other.sendall(b".")  # the other worker has started and no longer needs the connection
    other.close()
    assert wait_for_exit(process) == (0, "")


def test_worker_reports_its_start_and_leaves_no_process(start_worker):
    process, other = start_worker(connect=60, grace=60, connected=True, seconds=0)
    assert wait_for_exit(process) == (0, "")
    other.settimeout(30)
    assert other.recv(2) == b"."
    assert other.recv(1) == b"", "another process holds the connection open"


def test_worker_connection_closes_at_once_when_worker_is_killed(start_worker):
    process, other = start_worker(connect=60, grace=60, connected=True, seconds=30)
    os.kill(process.pid, signal.SIGKILL)
    other.settimeout(30)
    assert other.recv(1) == b""
