"""Checks that signals and EC2's spot interruption notice request a stop."""

import functools
import http.client
import http.server
import os
import signal
import threading
import time

import pytest

from fer.errors import Stopped
from fer.train import checkpoints, preemption, trainer
from tests.train import factories


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_requests_stop_and_sets_exit_code(number, code):
    with preemption.stop_on_signals() as stop:
        assert not stop.requested
        os.kill(os.getpid(), number)
        assert stop.requested
        assert stop.exit_code == code


def test_stop_on_signals_restores_handlers():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with preemption.stop_on_signals():
        assert signal.getsignal(signal.SIGTERM) is not before[0]
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


@pytest.fixture
def python_sigint_handler():
    """Sets Python's default SIGINT handler, which a background process of a script lacks."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("python_sigint_handler")
def test_second_signal_interrupts_at_once():
    with preemption.stop_on_signals():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


class Metadata(http.server.BaseHTTPRequestHandler):
    """Simulates EC2's instance metadata service, version 2, as AWS documents; `server.reclaimed` enables the notice.

    A request for a token must state its lifetime (else status 400). Each token is new, and other tokens are rejected.
    """

    def do_PUT(self):
        if self.path != "/latest/api/token":
            return self.answer(404, b"")
        if not 1 <= int(self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", 0)) <= 21600:
            return self.answer(400, b"")
        self.server.tokens.append(f"token{len(self.server.tokens)}")
        return self.answer(200, self.server.tokens[-1].encode())

    def do_GET(self):
        if self.headers.get("X-aws-ec2-metadata-token") not in self.server.tokens:
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
    server.reclaimed, server.tokens = False, []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield server
    server.shutdown()
    server.server_close()


def wait_until(condition, seconds: float = 10.0) -> bool:
    """Waits for a condition. Returns whether it holds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not condition():
        time.sleep(0.01)
    return condition()


def test_stop_on_spot_notice_requests_stop_with_exit_code_to_try_again(metadata):
    stop = preemption.StopRequest()
    with preemption.stop_on_spot_notice(stop, every=0.01):
        assert wait_until(lambda: len(metadata.tokens) > 2)  # the notice is polled repeatedly
        assert not stop.requested
        metadata.reclaimed = True
        assert wait_until(lambda: stop.requested)
    assert stop.exit_code == 75


def test_stop_on_spot_notice_requests_nothing_when_service_is_unreachable(metadata):
    metadata.shutdown()
    metadata.server_close()
    stop = preemption.StopRequest()
    with preemption.stop_on_spot_notice(stop, every=0.01):
        time.sleep(0.2)
    assert not stop.requested


def test_stop_on_spot_notice_retries_after_invalid_answers(metadata, monkeypatch):
    """Such answers come from a proxy that does not speak HTTP, or from an invalid address."""
    requests, answers = [], iter([http.client.BadStatusLine("?"), ValueError("unknown url type"), *[None] * 1000])
    original = preemption.urllib.request.urlopen

    def open_or_fail(*request, **options):
        requests.append(request)
        error = next(answers)
        if error:
            raise error
        return original(*request, **options)

    monkeypatch.setattr(preemption.urllib.request, "urlopen", open_or_fail)
    metadata.reclaimed, stop = True, preemption.StopRequest()
    with preemption.stop_on_spot_notice(stop, every=0.01):
        assert wait_until(lambda: stop.requested)
    assert len(requests) == 4  # two failures, the token and the notice


def test_run_on_reclaimed_instance_stops_with_checkpoint(metadata, synthetic_shards, tmp_path, monkeypatch):
    metadata.reclaimed = True
    frequent = functools.partial(preemption.stop_on_spot_notice, every=0.01)
    monkeypatch.setattr(preemption, "stop_on_spot_notice", frequent)
    settings = factories.experiment(max_steps=10_000, save_every_steps=10_000, ema_decay=0.0)
    options = trainer.RunOptions(stop_on_spot_interruption=True)
    with pytest.raises(Stopped, match=r"Stopped after step \d+ of 10000 as requested") as caught:
        trainer.train(settings, synthetic_shards.folder, str(tmp_path / "run"), "one", options=options)
    assert caught.value.exit_code == 75
    assert checkpoints.list_steps(str(tmp_path / "run" / "checkpoints"))
