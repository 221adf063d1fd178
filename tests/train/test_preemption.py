"""A run is asked to stop by signals and by EC2's notice."""

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
def test_a_signal_asks_and_names_the_exit_code(number, code):
    with preemption.stop_on_signals() as stop:
        assert not stop.requested
        os.kill(os.getpid(), number)
        assert stop.requested
        assert stop.exit_code == code


def test_handlers_are_put_back():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with preemption.stop_on_signals():
        assert signal.getsignal(signal.SIGTERM) is not before[0]
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


@pytest.fixture
def heeds_interrupts():
    """Python's own answer to Ctrl-C, which a process that a script started in the background lacks."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeds_interrupts")
def test_a_second_signal_is_no_longer_held_back():
    with preemption.stop_on_signals():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


class Metadata(http.server.BaseHTTPRequestHandler):
    """EC2's instance metadata service, version 2, as AWS documents it; `server.reclaimed` turns the notice on.

    A token is given for a stated time only (400 without one), each is another, and none but the given ones will do.
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


def waits_until(condition, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not condition():
        time.sleep(0.01)
    return condition()


def test_a_spot_notice_asks_as_sigterm_does(metadata):
    stop = preemption.StopRequest()
    with preemption.stop_on_spot_notice(stop, every=0.01):
        assert waits_until(lambda: len(metadata.tokens) > 2)  # it looks again and again
        assert not stop.requested
        metadata.reclaimed = True
        assert waits_until(lambda: stop.requested)
    assert stop.exit_code == 143


def test_a_service_that_does_not_answer_asks_for_nothing(metadata):
    metadata.shutdown()
    metadata.server_close()
    stop = preemption.StopRequest()
    with preemption.stop_on_spot_notice(stop, every=0.01):
        time.sleep(0.2)
    assert not stop.requested


def test_a_service_that_answers_nonsense_is_asked_again(metadata, monkeypatch):
    """Such as a proxy that is no web server, or an address that is none."""
    asked, answers = [], iter([http.client.BadStatusLine("?"), ValueError("unknown url type"), *[None] * 1000])
    original = preemption.urllib.request.urlopen

    def open_or_fail(*request, **how):
        asked.append(request)
        error = next(answers)
        if error:
            raise error
        return original(*request, **how)

    monkeypatch.setattr(preemption.urllib.request, "urlopen", open_or_fail)
    metadata.reclaimed, stop = True, preemption.StopRequest()
    with preemption.stop_on_spot_notice(stop, every=0.01):
        assert waits_until(lambda: stop.requested)
    assert len(asked) == 4  # two that failed, a token and the notice


def test_a_run_on_a_reclaimed_instance_stops_with_a_checkpoint(metadata, synthetic_shards, tmp_path, monkeypatch):
    metadata.reclaimed = True
    soon = functools.partial(preemption.stop_on_spot_notice, every=0.01)
    monkeypatch.setattr(preemption, "stop_on_spot_notice", soon)
    settings = factories.experiment(steps=10_000, checkpoint_steps=10_000, ema_decay=0.0)
    hooks = trainer.RunHooks(watch_spot=True)
    with pytest.raises(Stopped, match=r"Stopped after step \d+ of 10000 as requested") as caught:
        trainer.train(settings, synthetic_shards.folder, str(tmp_path / "run"), "one", hooks=hooks)
    assert caught.value.exit_code == 143
    assert checkpoints.list_steps(str(tmp_path / "run" / "checkpoints"))
