"""How much memory a program takes together with the processes that it begins."""

from __future__ import annotations

import contextlib
import pathlib
import subprocess
import time
from collections.abc import Iterator, Sequence

EVERY = 0.02  # seconds between two looks

_PROC = pathlib.Path("/proc")


def peak_mib(command: Sequence[str]) -> float:
    """Runs a program to its end and returns the most memory that it and its descendants had at once, in MiB.

    It is their proportional set size: a page that n of them share counts for 1/n in each, so that the sum counts it
    once. Linux tells it in /proc; it is looked at every `EVERY` seconds.

    Raises:
      CalledProcessError: the program failed.
    """
    program = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    peak = 0
    while program.poll() is None:
        peak = max(peak, sum(_bytes(process) for process in [program.pid, *_descendants(program.pid)]))
        time.sleep(EVERY)
    if program.returncode:
        raise subprocess.CalledProcessError(program.returncode, command)
    return round(peak / 2**20, 1)


def _descendants(process: int) -> Iterator[int]:
    with contextlib.suppress(OSError):  # it has ended since
        for thread in (_PROC / str(process) / "task").iterdir():
            for child in map(int, (thread / "children").read_text().split()):
                yield child
                yield from _descendants(child)


def _bytes(process: int) -> int:
    """The proportional set size of a process; 0 of one that has ended."""
    with contextlib.suppress(OSError):
        for line in (_PROC / str(process) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
