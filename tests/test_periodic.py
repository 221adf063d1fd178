"""Tests of fer/periodic.py."""

import threading

from fer.periodic import call_every


def test_call_every_calls_until_the_context_ends():
    calls, third = [], threading.Event()

    def count() -> None:
        calls.append(threading.current_thread())
        if len(calls) == 3:
            third.set()

    with call_every(0.001, count, "counter"):
        assert third.wait(30)
    assert not calls[0].is_alive()
    assert calls[0].name == "counter"


def test_call_every_makes_no_further_call_after_true():
    calls, called = [], threading.Event()

    def end() -> bool:
        calls.append(threading.current_thread())
        called.set()
        return True

    with call_every(0.001, end, "ended"):
        assert called.wait(30)
        calls[0].join(30)
        assert not calls[0].is_alive()
    assert len(calls) == 1


def test_call_every_makes_no_call_within_the_first_interval():
    calls = []
    with call_every(60, lambda: calls.append(1), "late"):
        pass
    assert calls == []
