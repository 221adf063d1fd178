"""Wall time, CPU time and peak memory of a program, with those of the processes that it starts."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shlex
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from fer.errors import UserError

INTERVAL_S = 0.02  # seconds between two samples of the memory

_PROC = pathlib.Path("/proc")


class Usage(NamedTuple):
    """Resources that a program used, including its descendants."""

    seconds: float  # wall time
    cpu_seconds: float  # user and system time of the program and of the descendants that it waited for
    peak_mib: float


def run(command: Sequence[str], environment: Mapping[str, str] | None = None, interval_s: float = INTERVAL_S) -> Usage:
    """Runs a program to its end and measures it.

    The measure of memory is the proportional set size: a page shared by n processes counts as 1/n in each, so that the
    sum counts it once. It is sampled from /proc (Linux), which takes milliseconds for a large program.

    Args:
      command: the program and its arguments.
      environment: its environment variables; by default those of this process.
      interval_s: seconds between two samples of the memory.

    Raises:
      UserError: the program failed; the message holds the last line of its standard error.
    """
    before, started = _cpu_seconds_of_children(), time.perf_counter()
    with tempfile.TemporaryFile("w+", errors="replace") as errors:
        program = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, env=environment)
        peak = 0
        while True:
            peak = max(peak, sum(map(_proportional_set_size, [program.pid, *_descendants(program.pid)])))
            with contextlib.suppress(subprocess.TimeoutExpired):
                program.wait(interval_s)
                break
        seconds = time.perf_counter() - started
        if program.returncode:
            errors.seek(0)
            lines = errors.read().split("\n")
            reason = next((line.strip() for line in reversed(lines) if line.strip()), "it printed no message")
            raise UserError(f"{shlex.join(command)} failed with exit code {program.returncode}: {reason}")
    return Usage(seconds, _cpu_seconds_of_children() - before, round(peak / 2**20, 1))


def _cpu_seconds_of_children() -> float:
    times = os.times()
    return times.children_user + times.children_system


def _descendants(process: int) -> Iterator[int]:
    with contextlib.suppress(OSError):  # the process has ended
        for thread in (_PROC / str(process) / "task").iterdir():
            for child in map(int, (thread / "children").read_text().split()):
                yield child
                yield from _descendants(child)


def _proportional_set_size(process: int) -> int:
    """Returns the proportional set size of a process; 0 if it has ended."""
    with contextlib.suppress(OSError):
        for line in (_PROC / str(process) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
