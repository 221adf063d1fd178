"""Processes that parse chunks of a source.

Uses processes because the GIL dominates at this chunk size: NumPy's operations on a few faces take less time than
switching threads. A worker is a process that runs `main` of this module: it reads chunks from standard input and writes
the results to standard output. It ends with its input, so also when its parent process is killed.

This replaces `concurrent.futures.ProcessPoolExecutor`, which converts FER-2013 more slowly (21 % with pickled chunks,
24 % with `multiprocessing.shared_memory`, two workers) and waits forever if the system kills a worker that is writing
its result: the other workers keep the pipe of the results open. Its workers import the user's main module again.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import fcntl
import os
import pickle
import signal
import subprocess
import sys
import threading

import fer
from fer.convert.audit import image_hashes
from fer.convert.audit.image_hashes import ImageHashes
from fer.convert.readers import csv_reader, image_folder
from fer.convert.rows import Block
from fer.errors import UserError

MIN_BYTES = 16_000_000  # of the sources; fewer are parsed before a process has started

Chunk = csv_reader.Lines | image_folder.Pictures

_PIPE_BYTES = 1 << 20  # capacity of a pipe, for a chunk or its result; the maximum that Linux grants to every user
_EXIT_TIMEOUT_S = 5.0  # seconds that a worker may take to end
# Not "python -m", which searches the current folder first and would run a csv.py among the user's files.
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
    """Threads for the work of a conversion, each with a process that parses chunks for it.

    Attributes:
      executor: the threads.
      num_workers: the number of threads; results do not depend on it.
    """

    def __init__(self, workers: int, size: int):
        """Prepares threads and processes, which start when they are needed.

        Args:
          workers: number of threads.
          size: bytes of the sources. With one thread or few bytes, the threads themselves parse.
        """
        self.num_workers = workers
        self.executor = concurrent.futures.ThreadPoolExecutor(workers)
        self._uses_processes = workers > 1 and size >= MIN_BYTES
        self._local = threading.local()
        self._workers: list[subprocess.Popen] = []

    def parse(self, chunk: Chunk) -> tuple[Block, ImageHashes]:
        """Returns `parse_chunk(chunk)`, computed in a process or in this thread.

        Raises:
          UserError: the process died, as when the system ends it for lack of memory.
        """
        if not self._uses_processes:
            return parse_chunk(chunk)
        if not hasattr(self._local, "worker"):
            self._local.worker = self._start_worker()
        worker = self._local.worker
        try:
            pickle.dump(chunk, worker.stdin, pickle.HIGHEST_PROTOCOL)
            worker.stdin.flush()
            return pickle.load(worker.stdout)
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            raise UserError(
                f"A parser process died (exit code {_wait_for_exit(worker)}): if the memory is full, close other "
                "programs, or convert with fewer --workers."
            ) from error

    def close(self) -> None:
        """Ends the processes and the threads."""
        for worker in self._workers:
            with contextlib.suppress(OSError), worker:  # OSError: the rest of the input could not be sent
                worker.kill()
        self.executor.shutdown()

    def _start_worker(self) -> subprocess.Popen:
        """Starts a worker process."""
        environment = {
            **os.environ,
            "OPENBLAS_NUM_THREADS": "1",  # there is already one process per processor
            # By default, the GNU C library returns the memory of each operation's arrays to the system and requests it
            # again for the next one, which takes as long as the parsing.
            "MALLOC_TRIM_THRESHOLD_": str(1 << 26),
            "MALLOC_MMAP_THRESHOLD_": str(1 << 25),
        }
        places = [place for place in sys.path if isinstance(place, str)]
        # -S: the module `site` would process the .pth files of all packages, a third of the time to start. An editable
        # installation is found by such a file, so that the folder of this package is added.
        command = [sys.executable, "-S", "-c", _WORKER_PROGRAM, *places, os.path.dirname(os.path.dirname(fer.__file__))]
        worker = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,  # Ctrl-C in a terminal would otherwise interrupt a worker that is still starting
        )
        self._workers.append(worker)
        for pipe in filter(None, (worker.stdin, worker.stdout)):
            with contextlib.suppress(OSError):  # the user has too many large pipes, or the system is not Linux
                fcntl.fcntl(pipe, _F_SETPIPE_SZ, _PIPE_BYTES)
        return worker


def _wait_for_exit(worker: subprocess.Popen) -> int:
    """Returns the exit code of a worker that does not answer, after it has ended."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        worker.communicate(timeout=_EXIT_TIMEOUT_S)  # closes its input, which makes the worker end
    worker.kill()
    return worker.wait()


def main() -> None:
    """Runs a worker process: parses chunks from standard input until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles an interrupt
    try:
        while True:
            pickle.dump(parse_chunk(pickle.load(sys.stdin.buffer)), sys.stdout.buffer, pickle.HIGHEST_PROTOCOL)
            sys.stdout.buffer.flush()
    except (EOFError, BrokenPipeError):
        os._exit(0)  # the reader of standard output is gone
