"""A run is asked to stop by signals and by EC2's notice."""

import http.server
import os
import signal
import threading
import time

import pytest

from fer.train import stopping


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_asks_and_names_the_exit_code(number, code):
    with stopping.on_signals() as stop:
        assert not stop.asked
        os.kill(os.getpid(), number)
        assert stop.asked
        assert stop.exit_code == code


def test_handlers_are_put_back():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with stopping.on_signals():
        assert signal.getsignal(signal.SIGTERM) is not before[0]
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_a_second_signal_is_no_longer_held_back():
    with stopping.on_signals():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


class Metadata(http.server.BaseHTTPRequestHandler):
    """EC2's instance metadata service, version 2, as AWS documents it; `server.reclaimed` turns the notice on."""

    def do_PUT(self):
        self.answer(200 if self.path == "/latest/api/token" else 404, b"token")

    def do_GET(self):
        if self.headers.get("X-aws-ec2-metadata-token") != "token":
            self.answer(401, b"")
        elif self.path == "/latest/meta-data/spot/instance-action" and self.server.reclaimed:
            self.answer(200, b'{"action": "terminate", "time": "2026-01-01T00:00:00Z"}')
        else:
            self.answer(404, b"")

    def answer(self, status: int, body: bytes):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def metadata(monkeypatch):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    server.reclaimed = False
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield server
    server.shutdown()
    server.server_close()


def waits_until(condition, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not condition():
        time.sleep(0.01)
    return condition()


def test_a_spot_notice_asks_as_sigterm_does(metadata):
    stop = stopping.Stop()
    with stopping.on_spot_notice(stop, every=0.01):
        time.sleep(0.2)
        assert not stop.asked
        metadata.reclaimed = True
        assert waits_until(lambda: stop.asked)
    assert stop.exit_code == 143


def test_a_service_that_does_not_answer_asks_for_nothing(metadata):
    metadata.shutdown()
    metadata.server_close()
    stop = stopping.Stop()
    with stopping.on_spot_notice(stop, every=0.01):
        time.sleep(0.2)
    assert not stop.asked
