"""Start barrier: the workers of a run wait for each other before TensorFlow connects them.

The first worker listens at its address; the others connect and identify themselves; once all are present, the first
worker sends all of them "go". TensorFlow's own barrier, the coordination service behind MultiWorkerMirroredStrategy, is
not sufficient (measured with 2.15 and 2.21):

- Its servers listen on every interface and accept any process that speaks gRPC as a worker.
- Its wait holds the GIL: neither Ctrl-C nor SIGTERM ends the process.
- Its timeout does not end the wait of the first worker, and the error of the others does not name the missing one.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import socket
import subprocess
import sys
import time

from fer.errors import UserError, WorkerLostError
from fer.train.distributed import rendezvous_protocol, rendezvous_server, startup_monitor
from fer.train.distributed.cluster_resolver import Cluster

TOKEN_VARIABLE = "FER_RENDEZVOUS_TOKEN"  # environment variable with a secret that all workers share

RETRY_INTERVAL_S = 0.2  # seconds between two attempts to reach the first worker
MAX_ANSWER_BYTES = 1024  # bytes
REJECTIONS = {
    rendezvous_protocol.WORKERS_DIFFER: (
        "worker 0 was started with another list of workers: give the same list to every worker"
    ),
    rendezvous_protocol.TOKEN_DIFFERS: (
        f"worker 0 has another {TOKEN_VARIABLE} in its environment, or only one of the two has one: set the same value "
        "for all workers"
    ),
    rendezvous_protocol.INDEX_TAKEN: ("another process is connected as worker {index}: give each worker its own index"),
}


def wait_for_workers(workers: Cluster, seconds: float, token: str = "") -> ConnectedWorkers:
    """Waits until all workers have called it; returns on all of them at nearly the same time.

    Args:
      workers: the same on all workers except for the index.
      seconds: the timeout.
      token: a secret that all workers share, or "".

    Returns:
      The connections to other workers, which stay open until `ConnectedWorkers.close`.

    Raises:
      WorkerLostError: a worker did not connect in time, or left again.
      UserError: a worker connected twice; this worker's address is not one of this machine or its port is in use; or
        the lists of workers or the tokens differ.
    """
    end = time.monotonic() + seconds
    with rendezvous_protocol.listen(workers) as server:  # closed before TensorFlow binds the port
        if workers.chief:
            connections = rendezvous_server.RendezvousServer(workers, token).wait(server, seconds)
            return ConnectedWorkers(workers, connections)
        return ConnectedWorkers(workers, {0: _join(workers, token, end, seconds)})


class ConnectedWorkers:
    """The connections of this worker: the first worker has one to each other worker, the others one to the first."""

    def __init__(self, workers: Cluster, connections: dict[int, socket.socket]):
        self._workers, self._connections = workers, connections
        self._monitor: subprocess.Popen | None = None

    def start_monitor(self, connect: float, grace: float) -> None:
        """Starts the process that ends this one if it waits for a lost worker; see `startup_monitor`.

        Args:
          connect: timeout in seconds for TensorFlow to connect the workers, which `report_connected` reports.
          grace: seconds after the loss of a worker in which this process may end by itself.
        """
        settings = {
            "program": os.path.basename(sys.argv[0]),
            "name": self._workers.name,
            "workers": list(self._workers.workers),
            "connections": {each.fileno(): index for index, each in self._connections.items()},
            "connect": connect,
            "grace": grace,
        }
        self._monitor = subprocess.Popen(
            [sys.executable, "-I", "-S", startup_monitor.__file__, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=[each.fileno() for each in self._connections.values()],
        )

    def report_connected(self) -> None:
        """Reports to the monitor that TensorFlow has connected the workers."""
        assert self._monitor is not None
        assert self._monitor.stdin is not None
        with contextlib.suppress(OSError):  # the monitor was killed
            self._monitor.stdin.write(startup_monitor.CONNECTED)
            self._monitor.stdin.flush()

    def close(self, started: bool) -> None:
        """Closes the connections; later calls do nothing.

        Args:
          started: whether to report the start of this worker to the others, which otherwise count it as lost.
        """
        if self._monitor is not None:
            assert self._monitor.stdin is not None
            with contextlib.suppress(OSError):
                self._monitor.stdin.close()
            self._monitor.wait()
            self._monitor = None
        for connection in self._connections.values():
            with contextlib.suppress(OSError):
                connection.sendall(startup_monitor.DONE if started else b"")
            connection.close()
        self._connections = {}


def _join(workers: Cluster, token: str, end: float, seconds: float) -> socket.socket:
    """Connects to the first worker and waits for its "go", with retries. Returns the connection."""
    host, port = rendezvous_protocol.parse_address(workers.workers[0])
    reason = "no answer"
    while (left := end - time.monotonic()) > 0:
        answer = b""
        try:
            with contextlib.ExitStack() as stack:
                connection = stack.enter_context(socket.create_connection((host, port), timeout=left))
                rendezvous_protocol.enable_keepalive(connection)
                connection.sendall(rendezvous_protocol.encode_hello(workers, token))
                answer = _read_line(connection, end)
                if hmac.compare_digest(answer, rendezvous_protocol.encode_go(workers.index, workers, token)):
                    stack.pop_all()
                    return connection
        except (OSError, UnicodeError) as error:  # UnicodeError: not the name of a host
            reason = getattr(error, "strerror", None) or str(error)
        _check_answer(workers, answer)
        time.sleep(max(min(RETRY_INTERVAL_S, end - time.monotonic()), 0))
    raise WorkerLostError(
        f"This is {workers.name}, and worker 0 did not answer within {seconds:.0f} s ({workers.workers[0]}: {reason}): "
        "start the same command on every worker, and check that they reach each other."
    )


def _check_answer(workers: Cluster, answer: bytes) -> None:
    """Checks that the first worker has not rejected this one.

    Raises:
      UserError: it has; the message says why.
    """
    if answer.startswith(b"go"):  # with another proof
        answer = rendezvous_protocol.TOKEN_DIFFERS
    if answer in REJECTIONS:
        raise UserError(f"This is {workers.name}, and {REJECTIONS[answer].format(index=workers.index)}.")


def _read_line(connection: socket.socket, end: float) -> bytes:
    """Reads a line, its end included; returns what has arrived if the line is not complete in time."""
    line = b""
    while not line.endswith(b"\n") and len(line) < MAX_ANSWER_BYTES and (left := end - time.monotonic()) > 0:
        connection.settimeout(left)
        content = connection.recv(1)
        if not content:
            break
        line += content
    return line
