"""How far a pass over faces is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Callable

from tqdm import tqdm

QUIET = 30.0  # seconds between two plain lines where there is no terminal


@contextlib.contextmanager
def faces(doing: str) -> Iterator[Callable[[int, int], None]]:
    """Yields the function to call after each batch, with the faces done in it and how many there are in all."""
    bar = tqdm(desc=doing, unit="face", disable=not sys.stderr.isatty())
    done, told = 0, time.monotonic()

    def tell(count: int, total: int) -> None:
        nonlocal done, told
        done += count
        bar.total = total
        bar.update(count)
        if bar.disable and time.monotonic() - told > QUIET:
            print(f"{doing}: {done:,} of {total:,} faces", flush=True)
            told = time.monotonic()

    with bar:
        yield tell
