"""Measures the peak memory of a program with all its child processes."""

from __future__ import annotations

import contextlib
import pathlib
import subprocess
import time
from collections.abc import Iterator, Sequence

INTERVAL_S = 0.02  # seconds between two samples

_PROC = pathlib.Path("/proc")


def peak_mib(command: Sequence[str]) -> float:
    """Runs a program to its end and returns the maximum of its memory and that of its descendants, in MiB.

    The measure is the proportional set size: a page shared by n processes counts as 1/n in each, so that the sum counts
    it once. It is sampled from /proc (Linux) every `INTERVAL_S` seconds.

    Raises:
      CalledProcessError: the program failed.
    """
    program = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    peak = 0
    while program.poll() is None:
        peak = max(peak, sum(_proportional_set_size(process) for process in [program.pid, *_descendants(program.pid)]))
        time.sleep(INTERVAL_S)
    if program.returncode:
        raise subprocess.CalledProcessError(program.returncode, command)
    return round(peak / 2**20, 1)


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
