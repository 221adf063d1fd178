"""Names of processes, by which other processes of the same machine recognize whether they still run."""

from __future__ import annotations

import contextlib
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
    host, _, rest = process.partition("-")
    pid, _, start = rest.partition("-")
    if host != machine() or not pid.isdecimal():
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
    """Returns eight digits that identify this machine or container until its next boot.

    Machines may have the same host name, and containers number processes on their own.
    """
    boot = namespace = ""
    with contextlib.suppress(OSError):  # not Linux
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
        namespace = os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(f"{socket.gethostname()} {boot} {namespace}".encode()).hexdigest()[:8]


def _start_time(pid: int) -> str:
    """Returns the start time in clock ticks since boot; "" for an ended process, and on systems other than Linux."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            state, *fields = file.read().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in "ZX" else fields[18]
