"""The first worker's side of the start barrier: accepts the other workers until all are present."""

from __future__ import annotations

import asyncio
import contextlib
import socket

from fer.errors import WorkerLostError
from fer.train.distributed import rendezvous_protocol
from fer.train.distributed.cluster_resolver import Cluster

HELLO_TIMEOUT_S = 5.0  # seconds in which a connection must identify itself
REJOIN_TIMEOUT_S = 20.0  # seconds in which a worker that left may return once all others are present
MAX_UNIDENTIFIED = 128  # connections that have not identified themselves; beyond that the oldest is closed
PAUSE_S = 0.05  # seconds until the system has reported what happened to the other connections


class RendezvousServer:
    """Accepts connections and holds those of the workers that are present."""

    def __init__(self, workers: Cluster, token: str):
        self._workers, self._token = workers, token
        self._max_hello = 2 * len(rendezvous_protocol.encode_hello(workers, token))
        self._present: dict[int, socket.socket] = {}
        self._left: dict[int, str] = {}  # workers that connected and left, and why
        self._unidentified: dict[socket.socket, asyncio.Task] = {}

    def wait(self, server: socket.socket, timeout: float) -> dict[int, socket.socket]:
        """Waits for every other worker, then sends "go" to all.

        Args:
          server: the listening socket.
          timeout: in seconds.

        Returns:
          The connection to each worker, by its index.

        Raises:
          WorkerLostError: a worker did not connect in time, or left again.
        """
        try:
            asyncio.run(self._accept_all(server, timeout))
            for index, connection in self._present.items():
                connection.setblocking(True)
                try:
                    connection.sendall(rendezvous_protocol.encode_go(index, self._workers, self._token))
                except OSError as error:
                    raise self._loss(index, error.strerror or str(error)) from error
            return self._present
        except BaseException:
            for connection in self._present.values():
                connection.close()
            raise

    async def _accept_all(self, server: socket.socket, timeout: float) -> None:
        """Returns once every other worker is present; `asyncio.run` then cancels all tasks."""
        self._changed = asyncio.Event()
        accepting = asyncio.create_task(self._accept(server))
        try:
            await asyncio.wait_for(self._wait_for_all(), timeout)
        except asyncio.TimeoutError:
            others = range(1, len(self._workers.workers))
            absent = [index for index in others if index not in {**self._present, **self._left}]
            missing = ", ".join(self._name(index) for index in absent or self._left)
            raise WorkerLostError(
                f"This is {self._workers.name}, and worker {missing} did not connect within {timeout:.0f} s: start the "
                "same command on every worker, and check that they reach each other."
            ) from None
        finally:
            accepting.cancel()

    async def _wait_for_all(self) -> None:
        """Returns once every other worker is present.

        Raises:
          WorkerLostError: all others have connected, but one has left and did not return in time.
        """
        count = len(self._workers.workers) - 1
        while len(self._present) < count:
            self._changed.clear()
            everyone_came = len(self._present) + len(self._left) == count
            try:
                await asyncio.wait_for(self._changed.wait(), REJOIN_TIMEOUT_S if everyone_came else None)
            except asyncio.TimeoutError:
                raise self._loss(*next(iter(self._left.items()))) from None

    async def _accept(self, server: socket.socket) -> None:
        """Starts a task for each connection."""
        server.setblocking(False)
        while True:
            try:
                connection, _ = await asyncio.get_running_loop().sock_accept(server)
            except OSError:  # the peer has closed it, or there are too many open files
                self._drop_oldest()
                await asyncio.sleep(PAUSE_S)
                continue
            if len(self._unidentified) >= MAX_UNIDENTIFIED:
                self._drop_oldest()
            self._unidentified[connection] = asyncio.create_task(self._serve(connection))

    def _drop_oldest(self) -> None:
        for connection in list(self._unidentified)[:1]:
            self._unidentified.pop(connection).cancel()

    async def _serve(self, connection: socket.socket) -> None:
        """Identifies a connection, holds it while it is a worker's, and closes it in every other case."""
        index = 0
        try:
            connection.setblocking(False)
            with contextlib.suppress(OSError, asyncio.TimeoutError):
                rendezvous_protocol.enable_keepalive(connection)
                index = await asyncio.wait_for(self._identify(connection), HELLO_TIMEOUT_S)
            self._unidentified.pop(connection, None)
            if index:
                self._left.pop(index, None)
                self._present[index] = connection
                self._changed.set()
                self._left[index] = await self._wait_for_end(connection)
                del self._present[index]
                self._changed.set()
        finally:
            if self._present.get(index) is not connection:
                connection.close()

    async def _identify(self, connection: socket.socket) -> int:
        """Reads a line from a connection; returns the index of the worker that sent it, or rejects it with 0."""
        loop, line = asyncio.get_running_loop(), b""
        while not line.endswith(b"\n") and len(line) <= self._max_hello:
            content = await loop.sock_recv(connection, self._max_hello)
            if not content:
                return 0
            line += content
        index, answer = 0, b""
        if len(line) <= self._max_hello:
            index, answer = rendezvous_protocol.parse_hello(line, self._workers, self._token)
        if index in self._present:
            await asyncio.sleep(PAUSE_S)  # a worker that returns may have closed its former connection just now
        if index in self._present:
            index, answer = 0, rendezvous_protocol.INDEX_TAKEN
        await loop.sock_sendall(connection, answer)
        return index

    async def _wait_for_end(self, connection: socket.socket) -> str:
        """Waits until a worker leaves; returns why. A waiting worker sends nothing."""
        try:
            return (
                "unexpected data" if await asyncio.get_running_loop().sock_recv(connection, 1) else "connection closed"
            )
        except OSError as error:
            return error.strerror or str(error)

    def _loss(self, index: int, reason: str) -> WorkerLostError:
        return WorkerLostError(
            f"This is {self._workers.name}, and worker {self._name(index)} connected and left ({reason}): start the "
            "same command on every worker again."
        )

    def _name(self, index: int) -> str:
        return f"{index} ({self._workers.workers[index]})"
