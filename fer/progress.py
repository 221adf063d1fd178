"""What a program says while nothing else is to be seen of it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import TextIO

PATIENCE = 3.0  # seconds


@contextlib.contextmanager
def when_slow(text: str, patience: float | None = None, file: TextIO | None = None) -> Iterator[None]:
    """Prints the line `text` if what is done within takes longer than `patience` seconds, or than PATIENCE.

    Args:
      text: the line.
      patience: in seconds; PATIENCE if None.
      file: where it goes; standard output if None.
    """
    timer = threading.Timer(PATIENCE if patience is None else patience, lambda: print(text, file=file, flush=True))
    timer.daemon = True  # a program that ends meanwhile does not wait for it
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
