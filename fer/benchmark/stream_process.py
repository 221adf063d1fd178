"""Streams shards in a process of its own, so that its peak memory is that of streaming alone.

This module is run as a program. For each line of its standard input it takes a turn of batches and answers with the
number of images; when the input ends it answers with its peak memory in MiB.
"""

from __future__ import annotations

import subprocess
import sys

from fer.config import Data
from fer.data import manifest, pipeline

BATCH = 128
TURN = 1000  # batches, by default
WINDOW = 8192  # less than the smallest split that is measured, so that all splits are streamed alike


class Streamer:
    """The process, seen from the one that measures. After `close`, `peak_mib` is its peak memory."""

    def __init__(self, folder: str, turn: int = TURN):
        command = [sys.executable, "-m", "fer.benchmark.stream_process", folder, str(turn)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.turn()  # opens, compiles, fills the first window
        self.peak_mib = 0.0

    def turn(self) -> int:
        """Takes a turn of batches. Returns the images in them."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """Ends the process and reads its peak memory in MiB."""
        self.peak_mib = float(self._process.communicate()[0])


def serve(folder: str, turn: int) -> None:
    """Answers the lines of standard input, with `turn` batches each, until it ends."""
    source = pipeline.open_split(manifest.read_manifest(folder), "train", Data(mode="streaming", shuffle_window=WINDOW))
    batches = iter(pipeline.training_batches(source, 0, BATCH, 0, 10**9, 1, [0]))
    for _ in sys.stdin:
        print(sum(next(batches).labels.shape[0] for _ in range(turn)), flush=True)
    print(peak_mib())


def peak_mib() -> float:
    """The most memory that this process had in use; getrusage would count that of the process which began it."""
    with open("/proc/self/status", encoding="ascii") as file:
        return int(next(line for line in file if line.startswith("VmHWM")).split()[1]) / 1024


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
