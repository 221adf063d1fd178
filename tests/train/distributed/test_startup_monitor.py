"""A worker that waits in TensorFlow for one that is gone is ended in time, with a sentence."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

# Waits as TensorFlow does: with Python's lock held, so that no thread and no handler of this process can run.
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
others.report_started()
"""


@pytest.fixture
def start():
    """Starts a worker with a connection to another one, which is the test."""
    started = []

    def starter(connect: float, grace: float, connected: bool, seconds: float):
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

    yield starter
    for process, ours in started:
        process.kill()
        process.communicate()
        ours.close()


def ended(process: subprocess.Popen) -> tuple[int, str]:
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


def test_worker_ends_when_another_one_is_gone_before_it_has_started(start):
    process, other = start(connect=60, grace=0.2, connected=False, seconds=30)
    begun = time.monotonic()
    other.close()
    assert ended(process) == (
        -signal.SIGKILL,
        "train.py: This is worker 0 of 2 (a:1), and worker 1 (b:2) ended before all had started; start the same "
        "command on all of them again.\n",
    )
    assert time.monotonic() - begun < 20


def test_worker_has_time_to_end_by_itself(start):
    process, other = start(connect=60, grace=30, connected=True, seconds=0.3)
    other.close()
    assert ended(process) == (0, "")


def test_worker_ends_when_it_is_not_connected_in_time(start):
    process, _ = start(connect=0.2, grace=60, connected=False, seconds=30)
    assert ended(process) == (
        -signal.SIGKILL,
        "train.py: This is worker 0 of 2 (a:1), and TensorFlow did not connect it with the others within 0 s: check "
        "that all of a:1, b:2 reach each other on every port.\n",
    )


def test_worker_that_is_connected_has_all_the_time_to_start(start):
    process, other = start(connect=0.2, grace=0.2, connected=True, seconds=0.8)
    other.sendall(b".")  # it has started, and needs the connection no more
    other.close()
    assert ended(process) == (0, "")


def test_worker_says_that_it_has_started_and_leaves_no_process_behind(start):
    process, other = start(connect=60, grace=60, connected=True, seconds=0)
    assert ended(process) == (0, "")
    other.settimeout(30)
    assert other.recv(2) == b"."
    assert other.recv(1) == b"", "somebody else holds the connection open"


def test_killed_worker_is_gone_for_the_others_at_once(start):
    process, other = start(connect=60, grace=60, connected=True, seconds=30)
    os.kill(process.pid, signal.SIGKILL)
    other.settimeout(30)
    assert other.recv(1) == b""
