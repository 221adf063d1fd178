"""Calls of a function at intervals in the background."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def call_every(interval_s: float, action: Callable[[], bool | None], name: str) -> Iterator[None]:
    """Calls `action` every `interval_s` seconds in a thread while the context lasts, first after one interval.

    Args:
      interval_s: between the end of a call and the next one, in seconds.
      action: handles its own errors; returns True to have no further calls.
      name: of the thread.
    """
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(interval_s):
            if action():
                return

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
