"""Start barrier: the workers of a run wait for each other before TensorFlow connects them.

The first worker listens at its address; the others connect and identify themselves; once all are present, the first
worker sends all of them "go". TensorFlow's own barriers (the coordination service behind MultiWorkerMirroredStrategy)
are not sufficient: their servers listen on every interface and accept any process that speaks gRPC as a worker, their
wait cannot be interrupted, and the error at the timeout does not name the missing worker.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import hmac
import json
import os
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from fer.errors import UserError
from fer.train.distributed import startup_monitor
from fer.train.distributed.cluster_resolver import Cluster

TOKEN_VARIABLE = "FER_RENDEZVOUS_TOKEN"  # environment variable with a secret that all workers share

RETRY_INTERVAL_S = 0.2  # seconds between two attempts to reach the first worker
HELLO_TIMEOUT_S = 5.0  # seconds in which a connection must identify itself
REJOIN_TIMEOUT_S = 20.0  # seconds in which a worker that left may return once all others are present
MAX_UNIDENTIFIED = 128  # connections that have not identified themselves; beyond that the oldest is closed
MAX_ANSWER_BYTES = 1024  # bytes
WORKERS_DIFFER, TOKEN_DIFFERS, INDEX_TAKEN = b"another list\n", b"another token\n", b"taken\n"
_NOT_LOCAL = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_KEEPALIVE = (
    ("TCP_KEEPIDLE", 5),
    ("TCP_KEEPINTVL", 5),
    ("TCP_KEEPCNT", 2),
)  # a disconnected host is noticed after 15 s


def wait_for_workers(workers: Cluster, seconds: float, token: str = "") -> ConnectedWorkers:
    """Waits until all workers have called it; returns on all of them at nearly the same time.

    Args:
      workers: the same on all workers except for the index.
      seconds: the timeout.
      token: a secret that all workers share, or "".

    Returns:
      The connections to other workers, which stay open until `ConnectedWorkers.report_started`.

    Raises:
      UserError: a worker did not connect in time, connected twice, or left again; this worker's address is not one of
        this machine or its port is in use; or the lists of workers or the tokens differ.
    """
    end = time.monotonic() + seconds
    with _listen(workers) as server:  # closed before TensorFlow binds the port
        if workers.chief:
            return ConnectedWorkers(workers, _WorkerListener(workers, token, end, seconds).wait(server))
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

    def report_started(self) -> None:
        """Reports the start of this worker to the others and closes the connections; later calls do nothing."""
        for connection in self._connections.values():
            with contextlib.suppress(OSError):
                connection.sendall(startup_monitor.DONE)
        self.close()

    def close(self) -> None:
        """Closes the connections. Unless `report_started` was called before, the others count this worker as lost."""
        if self._monitor is not None:
            assert self._monitor.stdin is not None
            with contextlib.suppress(OSError):
                self._monitor.stdin.close()
            self._monitor.wait()
            self._monitor = None
        for connection in self._connections.values():
            connection.close()
        self._connections = {}


class _WorkerListener:
    """The first worker's side of the barrier: identifies the connections of the other workers."""

    def __init__(self, workers: Cluster, token: str, end: float, seconds: float):
        self._workers, self._token, self._end, self._seconds = workers, token, end, seconds
        self._others = range(1, len(workers.workers))
        self._max_hello = 2 * len(_encode_hello(workers, token))
        self._present: dict[int, socket.socket] = {}
        self._left: dict[int, str] = {}  # workers that connected and left, and why
        self._rejoin_end = float("inf")  # deadline for those workers to return
        self._unidentified: dict[socket.socket, tuple[float, bytearray]] = {}  # deadline and bytes received so far
        self._selector = selectors.DefaultSelector()

    def wait(self, server: socket.socket) -> dict[int, socket.socket]:
        """Waits for every other worker, then sends "go" to all.

        Returns:
          The connection to each worker, by its index.

        Raises:
          UserError: as `wait_for_workers`.
        """
        server.setblocking(False)
        self._selector.register(server, selectors.EVENT_READ)
        try:
            while len(self._present) < len(self._others):
                self._check_deadline()
                for key, _ in self._selector.select(self._seconds_to_deadline()):
                    connection: Any = key.fileobj
                    if connection is server:
                        self._accept(server)
                    elif connection in self._unidentified:
                        self._read_hello(connection)
                    elif connection in self._present.values():
                        self._check_closed(connection)
                self._check_left()
                self._drop_silent()
            self._send_go()
            return self._present
        except BaseException:
            for connection in self._present.values():
                connection.close()
            raise
        finally:
            for connection in self._unidentified:
                connection.close()
            self._selector.close()

    def _seconds_to_deadline(self) -> float:
        """Returns the seconds until the next deadline."""
        limits = [self._end, self._rejoin_end, *(until for until, _ in self._unidentified.values())]
        return max(min(limits) - time.monotonic(), 0.001)

    def _check_deadline(self) -> None:
        if time.monotonic() < self._end:
            return
        missing = ", ".join(
            self._name(index) for index in self._others if index not in {**self._present, **self._left}
        ) or ", ".join(map(self._name, self._left))
        raise UserError(
            f"This is {self._workers.name}, and worker {missing} did not connect within {self._seconds:.0f} s: start "
            "the same command on every worker, and check that they reach each other."
        )

    def _check_left(self) -> None:
        """Raises UserError if all others have connected, but one has left and did not return in time."""
        if not self._left or len(self._present) + len(self._left) < len(self._others):
            self._rejoin_end = float("inf")
            return
        self._rejoin_end = min(self._rejoin_end, time.monotonic() + REJOIN_TIMEOUT_S)
        if time.monotonic() >= self._rejoin_end:
            index, reason = next(iter(self._left.items()))
            raise UserError(
                f"This is {self._workers.name}, and worker {self._name(index)} connected and left ({reason}): start "
                "the same command on every worker again."
            )

    def _accept(self, server: socket.socket) -> None:
        try:
            connection, _ = server.accept()
        except OSError:  # the peer has closed it, or there are too many open files
            self._drop_oldest()
            return
        if len(self._unidentified) >= MAX_UNIDENTIFIED:
            self._drop_oldest()
        connection.setblocking(False)
        _enable_keepalive(connection)
        self._unidentified[connection] = (time.monotonic() + HELLO_TIMEOUT_S, bytearray())
        self._selector.register(connection, selectors.EVENT_READ)

    def _read_hello(self, connection: socket.socket) -> None:
        """Reads from an unidentified connection; after a complete line, accepts it as a worker's or drops it."""
        buffer = self._unidentified[connection][1]
        content = _receive(connection)
        buffer += content
        if content and b"\n" not in buffer and len(buffer) <= self._max_hello:
            return
        line, newline, _ = bytes(buffer).partition(b"\n")
        index, answer = self._identify(line) if newline and len(line) <= self._max_hello else (0, b"")
        if not index:
            self._drop(connection, answer)
            return
        del self._unidentified[connection]
        self._left.pop(index, None)
        self._present[index] = connection

    def _identify(self, line: bytes) -> tuple[int, bytes]:
        """Returns the index of the worker that sent a line and b""; or 0 and the answer to send."""
        try:
            hello = json.loads(line)
        except (ValueError, RecursionError):
            return 0, b""
        if not isinstance(hello, dict):
            return 0, b""
        index, names, proof = hello.get("index"), hello.get("workers"), hello.get("proof", "")
        if not isinstance(names, list) or type(index) is not int or not isinstance(proof, str):
            return 0, b""
        if names != list(self._workers.workers):
            return 0, WORKERS_DIFFER
        if index not in self._others:
            return 0, b""
        if not _equal_digests(proof, _make_proof(self._token, index, self._workers)):
            return 0, TOKEN_DIFFERS
        if index in self._present:
            self._check_closed(self._present[index])
        return (0, INDEX_TAKEN) if index in self._present else (index, b"")

    def _check_closed(self, connection: socket.socket) -> None:
        """Removes a worker whose connection is readable: a waiting worker sends nothing, so that it has left."""
        try:
            reason = "unexpected data" if connection.recv(1) else "connection closed"
        except BlockingIOError:
            return
        except OSError as error:
            reason = error.strerror or str(error)
        index = next(index for index, other in self._present.items() if other is connection)
        del self._present[index]
        self._left[index] = reason
        self._selector.unregister(connection)
        connection.close()

    def _drop_silent(self) -> None:
        now = time.monotonic()
        for connection in [each for each, (until, _) in self._unidentified.items() if until <= now]:
            self._drop(connection)

    def _drop_oldest(self) -> None:
        for connection in list(self._unidentified)[:1]:
            self._drop(connection)

    def _drop(self, connection: socket.socket, answer: bytes = b"") -> None:
        del self._unidentified[connection]
        self._selector.unregister(connection)
        with contextlib.suppress(OSError):
            connection.send(answer)
        connection.close()

    def _send_go(self) -> None:
        for index, connection in self._present.items():
            try:
                connection.sendall(_encode_go(self._token, index, self._workers))
            except OSError as error:
                raise UserError(
                    f"This is {self._workers.name}, and worker {self._name(index)} connected and left "
                    f"({error.strerror}): start the same command on every worker again."
                ) from error

    def _name(self, index: int) -> str:
        return f"{index} ({self._workers.workers[index]})"


def _join(workers: Cluster, token: str, end: float, seconds: float) -> socket.socket:
    """Connects to the first worker and waits for its "go", with retries. Returns the connection."""
    host, port = _parse_address(workers.workers[0])
    reason = "no answer"
    while (left := end - time.monotonic()) > 0:
        answer = b""
        try:
            with contextlib.ExitStack() as stack:
                connection = stack.enter_context(socket.create_connection((host, port), timeout=left))
                _enable_keepalive(connection)
                connection.sendall(_encode_hello(workers, token))
                answer = _read_line(connection, end)
                if _equal_digests(answer, _encode_go(token, workers.index, workers)):
                    stack.pop_all()
                    return connection
        except (OSError, UnicodeError) as error:  # UnicodeError: not the name of a host
            reason = getattr(error, "strerror", None) or str(error)
        _check_answer(workers, answer)
        time.sleep(max(min(RETRY_INTERVAL_S, end - time.monotonic()), 0))
    raise UserError(
        f"This is {workers.name}, and worker 0 did not answer within {seconds:.0f} s ({workers.workers[0]}: {reason}): "
        "start the same command on every worker, and check that they reach each other."
    )


def _check_answer(workers: Cluster, answer: bytes) -> None:
    """Checks that the first worker has not rejected this one.

    Raises:
      UserError: it has; the message says why.
    """
    if answer == WORKERS_DIFFER:
        raise UserError(
            f"This is {workers.name}, and worker 0 was started with another list of workers: give the same list "
            "to every worker."
        )
    if answer == TOKEN_DIFFERS or answer.startswith(b"go"):
        raise UserError(
            f"This is {workers.name}, and worker 0 has another {TOKEN_VARIABLE} in its environment, or only one of the "
            "two has one: set the same value for all workers."
        )
    if answer == INDEX_TAKEN:
        raise UserError(
            f"This is {workers.name}, and another process is connected as worker {workers.index}: give each worker "
            "its own index."
        )


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


def _receive(connection: socket.socket) -> bytes:
    """Reads what a non-blocking connection has received; returns b"" at its end."""
    try:
        return connection.recv(1 << 16)
    except OSError:  # also if it is no longer readable, which does not happen twice
        return b""


def _encode_hello(workers: Cluster, token: str) -> bytes:
    proof = _make_proof(token, workers.index, workers)
    return json.dumps({"index": workers.index, "workers": workers.workers, "proof": proof}).encode() + b"\n"


def _encode_go(token: str, index: int, workers: Cluster) -> bytes:
    return f"go {_make_proof(token, f'go {index}', workers)}\n".encode()


def _make_proof(token: str, message: int | str, workers: Cluster) -> str:
    """Returns an HMAC that proves knowledge of the token, which itself is never sent; "" without a token."""
    if not token:
        return ""
    return hmac.new(token.encode(), f"{message} {','.join(workers.workers)}".encode(), hashlib.sha256).hexdigest()


def _equal_digests(one: str | bytes, other: str | bytes) -> bool:
    one, other = (text.encode("utf-8", "replace") if isinstance(text, str) else text for text in (one, other))
    return hmac.compare_digest(one, other)


def _enable_keepalive(connection: socket.socket) -> None:
    """Enables TCP keepalive, so that the system notices a disconnected host."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        if hasattr(socket, name):  # Linux has all of them
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _parse_address(worker: str) -> tuple[str, int]:
    """Splits "host:port" or "[::1]:port" into host and port."""
    host, _, port = worker.rpartition(":")
    return host.strip("[]"), int(port)


def _listen(workers: Cluster) -> socket.socket:
    """Listens at this worker's address only, not at the other addresses of this machine.

    Raises:
      UserError: its name resolves to no address of this machine, or the port is in use.
    """
    host, port = _parse_address(workers.workers[workers.index])
    problem: OSError | None = None
    for family, address in _candidate_addresses(workers, host, port):
        try:
            return socket.create_server((address, port), family=family)
        except OSError as error:
            problem = error
            if error.errno not in _NOT_LOCAL:
                break
    if problem is not None and problem.errno not in _NOT_LOCAL:
        raise UserError(
            f"This is {workers.name}, and cannot listen at port {port} ({os.strerror(problem.errno or 0)}): end the "
            "process that uses the port, or choose another port on every worker."
        ) from problem
    raise UserError(
        f"This is {workers.name}, and {host} is not an address of this machine: start the worker on the machine "
        "that the list names at its index."
    ) from problem


def _candidate_addresses(workers: Cluster, host: str, port: int) -> Iterator[tuple[socket.AddressFamily, str]]:
    """Yields the addresses that this worker may listen at.

    These are the addresses of its name and, if none of them is usable, the addresses from which it reaches the other
    workers. An address of another machine, such as a router that forwards connections, is not usable. Nor is 127.0.1.1,
    which some systems assign to their own name, if the other workers are on other machines.
    """
    others = [name for name in map(_parse_address, workers.workers) if name[0] != host]
    for family, address in _resolve(host, port):
        if not (others and address.startswith(("127.", "::1"))):
            yield family, address
    for other in others:
        for family, address in _resolve(*other):
            with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as route:
                route.connect((address, other[1]))  # sends nothing
                yield family, route.getsockname()[0]


def _resolve(host: str, port: int) -> list[tuple[socket.AddressFamily, str]]:
    """Resolves a name to its addresses; returns [] if it is unknown."""
    try:
        return [(entry[0], str(entry[4][0])) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError):
        return []
