"""The workers of a run wait for each other before TensorFlow connects them.

The first worker listens at its address, the others connect and say who they are, and the first worker sends all of
them on at once. TensorFlow's own barriers (the coordination service behind MultiWorkerMirroredStrategy) are no
substitute: their servers listen on every interface and take any process that speaks gRPC for a worker, their waiting
cannot be interrupted, and when its time is up the error does not name the worker that is missing.
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

from fer.errors import UserError
from fer.train.distributed import startup_monitor
from fer.train.distributed.cluster_resolver import Cluster

TOKEN_VARIABLE = "FER_RENDEZVOUS_TOKEN"  # the environment variable with a secret that all workers share

RETRY_INTERVAL_S = 0.2  # seconds between two attempts to reach the first worker
HELLO_TIMEOUT_S = 5.0  # seconds in which a connection must say who it is
REJOIN_TIMEOUT_S = 20.0  # seconds in which a worker that has left may be back, once all others are there
MAX_UNIDENTIFIED = 128  # connections that have not said who they are; the oldest one makes way
MAX_ANSWER_BYTES = 1024  # bytes
WORKERS_DIFFER, TOKEN_DIFFERS, INDEX_TAKEN = b"another list\n", b"another token\n", b"taken\n"
_NOT_LOCAL = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_KEEPALIVE = (
    ("TCP_KEEPIDLE", 5),
    ("TCP_KEEPINTVL", 5),
    ("TCP_KEEPCNT", 2),
)  # a host that is cut off is gone after 15 s


def wait_for_workers(workers: Cluster, seconds: float, token: str = "") -> ConnectedWorkers:
    """Returns, on all workers at nearly the same time, once all of them have called it.

    Args:
      workers: the same on all but for the index.
      seconds: how long to wait, in all.
      token: a secret that all share; "" where there is none.

    Returns:
      The connections to other workers, which stay open until `Others.finish`.

    Raises:
      UserError: a worker did not come in time, came twice, or left again; this worker's address is not this machine's
        or its port is taken; or the lists of workers or the tokens differ.
    """
    end = time.monotonic() + seconds
    with _listen(workers) as server:  # which is closed before TensorFlow takes the port
        if workers.chief:
            return ConnectedWorkers(workers, _WorkerListener(workers, token, end, seconds).call(server))
        return ConnectedWorkers(workers, {0: _join(workers, token, end, seconds)})


class ConnectedWorkers:
    """The workers that this one has a connection to: the first one has to all, each of the others to the first."""

    def __init__(self, workers: Cluster, connections: dict[int, socket.socket]):
        self._workers, self._connections = workers, connections
        self._watch: subprocess.Popen | None = None

    def watch(self, connect: float, grace: float) -> None:
        """Has a process of its own end this one where that waits for a worker that is gone: see `start_watch`.

        Args:
          connect: seconds until TensorFlow has to have connected the workers, which `connected` says.
          grace: seconds from the loss of a worker in which this process may end by itself.
        """
        asked = {
            "program": os.path.basename(sys.argv[0]),
            "name": self._workers.name,
            "workers": list(self._workers.workers),
            "connections": {each.fileno(): index for index, each in self._connections.items()},
            "connect": connect,
            "grace": grace,
        }
        self._watch = subprocess.Popen(
            [sys.executable, "-I", "-S", startup_monitor.__file__, json.dumps(asked)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=[each.fileno() for each in self._connections.values()],
        )

    def connected(self) -> None:
        """Says that TensorFlow has connected the workers."""
        assert self._watch is not None
        assert self._watch.stdin is not None
        with contextlib.suppress(OSError):  # the other process was killed
            self._watch.stdin.write(startup_monitor.CONNECTED)
            self._watch.stdin.flush()

    def finish(self) -> None:
        """Lets the others know that this worker has started; once it has, nothing more is done."""
        for connection in self._connections.values():
            with contextlib.suppress(OSError):
                connection.sendall(startup_monitor.DONE)
        self.close()

    def close(self) -> None:
        """Ends the connections, which the others take for the loss of this worker unless it has finished."""
        if self._watch is not None:
            assert self._watch.stdin is not None
            with contextlib.suppress(OSError):
                self._watch.stdin.close()
            self._watch.wait()
            self._watch = None
        for connection in self._connections.values():
            connection.close()
        self._connections = {}


class _WorkerListener:
    """The first worker's view of the others."""

    def __init__(self, workers: Cluster, token: str, end: float, seconds: float):
        self._workers, self._token, self._end, self._seconds = workers, token, end, seconds
        self._others = range(1, len(workers.workers))
        self._longest = 2 * len(_encode_hello(workers, token))
        self._there: dict[int, socket.socket] = {}
        self._left: dict[int, str] = {}  # that were there and are gone, and why
        self._complete_but = float("inf")  # until when those may be back
        self._unknown: dict[socket.socket, tuple[float, bytearray]] = {}  # until when they may say who they are
        self._selector = selectors.DefaultSelector()

    def call(self, server: socket.socket) -> dict[int, socket.socket]:
        """Waits for every other worker, then sends all on.

        Returns:
          The connection to each, by its index.

        Raises:
          UserError: as `gather`.
        """
        server.setblocking(False)
        self._selector.register(server, selectors.EVENT_READ)
        try:
            while len(self._there) < len(self._others):
                self._check_time()
                for key, _ in self._selector.select(self._until_next()):
                    if key.fileobj is server:
                        self._accept(server)
                    elif key.fileobj in self._unknown:
                        self._listen_to(key.fileobj)
                    elif key.fileobj in self._there.values():
                        self._look_at(key.fileobj)  # type: ignore[arg-type]  # a socket
                self._check_left()
                self._drop_silent()
            self._send_on()
            return self._there
        except BaseException:
            for connection in self._there.values():
                connection.close()
            raise
        finally:
            for connection in self._unknown:
                connection.close()
            self._selector.close()

    def _until_next(self) -> float:
        """The seconds until something is overdue."""
        limits = [self._end, self._complete_but, *(until for until, _ in self._unknown.values())]
        return max(min(limits) - time.monotonic(), 0.001)

    def _check_time(self) -> None:
        if time.monotonic() < self._end:
            return
        missing = ", ".join(
            self._name(index) for index in self._others if index not in {**self._there, **self._left}
        ) or ", ".join(map(self._name, self._left))
        raise UserError(
            f"This is {self._workers.name}, and {self._seconds:.0f} s went by without worker {missing}: start the same "
            "command on all of them, and see that they reach each other."
        )

    def _check_left(self) -> None:
        """Ends the waiting once all others have come, and some of them have left again and are not back in time."""
        if not self._left or len(self._there) + len(self._left) < len(self._others):
            self._complete_but = float("inf")
            return
        self._complete_but = min(self._complete_but, time.monotonic() + REJOIN_TIMEOUT_S)
        if time.monotonic() >= self._complete_but:
            index, reason = next(iter(self._left.items()))
            raise UserError(
                f"This is {self._workers.name}, and worker {self._name(index)} was there and is gone ({reason}): start "
                "the same command on all of them again."
            )

    def _accept(self, server: socket.socket) -> None:
        try:
            connection, _ = server.accept()
        except OSError:  # it has gone again, or there are too many open files
            self._drop_oldest()
            return
        if len(self._unknown) >= MAX_UNIDENTIFIED:
            self._drop_oldest()
        connection.setblocking(False)
        _enable_keepalive(connection)
        self._unknown[connection] = (time.monotonic() + HELLO_TIMEOUT_S, bytearray())
        self._selector.register(connection, selectors.EVENT_READ)

    def _listen_to(self, connection: socket.socket) -> None:
        """Takes what a connection says; once that is a line, it is a worker or dropped."""
        said = self._unknown[connection][1]
        content = _receive(connection)
        said += content
        if content and b"\n" not in said and len(said) <= self._longest:
            return
        line, newline, _ = bytes(said).partition(b"\n")
        index, answer = self._understood(line) if newline and len(line) <= self._longest else (0, b"")
        if not index:
            self._drop(connection, answer)
            return
        del self._unknown[connection]
        self._left.pop(index, None)
        self._there[index] = connection

    def _understood(self, line: bytes) -> tuple[int, bytes]:
        """The worker that a line is from; or 0, and what is to be answered."""
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
        if index in self._there:
            self._look_at(self._there[index])
        return (0, INDEX_TAKEN) if index in self._there else (index, b"")

    def _look_at(self, connection: socket.socket) -> None:
        """Notices that a worker has left: one that waits says nothing more."""
        try:
            reason = "it goes on talking" if connection.recv(1) else "it has ended"
        except BlockingIOError:
            return
        except OSError as error:
            reason = error.strerror or str(error)
        index = next(index for index, other in self._there.items() if other is connection)
        del self._there[index]
        self._left[index] = reason
        self._selector.unregister(connection)
        connection.close()

    def _drop_silent(self) -> None:
        now = time.monotonic()
        for connection in [each for each, (until, _) in self._unknown.items() if until <= now]:
            self._drop(connection)

    def _drop_oldest(self) -> None:
        for connection in list(self._unknown)[:1]:
            self._drop(connection)

    def _drop(self, connection: socket.socket, answer: bytes = b"") -> None:
        del self._unknown[connection]
        self._selector.unregister(connection)
        with contextlib.suppress(OSError):
            connection.send(answer)
        connection.close()

    def _send_on(self) -> None:
        for index, connection in self._there.items():
            try:
                connection.sendall(_encode_go(self._token, index, self._workers))
            except OSError as error:
                raise UserError(
                    f"This is {self._workers.name}, and worker {self._name(index)} was there and is gone "
                    f"({error.strerror}): start the same command on all of them again."
                ) from error

    def _name(self, index: int) -> str:
        return f"{index} ({self._workers.workers[index]})"


def _join(workers: Cluster, token: str, end: float, seconds: float) -> socket.socket:
    """Tells the first worker that this one is there, until it sends all on. Returns the connection to it."""
    host, port = _parse_address(workers.workers[0])
    reason = "it does not answer"
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
        except (OSError, UnicodeError) as error:  # UnicodeError: the name is none of a host
            reason = getattr(error, "strerror", None) or str(error)
        _check_answer(workers, answer)
        time.sleep(max(min(RETRY_INTERVAL_S, end - time.monotonic()), 0))
    raise UserError(
        f"This is {workers.name}, and {seconds:.0f} s went by without worker 0 ({workers.workers[0]}: {reason}): start "
        "the same command on all workers, and see that they reach each other."
    )


def _check_answer(workers: Cluster, answer: bytes) -> None:
    """Gives up where the first worker has turned this one away.

    Raises:
      UserError: it has.
    """
    if answer == WORKERS_DIFFER:
        raise UserError(
            f"This is {workers.name}, and worker 0 was started with another list of workers; give the same to all."
        )
    if answer == TOKEN_DIFFERS or answer.startswith(b"go"):
        raise UserError(
            f"This is {workers.name}, and worker 0 has another {TOKEN_VARIABLE} in its environment, or only one of the "
            "two has one: set the same value for all workers."
        )
    if answer == INDEX_TAKEN:
        raise UserError(
            f"This is {workers.name}, and another process is there as worker {workers.index}: give each worker an "
            "index of its own."
        )


def _read_line(connection: socket.socket, end: float) -> bytes:
    """What a connection says up to the end of the line, the end included; less where that does not come in time."""
    said = b""
    while not said.endswith(b"\n") and len(said) < MAX_ANSWER_BYTES and (left := end - time.monotonic()) > 0:
        connection.settimeout(left)
        content = connection.recv(1)
        if not content:
            break
        said += content
    return said


def _receive(connection: socket.socket) -> bytes:
    """What a connection that does not block has to say now; b"" at its end."""
    try:
        return connection.recv(1 << 16)
    except OSError:  # also of one that is ready no more, which does not happen twice
        return b""


def _encode_hello(workers: Cluster, token: str) -> bytes:
    proof = _make_proof(token, workers.index, workers)
    return json.dumps({"index": workers.index, "workers": workers.workers, "proof": proof}).encode() + b"\n"


def _encode_go(token: str, index: int, workers: Cluster) -> bytes:
    return f"go {_make_proof(token, f'go {index}', workers)}\n".encode()


def _make_proof(token: str, said: int | str, workers: Cluster) -> str:
    """Proves that the token is known, which itself is never sent; "" where there is none."""
    if not token:
        return ""
    return hmac.new(token.encode(), f"{said} {','.join(workers.workers)}".encode(), hashlib.sha256).hexdigest()


def _equal_digests(one: str | bytes, other: str | bytes) -> bool:
    one, other = (text.encode("utf-8", "replace") if isinstance(text, str) else text for text in (one, other))
    return hmac.compare_digest(one, other)


def _enable_keepalive(connection: socket.socket) -> None:
    """Lets the system notice a host that is cut off without a word."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        if hasattr(socket, name):  # Linux has all of them
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _parse_address(worker: str) -> tuple[str, int]:
    """Host and port of "host:port" or "[::1]:port"."""
    host, _, port = worker.rpartition(":")
    return host.strip("[]"), int(port)


def _listen(workers: Cluster) -> socket.socket:
    """Listens at this worker's address, and at no other of this machine.

    Raises:
      UserError: none of the addresses that its name stands for is this machine's, or the port is taken.
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
            f"This is {workers.name}, and port {port} cannot be listened at ({os.strerror(problem.errno or 0)}): "
            "end what uses it, or give another port to every worker."
        ) from problem
    raise UserError(
        f"This is {workers.name}, and {host} is no address of this machine: start the worker on the machine that the "
        "list names at its index."
    ) from problem


def _candidate_addresses(workers: Cluster, host: str, port: int) -> Iterator[tuple[socket.AddressFamily, str]]:
    """What this worker's name stands for, and where that is of no use the address from which it reaches the others.

    Of no use is an address of another machine, such as that of a router that passes connections on; or 127.0.1.1,
    which some systems give to their own name, where the others are elsewhere.
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
    """The addresses that a name stands for; none where it is unknown."""
    try:
        return [(entry[0], str(entry[4][0])) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError):
        return []
