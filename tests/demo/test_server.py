"""What the page's server answers, and whom."""

import http.client
import io
import re
import socket
import threading
import time
from concurrent import futures

import numpy as np
import pytest

flask = pytest.importorskip("flask", reason="Flask is not installed: the extra demo brings it")

from fer.demo import predictor, server
from fer.errors import UserError
from fer.labels import CLASSES
from fer.predict.face_detection import Box

FOUND = predictor.PhotoResult(
    640, 400, [predictor.Face(Box(10, 20, 30, 30), np.full(7, 1 / 7, np.float32), b"seen", b"looked at")]
)


def client(recognise=lambda content: FOUND, said="compact", host="127.0.0.1"):
    return server.application(recognise, said, host).test_client()


def test_a_pictures_bytes_become_boxes_and_probabilities():
    given = []
    answer = client(lambda content: given.append(content) or FOUND).post("/recognise", data=b"picture")
    assert (answer.status_code, given) == (200, [b"picture"])
    (face,) = answer.json["faces"]
    assert face["box"] == [10, 20, 30, 30]
    assert face["probabilities"] == pytest.approx([1 / 7] * len(CLASSES))
    assert face["looked_at"].startswith("data:image/png;base64,")


def test_a_mistake_is_a_sentence_in_the_answer():
    def fails(_):
        raise UserError("No face was found.")

    answer = client(fails).post("/recognise", data=b"picture")
    assert (answer.status_code, answer.json) == (422, {"error": "No face was found."})


def test_too_large_an_upload_is_refused_unread():
    def read(_):
        raise AssertionError("it was read")

    answer = client(read).post("/recognise", data=bytes(server.MOST_BYTES + 1))
    assert (answer.status_code, answer.json["error"]) == (413, "This file is too large: at most 16 MiB are read.")


def test_an_upload_that_does_not_tell_its_length_is_refused_not_cut():
    def read(_):
        raise AssertionError("it was read")

    chunked = {"wsgi.input": io.BytesIO(b"picture"), "wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    answer = client(read).post("/recognise", environ_overrides=chunked)
    assert (answer.status_code, answer.json["error"]) == (411, "Send the picture with its length, not in chunks.")


def test_who_finds_all_places_taken_is_refused_until_one_is_free(monkeypatch):
    monkeypatch.setattr(server, "MOST_AT_ONCE", 1)
    begun, end = threading.Event(), threading.Event()

    def slow(_):
        begun.set()
        assert end.wait(30)
        return FOUND

    page = server.application(slow, "compact", "127.0.0.1")
    with futures.ThreadPoolExecutor() as pool:
        first = pool.submit(page.test_client().post, "/recognise", data=b"picture")
        assert begun.wait(30)
        second = page.test_client().post("/recognise", data=b"picture")
        end.set()
    assert (second.status_code, second.json["error"]) == (503, "Too many pictures are waiting; try again in a moment.")
    assert first.result().status_code == 200
    assert page.test_client().post("/recognise", data=b"picture").status_code == 200


@pytest.fixture
def address():
    """Where the page is served while the test runs."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        page = server.application(lambda _: FOUND, "compact", "127.0.0.1")
        serving = server.Server(page, "127.0.0.1", listening)
        threading.Thread(target=serving.serve_forever, args=[0.05], daemon=True).start()
        yield listening.getsockname()
        serving.shutdown()


def begun(address, request: bytes) -> socket.socket:
    """A connection with a part of a request."""
    connection = socket.create_connection(address, timeout=30)
    connection.sendall(request)
    return connection


def status(address, method: str = "POST", path: str = "/recognise") -> int:
    connection = http.client.HTTPConnection(*address, timeout=30)
    connection.request(method, path, b"picture" if method == "POST" else None)
    return connection.getresponse().status


UNFINISHED = {
    "body": b"POST /recognise HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\npart",
    "header": b"POST /recognise HTTP/1.1\r\nHost: local",
    "nothing": b"",
    "too large a body": b"POST /recognise HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\npart",
    "chunks": b"POST /recognise HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n99\r\npart",
}


@pytest.mark.parametrize("part", UNFINISHED)
def test_server_answers_beside_requests_that_do_not_come(part, address):
    waiting = [begun(address, UNFINISHED[part]) for _ in range(2 * server.MOST_CONNECTIONS)]
    assert [status(address), status(address, "GET", "/")] == [200, 200]
    for each in waiting:
        each.close()


def test_server_gives_up_no_request_while_there_are_few(address):
    first = begun(address, b"POST /recognise HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\npa")
    others = [begun(address, b"") for _ in range(server.MOST_CONNECTIONS - 2)]
    assert status(address) == 200
    first.sendall(b"rt")
    assert first.recv(1 << 16).startswith(b"HTTP/1.1 200 OK")
    for each in (first, *others):
        each.close()


def test_server_ends_a_request_that_comes_too_slowly(address, monkeypatch):
    monkeypatch.setattr(server, "PATIENCE", 0.3)
    slow = [begun(address, part) for part in UNFINISHED.values()]
    ended = time.monotonic() + 30
    while slow:
        assert time.monotonic() < ended
        for each in list(slow):
            try:
                each.sendall(b"x")
                each.settimeout(0.05)
                if each.recv(1 << 16) == b"":
                    slow.remove(each)
            except socket.timeout:
                continue
            except OSError:
                slow.remove(each)
    assert status(address) == 200


def test_server_answers_a_whole_request_however_many_come_after_it(address, monkeypatch):
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 1)
    gate, release = threading.Event(), threading.Event()

    def slow(_):
        gate.set()
        release.wait(30)
        return {}

    monkeypatch.setattr(predictor, "as_json", slow)
    with futures.ThreadPoolExecutor() as pool:
        first = pool.submit(status, address)
        assert gate.wait(30)
        for _ in range(3):
            begun(address, b"GET").close()
        release.set()
        assert first.result() == 200


def test_a_mistake_gives_its_place_back(monkeypatch):
    monkeypatch.setattr(server, "MOST_AT_ONCE", 1)

    def fails(_):
        raise UserError("No face was found.")

    page = client(fails)
    assert [page.post("/recognise", data=b"picture").status_code for _ in range(2)] == [422, 422]


@pytest.mark.parametrize("name", ["127.0.0.1:7860", "localhost:7860", "[::1]:7860", "192.168.0.7"])
def test_the_page_answers_to_addresses_and_localhost(name):
    assert client().get("/", headers={"Host": name}).status_code == 200


@pytest.mark.parametrize("name", ["evil.example:7860", "127.0.0.1.evil.example", "localhost.evil.example:7860"])
def test_a_strangers_name_that_points_here_is_refused(name):
    answer = client().get("/", headers={"Host": name})
    assert (answer.status_code, "is not a name of this page" in answer.json["error"]) == (400, True)


def test_the_name_that_it_was_told_to_listen_on_is_its_own():
    assert client(host="Faces.local").get("/", headers={"Host": "faces.local:80"}).status_code == 200


@pytest.mark.parametrize(
    ("origin", "status"), [("http://localhost", 200), ("https://evil.example", 403), ("null", 403)]
)
def test_only_the_page_itself_may_ask(origin, status):
    assert client().post("/recognise", data=b"x", headers={"Origin": origin}).status_code == status


def test_only_the_pages_own_script_and_style_run_and_nothing_is_kept():
    page = client()
    policies = [page.get("/").headers["Content-Security-Policy"] for _ in range(2)]
    assert policies[0] != policies[1], "the nonce is new each time"
    assert "default-src 'none'" in policies[0]
    assert "unsafe" not in policies[0]
    answer = page.get("/")
    nonce = re.search("script-src 'nonce-([^']+)'", answer.headers["Content-Security-Policy"])[1]
    assert set(re.findall('nonce="([^"]*)"', answer.text)) == {nonce}
    assert answer.headers["Cache-Control"] == page.post("/recognise").headers["Cache-Control"] == "no-store"


def test_the_page_asks_nothing_of_a_network_and_escapes_names():
    text = client(said="<i>&").get("/").text
    assert "&lt;i&gt;&amp;" in text
    assert not re.findall(r"(?:src|href)=\"(?!data:)[^\"]+", text)
    assert "@@" not in text


def test_a_place_that_does_not_exist_is_told_in_the_same_form():
    assert client().get("/elsewhere").status_code == 404
    assert client().get("/elsewhere").json["error"]


def test_a_port_that_is_taken_is_told_before_anything_is_loaded():
    with server.socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"Cannot listen on 127\.0\.0\.1, port {port} .*--port=0"):
            server.serve("nowhere", "127.0.0.1", port)


def test_a_run_that_is_missing_is_named():
    with pytest.raises(UserError, match="no run folder nowhere"):
        server.serve("nowhere", "127.0.0.1", 0)


@pytest.mark.parametrize(
    ("host", "shown"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "localhost"), ("::", "localhost"), ("::1", "[::1]"), ("faces", "faces")],
)
def test_the_address_that_is_told_can_be_opened(host, shown):
    assert server._shown(host) == shown
