"""Workers wait for each other, not for ever, and say who is missing."""

import concurrent.futures
import contextlib
import json
import re
import socket
import struct
import time

import pytest

from fer.errors import UserError
from fer.train.distributed import rendezvous
from fer.train.distributed.cluster_resolver import Cluster
from tests.train import launch


def cluster(count: int) -> list[Cluster]:
    workers = tuple(f"127.0.0.1:{port}" for port in launch.find_free_ports(count))
    return [Cluster(workers, index) for index in range(count)]


def together(*calls: tuple[Cluster, float] | tuple[Cluster, float, str]) -> list[object]:
    """What each call of `gather` raised, or when it returned."""

    def call(*arguments) -> object:
        try:
            others = rendezvous.wait_for_workers(*arguments)
        except UserError as error:
            return str(error)
        others.report_started()
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
    assert f"worker 2 ({members[2].workers[2]}) did not connect within 1 s" in chief
    assert f"worker 1 of 3 ({members[1].workers[1]}), and worker 0 did not answer within 1 s" in other


def test_who_came_and_left_again_is_named(monkeypatch):
    monkeypatch.setattr(rendezvous, "REJOIN_TIMEOUT_S", 0.1)
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
    assert f"worker 1 ({members[1].workers[1]}) connected and left (" in said


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
    assert re.search(r"worker 1 \(.*\) did not connect within", chief)


def test_a_port_that_is_taken_is_a_sentence():
    member = cluster(2)[0]
    port = int(member.workers[0].rpartition(":")[2])
    with (
        socket.create_server(("", port)),
        pytest.raises(UserError, match=rf"cannot listen at port {port} .* already in use"),
    ):
        rendezvous.wait_for_workers(member, 1)


def lonely(seconds: float, token: str = "", count: int = 2):
    """The first of some workers, which waits in a thread: its cluster, and what is raised."""
    members = cluster(count)
    pool = concurrent.futures.ThreadPoolExecutor(1)
    future = pool.submit(together, (members[0], seconds, token))
    pool.shutdown(wait=False)
    return members, future


def connected(worker: str) -> socket.socket:
    """A connection to a worker, as soon as it listens."""
    host, _, port = worker.rpartition(":")
    end = time.monotonic() + 30
    while True:
        try:
            return socket.create_connection((host, int(port)), timeout=30)
        except ConnectionRefusedError:
            assert time.monotonic() < end
            time.sleep(0.01)


GARBAGE = {
    "nested": b"[" * 30_000 + b"\n",
    "infinity": b'{"index": Infinity, "workers": WORKERS}\n',
    "not UTF-8": b'\xff\xfe{"index": 1}\n',
    "a number": b"1\n",
    "a text for an index": b'{"index": "1", "workers": WORKERS}\n',
    "true for an index": b'{"index": true, "workers": WORKERS}\n',
    "the first's index": b'{"index": 0, "workers": WORKERS}\n',
    "a negative index": b'{"index": -1, "workers": WORKERS}\n',
    "an index beyond": b'{"index": 2, "workers": WORKERS}\n',
    "a list in the index": b'{"index": [1], "workers": WORKERS}\n',
    "a proof that is none": b'{"index": 1, "workers": WORKERS, "proof": 7}\n',
    "half a surrogate": b'{"index": 1, "workers": WORKERS, "proof": "\\ud800"}\n',
    "no end of a line": b"x" * 100_000,
    "http": b"GET / HTTP/1.1\r\n\r\n",
    "nothing": b"",
}


def test_gather_drops_garbage_and_goes_on_to_wait():
    members, chief = lonely(30)
    for said in GARBAGE.values():
        with connected(members[0].workers[0]) as connection, contextlib.suppress(OSError):
            connection.sendall(said.replace(b"WORKERS", json.dumps(members[0].workers).encode()))
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(100) in (b"", rendezvous.TOKEN_DIFFERS)
    (other,) = together((members[1], 30))
    assert isinstance(other, float), other
    assert isinstance(chief.result()[0], float)


def test_gather_keeps_its_deadline_beside_silent_and_slow_strangers(monkeypatch):
    monkeypatch.setattr(rendezvous, "HELLO_TIMEOUT_S", 0.2)
    members, chief = lonely(1.0)
    silent = [connected(members[0].workers[0]) for _ in range(20)]
    slow = connected(members[0].workers[0])
    begun = time.monotonic()
    with contextlib.suppress(OSError):
        while not chief.done():
            slow.send(b"x")
            time.sleep(0.05)
    (said,) = chief.result()
    assert re.search(r"worker 1 \(.*\) did not connect within 1 s", said)
    assert time.monotonic() - begun < 10
    for each in (*silent, slow):
        each.close()


def test_gather_waits_for_no_stranger(monkeypatch):
    """Twenty silent connections and one that speaks slowly come first; the worker behind them is taken at once."""
    members, chief = lonely(30)
    strangers = [connected(members[0].workers[0]) for _ in range(20)]
    strangers[0].sendall(b'{"index"')
    begun = time.monotonic()
    (other,) = together((members[1], 30))
    assert isinstance(other, float)
    assert isinstance(chief.result()[0], float)
    assert other - begun < rendezvous.HELLO_TIMEOUT_S
    for each in strangers:
        each.close()


def test_gather_makes_way_for_new_connections_where_there_are_too_many(monkeypatch):
    monkeypatch.setattr(rendezvous, "MAX_UNIDENTIFIED", 3)
    members, chief = lonely(30)
    strangers = [connected(members[0].workers[0]) for _ in range(5)]
    assert [each.recv(1) for each in strangers[:2]] == [b"", b""]
    assert [isinstance(ended, float) for ended in together((members[1], 30)) + chief.result()] == [True, True]
    for each in strangers:
        each.close()


def test_gather_rejects_second_worker_of_one_index():
    members, chief = lonely(30, count=3)
    with connected(members[0].workers[0]) as first:
        first.sendall(json.dumps({"index": 1, "workers": members[1].workers}).encode() + b"\n")
        time.sleep(0.2)
        (second,) = together((members[1], 30))
        assert "another process is connected as worker 1: give each worker its own index" in second
    ended = together((members[1], 30), (members[2], 30)) + chief.result()  # once the first has gone
    assert all(isinstance(moment, float) for moment in ended), ended


@pytest.mark.parametrize(("ours", "theirs"), [("secret", "other"), ("secret", ""), ("", "secret")])
def test_gather_rejects_other_tokens(ours, theirs):
    members = cluster(2)
    chief, other = together((members[0], 1.0, ours), (members[1], 30, theirs))
    assert "worker 0 has another FER_RENDEZVOUS_TOKEN in its environment" in other
    assert re.search(r"worker 1 \(.*\) did not connect within 1 s", chief)


def test_gather_takes_workers_with_its_token():
    members = cluster(3)
    ended = together(*((member, 30, "secret") for member in members))
    assert all(isinstance(moment, float) for moment in ended), ended


def test_worker_is_not_sent_on_by_a_stranger_without_the_token():
    members = cluster(2)
    host, _, port = members[0].workers[0].rpartition(":")
    with socket.create_server((host, int(port))) as server, concurrent.futures.ThreadPoolExecutor(1) as pool:
        worker = pool.submit(together, (members[1], 30, "secret"))
        connection, _ = server.accept()
        with connection:
            assert b"secret" not in connection.recv(10_000)
            connection.sendall(b"go \n")
            (said,) = worker.result()
    assert "worker 0 has another FER_RENDEZVOUS_TOKEN" in said


@pytest.mark.parametrize("answer", [b"", b"x", b"x" * 100_000, b"\xff\n", b"[" * 1000 + b"\n"])
def test_worker_keeps_its_deadline_beside_a_strange_first_worker(answer):
    members = cluster(2)
    host, _, port = members[0].workers[0].rpartition(":")
    with socket.create_server((host, int(port))) as server:
        begun = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            worker = pool.submit(together, (members[1], 0.5))
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(answer)
            (said,) = worker.result()
    assert "worker 0 did not answer within" in said
    assert time.monotonic() - begun < 10


def test_gather_listens_at_the_workers_own_address_alone():
    members, chief = lonely(1.0)
    connected(members[0].workers[0]).close()
    port = int(members[0].workers[0].rpartition(":")[2])
    with socket.socket() as other:
        other.settimeout(5)
        with pytest.raises(ConnectionRefusedError):
            other.connect(("127.0.0.2", port))  # all of 127.0.0.0/8 is this machine's, on Linux
    chief.result()


def test_gather_reads_addresses_of_version_6():
    ports = launch.find_free_ports(2)
    names = tuple(f"[::1]:{port}" for port in ports)
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    ended = together(*((Cluster(names, index), 30) for index in (0, 1)))
    assert all(isinstance(moment, float) for moment in ended), ended


@pytest.mark.parametrize("host", ["192.0.2.7", "name.invalid", "x" * 70])
def test_gather_names_an_address_of_another_machine(host, monkeypatch):
    workers = tuple(f"{host}:{port}" for port in launch.find_free_ports(2))
    with pytest.raises(UserError, match=f"{host} is not an address of this machine: start the worker on the machine"):
        rendezvous.wait_for_workers(Cluster(workers, 0), 1)
