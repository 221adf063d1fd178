"""Streams shards in a separate process, so that its peak memory is that of streaming alone.

The process runs this module as a program. For each line of the standard input it takes batches and prints the number of
images; at the end of the input it prints its peak memory in MiB.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys

from fer.config import Data
from fer.data import manifest, pipeline
from fer.data.sampling import BatchSchedule
from fer.errors import UserError

BATCH = 128
TURN_BATCHES = 1000  # batches per line
SHUFFLE_BUFFER = 8192  # smaller than the smallest measured split, so that all splits are streamed alike


class StreamProcess:
    """Handle of the streaming process. After `close`, `peak_mib` is its peak memory in MiB."""

    def __init__(self, folder: str, turn: int = TURN_BATCHES):
        command = [sys.executable, "-m", "fer.benchmark.stream_process", folder, str(turn)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.turn()  # opens the shards, compiles and fills the shuffle buffer
        self.peak_mib = 0.0

    def turn(self) -> int:
        """Takes the batches of one line. Returns the number of their images."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # the process has ended, and its output too
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        return int(self._check_printed(self._process.stdout.readline()))

    def close(self) -> None:
        """Ends the process and reads its peak memory."""
        self.peak_mib = float(self._check_printed(self._process.communicate()[0]))

    def _check_printed(self, text: str) -> str:
        """Returns what the process printed. Raises a UserError if the process ended without printing."""
        if not text:
            raise UserError(
                f"The streaming process ended with exit code {self._process.wait()}: see its message above."
            )
        return text


def serve(folder: str, turn: int) -> None:
    """Takes `turn` batches for each line of the standard input, until it ends."""
    source = pipeline.open_split(
        manifest.read_manifest(folder), "train", Data(mode="streaming", shuffle_buffer_size=SHUFFLE_BUFFER)
    )
    batches = iter(pipeline.training_batches(source, BatchSchedule(0, BATCH, 0, 10**9, 1, [0])))
    for _ in sys.stdin:
        print(sum(next(batches).labels.shape[0] for _ in range(turn)), flush=True)
    print(peak_mib())


def peak_mib() -> float:
    """Returns the peak resident set size of this process; getrusage would include that of the parent process."""
    with open("/proc/self/status", encoding="ascii") as file:
        return int(next(line for line in file if line.startswith("VmHWM")).split()[1]) / 1024


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
