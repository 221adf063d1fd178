"""Names of processes, by which other processes of the same machine recognize whether they still run."""

from __future__ import annotations

import functools
import hashlib
import os
import socket


def name() -> str:
    """Returns the name of this process: machine, process id and start time, joined by hyphens."""
    return f"{machine()}-{os.getpid()}-{_start_time(os.getpid())}"


def is_running(process: str) -> bool | None:
    """Returns whether a process runs; None for one of another machine, or if that cannot be determined.

    The start time distinguishes it from a later process with the same id.

    Args:
      process: as `name` returns it, or "" for an unknown process.
    """
    host, pid, start = process.split("-") if process else ("", "0", "")
    if host != machine():
        return None
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except OSError:  # of another user
        return None
    return _start_time(int(pid)) == start


def has_ended(pid: int) -> bool:
    """Returns whether this machine has no process of this id; False if that cannot be determined."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


@functools.cache
def machine() -> str:
    """Returns eight digits that identify this machine or container, as containers number processes on their own."""
    try:
        processes = os.readlink("/proc/self/ns/pid")
    except OSError:  # not Linux
        processes = ""
    return hashlib.sha256(f"{socket.gethostname()} {processes}".encode()).hexdigest()[:8]


def _start_time(pid: int) -> str:
    """Returns the start time in clock ticks since boot; "" for an ended process, and on systems other than Linux."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            state, *fields = file.read().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in "ZX" else fields[18]
