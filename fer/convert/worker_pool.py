"""Processes that parse chunks of a source.

Uses processes because the GIL dominates at this chunk size: NumPy's operations on a few faces take less time than
switching threads. A worker is a process that runs `fer.convert.parser_process`. It ends with its input, so also when
its parent process is killed. This module loads in a moment, so that a program can start the processes before it loads
the others.

This replaces `concurrent.futures.ProcessPoolExecutor`, which converts FER-2013 more slowly (21 % with pickled chunks,
24 % with `multiprocessing.shared_memory`, two workers) and waits forever if the system kills a worker that is writing
its result: the other workers keep the pipe of the results open. Its workers import the user's main module again.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import fcntl
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import fer
from fer.errors import UserError

if TYPE_CHECKING:
    from fer.convert.parser_process import Chunk, Parsed

MIN_BYTES = 16_000_000  # of the sources; fewer are parsed before a process has started
BYTES_PER_PROCESS = 8_000_000  # of the sources, for each process that starts at once

_PIPE_BYTES = 1 << 20  # capacity of a pipe, for a chunk or its result; the maximum that Linux grants to every user
_EXIT_TIMEOUT_S = 5.0  # seconds that a worker may take to end
# Not "python -m", which searches the current folder first and would run a csv.py among the user's files.
_WORKER_PROGRAM = (
    "import sys; sys.path[:] = sys.argv[1:]; from fer.convert import parser_process; parser_process.main()"
)
_F_SETPIPE_SZ = 1031  # F_SETPIPE_SZ, which Python names from 3.10 on


class ParserPool:
    """Threads for the work of a conversion, each with a process that parses chunks for it.

    Attributes:
      executor: the threads.
      num_workers: the number of threads; results do not depend on it.
    """

    def __init__(self, workers: int, size: int):
        """Starts the first processes; the others and the threads start when they are needed.

        Args:
          workers: number of threads; 0: the number of processors.
          size: bytes of the sources. With one thread or few bytes, the threads themselves parse.

        Raises:
          UserError: the system starts no more processes.
        """
        self.num_workers = workers or os.cpu_count() or 1
        self.executor = concurrent.futures.ThreadPoolExecutor(self.num_workers)
        self._local = threading.local()
        self._workers: list[subprocess.Popen] = []
        self._uses_processes = self.num_workers > 1 and size >= MIN_BYTES
        self._unassigned: collections.deque[subprocess.Popen] = collections.deque()  # used by no thread yet
        try:
            for _ in range(min(self.num_workers, size // BYTES_PER_PROCESS) if self._uses_processes else 0):
                self._unassigned.append(self._start_worker())
        except BaseException:
            self.close()
            raise

    def parse(self, chunk: Chunk) -> Parsed:
        """Returns `parser_process.parse_chunk(chunk)`, computed in a process or in this thread.

        Raises:
          UserError: the process did not start, or died, as when the system ends it for lack of memory.
        """
        if not self._uses_processes:
            from fer.convert import parser_process

            return parser_process.parse_chunk(chunk)
        if not hasattr(self._local, "worker"):
            self._local.worker = self._take_worker()
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

    def _take_worker(self) -> subprocess.Popen:
        with contextlib.suppress(IndexError):  # none is left
            return self._unassigned.popleft()
        return self._start_worker()

    def _start_worker(self) -> subprocess.Popen:
        """Starts a worker process.

        Raises:
          UserError: the system starts no more processes.
        """
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
        try:
            worker = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
                start_new_session=True,  # Ctrl-C in a terminal would otherwise interrupt a worker that is starting
            )
        except OSError as error:
            raise UserError(
                f"Parser process {len(self._workers) + 1} cannot be started ({error.strerror}): convert with fewer "
                "--workers."
            ) from error
        self._workers.append(worker)
        for pipe in filter(None, (worker.stdin, worker.stdout)):
            with contextlib.suppress(OSError):  # the user has too many large pipes, or the system is not Linux
                fcntl.fcntl(pipe, _F_SETPIPE_SZ, _PIPE_BYTES)
        return worker


@contextlib.contextmanager
def start_early(workers: int, size: int) -> Iterator[ParserPool | None]:
    """Yields a pool for at least `size` bytes, whose processes start while the caller loads other modules.

    Yields:
      The pool; None if these bytes need no processes. Closed at the end.
    """
    if size < MIN_BYTES:
        yield None
        return
    with contextlib.closing(ParserPool(workers, size)) as pool:
        yield pool


def _wait_for_exit(worker: subprocess.Popen) -> int:
    """Returns the exit code of a worker that does not answer, after it has ended."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        worker.communicate(timeout=_EXIT_TIMEOUT_S)  # closes its input, which makes the worker end
    worker.kill()
    return worker.wait()
