"""Messages and sockets of the start barrier.

The messages are a worker's hello and the first worker's answer, "go" or a rejection. A worker listens at its own
address only, with keepalive.

With a token that all workers share, both prove that they know it by an HMAC. The token itself is never sent.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import hmac
import json
import os
import socket
from collections.abc import Iterator

from fer.errors import UserError
from fer.train.distributed.cluster_resolver import Cluster

_NOT_LOCAL = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_KEEPALIVE = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 2}  # a disconnected host is noticed after 15 s

WORKERS_DIFFER, TOKEN_DIFFERS, INDEX_TAKEN = b"another list\n", b"another token\n", b"taken\n"


def encode_hello(workers: Cluster, token: str) -> bytes:
    """Returns the line that identifies a worker."""
    proof = _make_proof(token, workers.index, workers)
    return json.dumps({"index": workers.index, "workers": workers.workers, "proof": proof}).encode() + b"\n"


def parse_hello(line: bytes, workers: Cluster, token: str) -> tuple[int, bytes]:
    """Returns the index of the worker that sent a line and b""; or 0 and the answer to send."""
    try:
        hello = json.loads(line)
        index, names, proof = hello["index"], hello["workers"], str(hello.get("proof", ""))
    except (ValueError, RecursionError, TypeError, LookupError, AttributeError):
        return 0, b""
    if names != list(workers.workers):
        return 0, WORKERS_DIFFER
    if type(index) is not int or not 0 < index < len(names):
        return 0, b""
    expected = _make_proof(token, index, workers).encode()
    return (index, b"") if hmac.compare_digest(proof.encode("utf-8", "replace"), expected) else (0, TOKEN_DIFFERS)


def encode_go(index: int, workers: Cluster, token: str) -> bytes:
    """Returns the line that lets worker `index` start."""
    return f"go {_make_proof(token, f'go {index}', workers)}\n".encode()


def _make_proof(token: str, message: int | str, workers: Cluster) -> str:
    """Returns an HMAC that proves knowledge of the token; "" without a token."""
    if not token:
        return ""
    return hmac.new(token.encode(), f"{message} {','.join(workers.workers)}".encode(), hashlib.sha256).hexdigest()


def listen(workers: Cluster) -> socket.socket:
    """Listens at this worker's address only, not at the other addresses of this machine.

    Raises:
      UserError: its name resolves to no address of this machine, or the port is in use.
    """
    host, port = parse_address(workers.workers[workers.index])
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
    others = [name for name in map(parse_address, workers.workers) if name[0] != host]
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


def parse_address(worker: str) -> tuple[str, int]:
    """Splits "host:port" or "[::1]:port" into host and port."""
    host, _, port = worker.rpartition(":")
    return host.strip("[]"), int(port)


def enable_keepalive(connection: socket.socket) -> None:
    """Enables TCP keepalive, so that the system notices a disconnected host."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):  # Linux has all of them
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
