"""Workers wait for each other, not for ever, and say who is missing."""

import concurrent.futures
import json
import socket
import struct
import time

import pytest

from fer.errors import UserError
from fer.train import rollcall
from fer.train.cluster import Cluster
from tests.train import launching


def cluster(count: int) -> list[Cluster]:
    workers = tuple(f"127.0.0.1:{port}" for port in launching.free_ports(count))
    return [Cluster(workers, index) for index in range(count)]


def together(*calls: tuple[Cluster, float]) -> list[object]:
    """What each call of `gather` raised, or when it returned."""

    def call(workers: Cluster, seconds: float) -> object:
        try:
            rollcall.gather(workers, seconds)
        except UserError as error:
            return str(error)
        return time.monotonic()

    with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call, *each) for each in calls]]


def test_all_go_on_at_once_though_the_last_one_comes_late():
    members = cluster(3)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        first = pool.submit(together, (members[2], 30), (members[1], 30))
        time.sleep(0.5)
        last = time.monotonic()
        ended = together((members[0], 30)) + first.result()
    assert all(isinstance(moment, float) and moment >= last for moment in ended), ended


def test_who_does_not_come_is_named():
    members = cluster(3)
    chief, other = together((members[0], 1.0), (members[1], 1.0))
    assert f"1 s went by without worker 2 ({members[2].workers[2]})" in chief
    assert f"worker 1 of 3 ({members[1].workers[1]}), and 1 s went by without worker 0" in other


def test_who_came_and_left_again_is_named():
    members = cluster(3)
    host, _, port = members[0].workers[0].rpartition(":")
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        chief = pool.submit(together, (members[0], 30))
        time.sleep(0.3)
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(json.dumps({"index": 1, "workers": members[1].workers}).encode() + b"\n")
            time.sleep(0.3)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # reset, not closed
        last = pool.submit(together, (members[2], 1.0))
        (said,) = chief.result()
        last.result()
    assert f"worker 1 ({members[1].workers[1]}) was there and is gone (" in said


def test_another_list_and_strangers_are_turned_away():
    ours, theirs = cluster(2), cluster(2)
    mixed = Cluster((ours[0].workers[0], theirs[1].workers[1]), 1)

    def stranger() -> bytes:
        time.sleep(0.2)
        with socket.create_connection(("127.0.0.1", int(ours[0].workers[0].rpartition(":")[2]))) as connection:
            connection.sendall(b"GET / HTTP/1.1\n")
            return connection.recv(100)

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(stranger)
        chief, other = together((ours[0], 1.5), (mixed, 1.5))
        assert answer.result() == b""
    assert "worker 0 was started with another list of workers" in other
    assert "went by without worker 1" in chief


def test_a_port_that_is_taken_is_a_sentence():
    member = cluster(2)[0]
    port = int(member.workers[0].rpartition(":")[2])
    with socket.create_server(("", port)), pytest.raises(UserError, match=rf"port {port} cannot be .* already in use"):
        rollcall.gather(member, 1)
