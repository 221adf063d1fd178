"""The workers of a run wait for each other before TensorFlow connects them.

TensorFlow's own waiting lasts an hour, cannot be interrupted and does not say who is missing. Here the first worker
listens at its address, the others tell it who they are, and it sends all of them on at once.
"""

from __future__ import annotations

import json
import os
import socket
import time

from fer.errors import UserError
from fer.train.cluster import Cluster

PAUSE = 0.2  # seconds between two attempts to reach the first worker
HELLO = 5.0  # seconds in which one that connects must say who it is
GO, OTHER_LIST = b"go\n", b"another list\n"


def gather(workers: Cluster, seconds: float) -> None:
    """Returns, on all workers at nearly the same time, once all of them have called it.

    Args:
      workers: the same on all but for the index.
      seconds: how long to wait.

    Raises:
      UserError: somebody did not come in time, this worker's port is taken, or the lists of workers differ.
    """
    end = time.monotonic() + seconds
    port = int(workers.workers[workers.index].rpartition(":")[2])
    try:
        server = socket.create_server(("", port))
    except OSError as error:
        raise UserError(
            f"This is {workers.name}, and port {port} cannot be listened at ({os.strerror(error.errno)}): end what "
            "uses it, or give another port to every worker."
        ) from error
    with server:
        if workers.chief:
            _call(workers, server, end, seconds)
        else:
            _answer(workers, end, seconds)


def _call(workers: Cluster, server: socket.socket, end: float, seconds: float) -> None:
    """Waits for every other worker, then sends all on."""
    there: dict[int, socket.socket] = {}
    try:
        while len(there) < len(workers.workers) - 1:
            server.settimeout(max(end - time.monotonic(), 0.001))
            try:
                connection, _ = server.accept()
            except socket.timeout as error:
                missing = [
                    f"{index} ({name})" for index, name in enumerate(workers.workers) if index not in {0, *there}
                ]
                raise UserError(
                    f"This is {workers.name}, and {seconds:.0f} s went by without worker {', '.join(missing)}: start "
                    "the same command on all of them, and see that they reach each other."
                ) from error
            index = _index(workers, connection)
            if index is not None:
                there[index] = connection
        for index, connection in there.items():
            try:
                connection.sendall(GO)
            except OSError as error:
                raise UserError(
                    f"This is {workers.name}, and worker {index} ({workers.workers[index]}) was there and is gone "
                    f"({error.strerror}): start the same command on all of them again."
                ) from error
    finally:
        for connection in there.values():
            connection.close()


def _index(workers: Cluster, connection: socket.socket) -> int | None:
    """Which worker has connected, or None for one that does not belong here."""
    connection.settimeout(HELLO)
    try:
        hello = json.loads(connection.makefile("rb").readline(1 << 16))
        if hello["workers"] == list(workers.workers):
            return int(hello["index"])
        connection.sendall(OTHER_LIST)
    except (OSError, ValueError, KeyError, TypeError):
        pass  # something else that tries ports
    connection.close()
    return None


def _answer(workers: Cluster, end: float, seconds: float) -> None:
    """Tells the first worker that this one is there, until it sends all on."""
    host, _, port = workers.workers[0].rpartition(":")
    hello = json.dumps({"index": workers.index, "workers": workers.workers}).encode() + b"\n"
    reason = "it does not answer"
    while time.monotonic() < end:
        try:
            with socket.create_connection((host, int(port)), timeout=max(end - time.monotonic(), 0.001)) as connection:
                connection.sendall(hello)
                answer = connection.makefile("rb").readline()
        except OSError as error:
            answer, reason = b"", error.strerror or str(error)
        if answer == GO:
            return
        if answer == OTHER_LIST:
            raise UserError(
                f"This is {workers.name}, and worker 0 was started with another list of workers; give the same to all."
            )
        time.sleep(PAUSE)
    raise UserError(
        f"This is {workers.name}, and {seconds:.0f} s went by without worker 0 ({workers.workers[0]}: {reason}): start "
        "the same command on all workers, and see that they reach each other."
    )
