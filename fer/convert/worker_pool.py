"""Processes that parse. Threads would not do: NumPy's steps on a few faces are shorter than handing over Python's lock.

A member of the crew is a process that runs this module's `main`: pieces come in by its standard input, what is made of
them goes out by its standard output. It ends when its input does, so also when the process that began it is killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pickle
import signal
import subprocess
import sys
import threading
from typing import IO, Union

from fer.convert.audit import image_hashes
from fer.convert.audit.image_hashes import ImageHashes
from fer.convert.readers import csv_reader, image_folder
from fer.convert.rows import Block

MIN_BYTES = 16_000_000  # bytes to read; less is parsed before a process has started

Chunk = Union[csv_reader.Lines, image_folder.Pictures]

_PIPE_BYTES = (
    1 << 20
)  # bytes that a pipe holds, a piece and what is made of it: Linux gives as much to anybody who asks
_EXIT_TIMEOUT_S = 5.0  # seconds that a member may take to end
# Not "python -m", which would look for modules in the current folder first: a csv.py among the user's files would run.
_WORKER_PROGRAM = "import sys; sys.path[:] = sys.argv[1:]; from fer.convert import worker_pool; worker_pool.main()"
_F_SETPIPE_SZ = 1031  # F_SETPIPE_SZ, which Python names from 3.10 on


def parse_chunk(chunk: Chunk) -> tuple[Block, ImageHashes]:
    """Parses a chunk of a source.

    Returns:
      The faces and the rejected rows, in the order of the source, and the hashes of the faces.
    """
    if isinstance(chunk, image_folder.Pictures):
        block = image_folder.parse_pictures(chunk.pictures, chunk.labels, chunk.fit)
    else:
        block = csv_reader.parse_lines(chunk)
    return block, image_hashes.hash_images(block.images)


class ParserPool:
    """Parses pieces for the threads of a pool, each of which gets a process of its own."""

    def __init__(self, workers: int, size: int):
        """A crew for a pool of `workers` threads, and sources of `size` bytes: if these are few, it is nobody."""
        self._needed = workers > 1 and size >= MIN_BYTES
        self._own = threading.local()
        self._members: list[subprocess.Popen] = []

    def parse(self, piece: Chunk) -> tuple[Block, ImageHashes]:
        """As `parse`, wherever it is done.

        Raises:
          RuntimeError: the process died.
        """
        if not self._needed:
            return parse_chunk(piece)
        if not hasattr(self._own, "member"):
            self._own.member = self._begin()
        member = self._own.member
        try:
            pickle.dump(piece, member.stdin, pickle.HIGHEST_PROTOCOL)
            member.stdin.flush()
            return pickle.load(member.stdout)
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            raise RuntimeError(f"a process that parses died (exit code {_wait_for_exit(member)})") from error

    def close(self) -> None:
        """Ends the processes."""
        for member in self._members:
            member.kill()
            member.wait()
            with contextlib.suppress(OSError):  # what was not sent any more
                _pipe(member.stdin).close()
            _pipe(member.stdout).close()

    def _begin(self) -> subprocess.Popen:
        environment = {
            **os.environ,
            "OPENBLAS_NUM_THREADS": "1",  # the crew is as large as the machine already
            # The GNU C library would give the memory of each step's arrays back and fetch it anew for the next one,
            # which takes as long as the parsing.
            "MALLOC_TRIM_THRESHOLD_": str(1 << 26),
            "MALLOC_MMAP_THRESHOLD_": str(1 << 25),
        }
        command = [sys.executable, "-c", _WORKER_PROGRAM, *(place for place in sys.path if isinstance(place, str))]
        member = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        self._members.append(member)
        for pipe in (member.stdin, member.stdout):
            with contextlib.suppress(OSError):  # the user has many such already, or the system is not Linux
                fcntl.fcntl(_pipe(pipe), _F_SETPIPE_SZ, _PIPE_BYTES)
        return member


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    """Returns a pipe of a process that was started with pipes."""
    assert pipe is not None
    return pipe


def _wait_for_exit(member: subprocess.Popen) -> int:
    """The exit code of a member that no longer answers, once it has ended."""
    with contextlib.suppress(OSError):  # what was not sent any more
        _pipe(member.stdin).close()  # so that it ends, if it has not yet
    try:
        return member.wait(_EXIT_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        member.kill()
        return member.wait()


def main() -> None:
    """What a member of the crew does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is for the process that began this one
    try:
        while True:
            pickle.dump(parse_chunk(pickle.load(sys.stdin.buffer)), sys.stdout.buffer, pickle.HIGHEST_PROTOCOL)
            sys.stdout.buffer.flush()
    except (EOFError, BrokenPipeError):
        os._exit(0)  # nobody is there to flush to
