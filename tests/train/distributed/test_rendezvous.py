"""Checks that workers wait for each other with a time limit, and that errors name the missing worker."""

import concurrent.futures
import contextlib
import json
import re
import socket
import struct
import time

import pytest

from fer.errors import UserError, WorkerLostError
from fer.train.distributed import rendezvous, rendezvous_protocol, rendezvous_server
from fer.train.distributed.cluster_resolver import Cluster
from tests.train import launch


def make_clusters(count: int) -> list[Cluster]:
    workers = tuple(f"127.0.0.1:{port}" for port in launch.find_free_ports(count))
    return [Cluster(workers, index) for index in range(count)]


def run_workers(*calls: tuple[Cluster, float] | tuple[Cluster, float, str]) -> list[object]:
    """Runs `wait_for_workers` for each member at once. Returns when each call returned, or its error message."""

    def call(*arguments) -> object:
        try:
            others = rendezvous.wait_for_workers(*arguments)
        except UserError as error:
            return str(error)
        others.close(started=True)
        return time.monotonic()

    with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call, *each) for each in calls]]


def test_wait_for_workers_returns_on_all_once_the_last_connects():
    members = make_clusters(3)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        first = pool.submit(run_workers, (members[2], 30), (members[1], 30))
        time.sleep(0.5)
        last = time.monotonic()
        results = run_workers((members[0], 30)) + first.result()
    assert all(isinstance(moment, float) and moment >= last for moment in results), results


def test_wait_for_workers_error_names_missing_worker():
    members = make_clusters(3)
    chief, other = run_workers((members[0], 1.0), (members[1], 1.0))
    assert f"worker 2 ({members[2].workers[2]}) did not connect within 1 s" in chief
    assert f"worker 1 of 3 ({members[1].workers[1]}), and worker 0 did not answer within 1 s" in other


@pytest.mark.parametrize("index", [0, 1])
def test_wait_for_workers_error_has_exit_code_75_when_worker_is_missing(index):
    with pytest.raises(WorkerLostError) as raised:
        rendezvous.wait_for_workers(make_clusters(2)[index], 0.2)
    assert raised.value.exit_code == 75


@pytest.mark.parametrize("answer", list(rendezvous.REJECTIONS))
def test_worker_error_has_exit_code_1_when_worker_0_rejects_it(answer):
    with pytest.raises(UserError) as raised:
        rendezvous._check_answer(make_clusters(2)[1], answer)
    assert raised.value.exit_code == 1


def test_wait_for_workers_error_names_worker_that_disconnected(monkeypatch):
    monkeypatch.setattr(rendezvous_server, "REJOIN_TIMEOUT_S", 0.1)
    members = make_clusters(3)
    host, _, port = members[0].workers[0].rpartition(":")
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        chief = pool.submit(run_workers, (members[0], 30))
        time.sleep(0.3)
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(json.dumps({"index": 1, "workers": members[1].workers}).encode() + b"\n")
            time.sleep(0.3)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # sends a reset
        last = pool.submit(run_workers, (members[2], 1.0))
        (message,) = chief.result()
        last.result()
    assert f"worker 1 ({members[1].workers[1]}) connected and left (" in message


def test_wait_for_workers_rejects_other_worker_lists_and_unknown_clients():
    first, second = make_clusters(2), make_clusters(2)
    mixed = Cluster((first[0].workers[0], second[1].workers[1]), 1)

    def unknown_client() -> bytes:
        time.sleep(0.2)
        with socket.create_connection(("127.0.0.1", int(first[0].workers[0].rpartition(":")[2]))) as connection:
            connection.sendall(b"GET / HTTP/1.1\n")
            return connection.recv(100)

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(unknown_client)
        chief, other = run_workers((first[0], 1.5), (mixed, 1.5))
        assert answer.result() == b""
    assert "worker 0 was started with another list of workers" in other
    assert re.search(r"worker 1 \(.*\) did not connect within", chief)


def test_wait_for_workers_error_names_port_in_use():
    member = make_clusters(2)[0]
    port = int(member.workers[0].rpartition(":")[2])
    with (
        socket.create_server(("", port)),
        pytest.raises(UserError, match=rf"cannot listen at port {port} .* already in use"),
    ):
        rendezvous.wait_for_workers(member, 1)


def start_chief(seconds: float, token: str = "", count: int = 2):
    """Starts worker 0 of `count` in a thread. Returns the members and the future of its result."""
    members = make_clusters(count)
    pool = concurrent.futures.ThreadPoolExecutor(1)
    future = pool.submit(run_workers, (members[0], seconds, token))
    pool.shutdown(wait=False)
    return members, future


def connect(worker: str) -> socket.socket:
    """Returns a connection to a worker as soon as the worker listens."""
    host, _, port = worker.rpartition(":")
    end = time.monotonic() + 30
    while True:
        try:
            return socket.create_connection((host, int(port)), timeout=30)
        except ConnectionRefusedError:
            assert time.monotonic() < end
            time.sleep(0.01)


INVALID_MESSAGES = {
    "nested": b"[" * 30_000 + b"\n",
    "infinity": b'{"index": Infinity, "workers": WORKERS}\n',
    "not UTF-8": b'\xff\xfe{"index": 1}\n',
    "a number": b"1\n",
    "a text for an index": b'{"index": "1", "workers": WORKERS}\n',
    "true for an index": b'{"index": true, "workers": WORKERS}\n',
    "index of the first worker": b'{"index": 0, "workers": WORKERS}\n',
    "a negative index": b'{"index": -1, "workers": WORKERS}\n',
    "index too large": b'{"index": 2, "workers": WORKERS}\n',
    "a list in the index": b'{"index": [1], "workers": WORKERS}\n',
    "a number for a proof": b'{"index": 1, "workers": WORKERS, "proof": 7}\n',
    "unpaired surrogate": b'{"index": 1, "workers": WORKERS, "proof": "\\ud800"}\n',
    "no newline": b"x" * 100_000,
    "http": b"GET / HTTP/1.1\r\n\r\n",
    "nothing": b"",
}


def test_wait_for_workers_drops_invalid_messages_and_keeps_waiting():
    members, chief = start_chief(30)
    for message in INVALID_MESSAGES.values():
        with connect(members[0].workers[0]) as connection, contextlib.suppress(OSError):
            connection.sendall(message.replace(b"WORKERS", json.dumps(members[0].workers).encode()))
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(100) in (b"", rendezvous_protocol.TOKEN_DIFFERS)
    (other,) = run_workers((members[1], 30))
    assert isinstance(other, float), other
    assert isinstance(chief.result()[0], float)


def test_wait_for_workers_keeps_deadline_with_silent_and_slow_clients(monkeypatch):
    monkeypatch.setattr(rendezvous_server, "HELLO_TIMEOUT_S", 0.2)
    members, chief = start_chief(1.0)
    silent = [connect(members[0].workers[0]) for _ in range(20)]
    slow = connect(members[0].workers[0])
    began = time.monotonic()
    with contextlib.suppress(OSError):
        while not chief.done():
            slow.send(b"x")
            time.sleep(0.05)
    (message,) = chief.result()
    assert re.search(r"worker 1 \(.*\) did not connect within 1 s", message)
    assert time.monotonic() - began < 10
    for each in (*silent, slow):
        each.close()


def test_wait_for_workers_accepts_worker_behind_silent_clients(monkeypatch):
    """Nineteen silent clients and one that sends half a message connect first; the worker is accepted at once."""
    members, chief = start_chief(30)
    clients = [connect(members[0].workers[0]) for _ in range(20)]
    clients[0].sendall(b'{"index"')
    began = time.monotonic()
    (other,) = run_workers((members[1], 30))
    assert isinstance(other, float)
    assert isinstance(chief.result()[0], float)
    assert other - began < rendezvous_server.HELLO_TIMEOUT_S
    for each in clients:
        each.close()


def test_wait_for_workers_closes_oldest_connections_when_there_are_too_many(monkeypatch):
    monkeypatch.setattr(rendezvous_server, "MAX_UNIDENTIFIED", 3)
    members, chief = start_chief(30)
    clients = [connect(members[0].workers[0]) for _ in range(5)]
    assert [each.recv(1) for each in clients[:2]] == [b"", b""]
    assert [isinstance(result, float) for result in run_workers((members[1], 30)) + chief.result()] == [True, True]
    for each in clients:
        each.close()


def test_wait_for_workers_rejects_second_worker_with_same_index():
    members, chief = start_chief(30, count=3)
    with connect(members[0].workers[0]) as first:
        first.sendall(json.dumps({"index": 1, "workers": members[1].workers}).encode() + b"\n")
        time.sleep(0.2)
        (second,) = run_workers((members[1], 30))
        assert "another process is connected as worker 1: give each worker its own index" in second
    results = run_workers((members[1], 30), (members[2], 30)) + chief.result()  # after the first has disconnected
    assert all(isinstance(moment, float) for moment in results), results


@pytest.mark.parametrize(("chief_token", "worker_token"), [("secret", "other"), ("secret", ""), ("", "secret")])
def test_wait_for_workers_rejects_other_tokens(chief_token, worker_token):
    members = make_clusters(2)
    chief, other = run_workers((members[0], 1.0, chief_token), (members[1], 30, worker_token))
    assert "worker 0 has another FER_RENDEZVOUS_TOKEN in its environment" in other
    assert re.search(r"worker 1 \(.*\) did not connect within 1 s", chief)


def test_wait_for_workers_accepts_workers_with_same_token():
    members = make_clusters(3)
    results = run_workers(*((member, 30, "secret") for member in members))
    assert all(isinstance(moment, float) for moment in results), results


def test_worker_rejects_first_worker_without_token():
    members = make_clusters(2)
    host, _, port = members[0].workers[0].rpartition(":")
    with socket.create_server((host, int(port))) as server, concurrent.futures.ThreadPoolExecutor(1) as pool:
        worker = pool.submit(run_workers, (members[1], 30, "secret"))
        connection, _ = server.accept()
        with connection:
            assert b"secret" not in connection.recv(10_000)
            connection.sendall(b"go \n")
            (message,) = worker.result()
    assert "worker 0 has another FER_RENDEZVOUS_TOKEN" in message


@pytest.mark.parametrize("answer", [b"", b"x", b"x" * 100_000, b"\xff\n", b"[" * 1000 + b"\n"])
def test_worker_keeps_deadline_when_first_worker_answers_garbage(answer):
    members = make_clusters(2)
    host, _, port = members[0].workers[0].rpartition(":")
    with socket.create_server((host, int(port))) as server:
        began = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            worker = pool.submit(run_workers, (members[1], 0.5))
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(answer)
            (message,) = worker.result()
    assert "worker 0 did not answer within" in message
    assert time.monotonic() - began < 10


def test_wait_for_workers_listens_only_at_own_address():
    members, chief = start_chief(1.0)
    connect(members[0].workers[0]).close()
    port = int(members[0].workers[0].rpartition(":")[2])
    with socket.socket() as other:
        other.settimeout(5)
        with pytest.raises(ConnectionRefusedError):
            other.connect(("127.0.0.2", port))  # all of 127.0.0.0/8 is this machine's, on Linux
    chief.result()


def test_wait_for_workers_accepts_ipv6_addresses():
    ports = launch.find_free_ports(2)
    names = tuple(f"[::1]:{port}" for port in ports)
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    results = run_workers(*((Cluster(names, index), 30) for index in (0, 1)))
    assert all(isinstance(moment, float) for moment in results), results


@pytest.mark.parametrize("host", ["192.0.2.7", "name.invalid", "x" * 70])
def test_wait_for_workers_error_names_address_of_another_machine(host, monkeypatch):
    workers = tuple(f"{host}:{port}" for port in launch.find_free_ports(2))
    with pytest.raises(UserError, match=f"{host} is not an address of this machine: start the worker on the machine"):
        rendezvous.wait_for_workers(Cluster(workers, 0), 1)
