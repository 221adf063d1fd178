"""Tests of fer/demo/server.py."""

import http.client
import io
import json
import re
import socket
import threading
import time
from concurrent import futures

import numpy as np
import pytest

flask = pytest.importorskip("flask", reason="Flask is not installed: the extra demo brings it")

from fer import progress
from fer.demo import predictor, server
from fer.errors import UserError
from fer.labels import CLASSES
from fer.predict.face_detection import Box

FOUND = predictor.PhotoResult(
    640, 400, [predictor.Face(Box(10, 20, 30, 30), np.full(7, 1 / 7, np.float32), b"input", b"gradcam")]
)


def client(predict=lambda content: FOUND, description="compact", host="127.0.0.1"):
    """Returns a test client of the application."""
    return server.create_app(predict, CLASSES, description, host).test_client()


def test_recognise_returns_boxes_and_probabilities_of_a_photo():
    received = []
    answer = client(lambda content: received.append(content) or FOUND).post("/recognise", data=b"picture")
    assert (answer.status_code, received) == (200, [b"picture"])
    (face,) = answer.json["faces"]
    assert face["box"] == [10, 20, 30, 30]
    assert face["probabilities"] == pytest.approx([1 / 7] * len(CLASSES))
    assert face["looked_at"].startswith("data:image/png;base64,")


def test_recognise_answers_user_error_as_json():
    def fails(_):
        raise UserError("No face was found.")

    answer = client(fails).post("/recognise", data=b"picture")
    assert (answer.status_code, answer.json) == (422, {"error": "No face was found."})


def test_recognise_rejects_too_large_upload_before_reading():
    def read(_):
        raise AssertionError("the upload was read")

    answer = client(read).post("/recognise", data=bytes(server.MAX_UPLOAD_BYTES + 1))
    assert (answer.status_code, answer.json["error"]) == (413, "This file is too large. The limit is 16 MiB.")


def test_recognise_rejects_upload_without_content_length():
    def read(_):
        raise AssertionError("the upload was read")

    chunked = {"wsgi.input": io.BytesIO(b"picture"), "wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    answer = client(read).post("/recognise", environ_overrides=chunked)
    assert (answer.status_code, answer.json["error"]) == (
        411,
        "Send the photo with a Content-Length header, not in chunks.",
    )


def test_recognise_rejects_photos_while_too_many_are_pending(monkeypatch):
    monkeypatch.setattr(server, "MAX_PENDING", 1)
    begun, end = threading.Event(), threading.Event()

    def slow(_):
        begun.set()
        assert end.wait(30)
        return FOUND

    page = server.create_app(slow, CLASSES, "compact", "127.0.0.1")
    with futures.ThreadPoolExecutor() as pool:
        first = pool.submit(page.test_client().post, "/recognise", data=b"picture")
        assert begun.wait(30)
        second = page.test_client().post("/recognise", data=b"picture")
        end.set()
    assert (second.status_code, second.json["error"]) == (503, "Too many photos are waiting. Try again in a moment.")
    assert first.result().status_code == 200
    assert page.test_client().post("/recognise", data=b"picture").status_code == 200


@pytest.fixture
def address():
    """Serves the page during a test; the value is the server's (host, port)."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        page = server.create_app(lambda _: FOUND, CLASSES, "compact", "127.0.0.1")
        serving = server.Server(page, "127.0.0.1", listening)
        threading.Thread(target=serving.serve_forever, args=[0.05], daemon=True).start()
        yield listening.getsockname()
        serving.shutdown()


def connect(address, request: bytes) -> socket.socket:
    """Opens a connection and sends a part of a request."""
    connection = socket.create_connection(address, timeout=30)
    connection.sendall(request)
    return connection


def status(address, method: str = "POST", path: str = "/recognise") -> int:
    """Sends a request and returns the status code of the response."""
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
def test_server_answers_despite_many_incomplete_requests(part, address):
    waiting = [connect(address, UNFINISHED[part]) for _ in range(2 * server.MAX_CONNECTIONS)]
    assert [status(address), status(address, "GET", "/")] == [200, 200]
    for each in waiting:
        each.close()


def test_server_keeps_incomplete_requests_below_the_limit(address):
    first = connect(address, b"POST /recognise HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\npa")
    others = [connect(address, b"") for _ in range(server.MAX_CONNECTIONS - 2)]
    assert status(address) == 200
    first.sendall(b"rt")
    assert first.recv(1 << 16).startswith(b"HTTP/1.1 200 OK")
    for each in (first, *others):
        each.close()


def test_server_closes_request_that_is_too_slow(address, monkeypatch):
    monkeypatch.setattr(server, "REQUEST_TIMEOUT_S", 0.3)
    slow = [connect(address, part) for part in UNFINISHED.values()]
    ended = time.monotonic() + 30
    while slow:
        assert time.monotonic() < ended
        for each in list(slow):
            try:
                each.sendall(b"x")
                each.settimeout(0.05)
                if each.recv(1 << 16) == b"":
                    slow.remove(each)
            except TimeoutError:
                continue
            except OSError:
                slow.remove(each)
    assert status(address) == 200


def test_server_answers_complete_request_despite_newer_connections(address, monkeypatch):
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 1)
    gate, release = threading.Event(), threading.Event()

    def slow(_):
        gate.set()
        release.wait(30)
        return {}

    monkeypatch.setattr(predictor, "to_json", slow)
    with futures.ThreadPoolExecutor() as pool:
        first = pool.submit(status, address)
        assert gate.wait(30)
        for _ in range(3):
            connect(address, b"GET").close()
        release.set()
        assert first.result() == 200


def test_recognise_accepts_next_photo_after_user_error(monkeypatch):
    monkeypatch.setattr(server, "MAX_PENDING", 1)

    def fails(_):
        raise UserError("No face was found.")

    page = client(fails)
    assert [page.post("/recognise", data=b"picture").status_code for _ in range(2)] == [422, 422]


@pytest.mark.parametrize("name", ["127.0.0.1:7860", "localhost:7860", "[::1]:7860", "192.168.0.7"])
def test_check_host_accepts_addresses_and_localhost(name):
    assert client().get("/", headers={"Host": name}).status_code == 200


@pytest.mark.parametrize("name", ["evil.example:7860", "127.0.0.1.evil.example", "localhost.evil.example:7860"])
def test_check_host_rejects_foreign_host_name(name):
    answer = client().get("/", headers={"Host": name})
    assert (answer.status_code, "is not a host name of this server" in answer.json["error"]) == (400, True)


def test_check_host_accepts_name_that_server_listens_on():
    assert client(host="Faces.local").get("/", headers={"Host": "faces.local:80"}).status_code == 200


@pytest.mark.parametrize(
    ("origin", "status"), [("http://localhost", 200), ("https://evil.example", 403), ("null", 403)]
)
def test_check_host_rejects_other_origins(origin, status):
    assert client().post("/recognise", data=b"x", headers={"Origin": origin}).status_code == status


def test_page_allows_only_its_own_script_and_style_and_no_caching():
    page = client()
    policies = [page.get("/").headers["Content-Security-Policy"] for _ in range(2)]
    assert policies[0] != policies[1], "the nonce is new each time"
    assert "default-src 'none'" in policies[0]
    assert "unsafe" not in policies[0]
    answer = page.get("/")
    nonce = re.search("script-src 'nonce-([^']+)'", answer.headers["Content-Security-Policy"])[1]
    assert set(re.findall('nonce="([^"]*)"', answer.text)) == {nonce}
    assert answer.headers["Cache-Control"] == page.post("/recognise").headers["Cache-Control"] == "no-store"


def test_page_loads_nothing_from_the_network_and_escapes_description():
    text = client(description="<i>&").get("/").text
    assert "&lt;i&gt;&amp;" in text
    assert not re.findall(r"(?:src|href)=\"(?!data:)[^\"]+", text)
    assert "@@" not in text


def test_server_answers_unknown_path_as_json():
    assert client().get("/elsewhere").status_code == 404
    assert client().get("/elsewhere").json["error"]


def test_serve_rejects_used_port_before_loading():
    with server.socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"Cannot listen on 127\.0\.0\.1, port {port} .*--port=0"):
            server.serve("nowhere", "127.0.0.1", port)


@pytest.mark.parametrize("host", ["a\0b", "a..b", "a" * 64, "\udc80", "\udc80::", "::\0"])
def test_serve_rejects_host_that_is_no_name(host):
    with pytest.raises(UserError, match=rf"^Cannot listen on {re.escape(host)}, port 0 \(.+\)\. Choose another --host"):
        server.serve("nowhere", host, 0)


def test_serve_error_names_missing_run():
    with pytest.raises(UserError, match="no run folder nowhere"):
        server.serve("nowhere", "127.0.0.1", 0)


def test_serve_prints_each_step_and_repeats_it_while_it_is_slow(monkeypatch, capsys):
    lines = []

    def open_slowly(workdir: str):
        deadline = time.monotonic() + 30
        while len(lines) < 3 and time.monotonic() < deadline:
            lines.extend(line for line in capsys.readouterr().out.splitlines() if "model" in line)
            time.sleep(0.01)
        raise UserError("The run cannot be opened.")

    assert progress.STAGE_INTERVAL_S < 5
    monkeypatch.setattr(progress, "STAGE_INTERVAL_S", 0.02)
    monkeypatch.setattr(server.loading, "open_run", open_slowly)
    with pytest.raises(UserError, match="cannot be opened"):
        server.serve("slow", "127.0.0.1", 0)
    assert lines[0] == "Loading the model slow ..."
    assert all(re.fullmatch(r"Loading the model slow \.\.\. \d+ s", line) for line in lines[1:])
    assert len(lines) >= 3


@pytest.mark.parametrize(
    ("host", "shown"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "localhost"), ("::", "localhost"), ("::1", "[::1]"), ("faces", "faces")],
)
def test_url_host_can_be_opened(host, shown):
    assert server._url_host(host) == shown


def test_page_of_own_classes_states_no_human_accuracy_on_fer2013():
    own = server.create_app(lambda _: FOUND, ("bored <b>", "happy"), "compact", "127.0.0.1").test_client()
    page = own.get("/").text
    settings = json.loads(re.search(r'<script id="settings"[^>]*>(.*?)</script>', page)[1])
    assert (settings["classes"], len(settings["colours"])) == (["bored <b>", "happy"], 2)
    assert "Human accuracy" not in page
    assert "Human accuracy on FER-2013 is about 65" in client().get("/").text
