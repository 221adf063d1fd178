"""How far a conversion is: a bar on a terminal, now and then a plain line elsewhere."""

from __future__ import annotations

import sys
import time

import tqdm

EVERY = 5.0  # seconds between plain lines


class Progress:
    """Counts rows. How many there will be is not known, but how many bytes are to be read, and how many have been."""

    def __init__(self, doing: str, size: int):
        """Begins; `size` is in bytes."""
        self._doing, self._size = doing, size
        self._rows = self._consumed = 0
        self._start = self._last = time.monotonic()
        self._open = True
        self._bar = tqdm.tqdm(desc=doing, unit=" rows", leave=False) if sys.stderr.isatty() else None

    def consume(self, count: int) -> None:
        """Counts bytes read."""
        self._consumed += count

    def advance(self, rows: int) -> None:
        """Counts rows that are done."""
        self._rows += rows
        if self._bar is not None:
            share = self._share()
            self._bar.total = round(self._rows / share) if share else None
            self._bar.update(rows)
        elif time.monotonic() - self._last >= EVERY:
            self._last = time.monotonic()
            print(f"{self._doing}: {self._so_far()}, {self._share():.0%}", flush=True)

    def say(self, text: str) -> None:
        """Prints a line without disturbing the bar."""
        if self._bar is not None:
            self._bar.clear()
        print(text, flush=True)

    def close(self) -> None:
        """Ends the bar and prints the rate, once."""
        if self._open and self._bar is not None:
            self._bar.close()
        if self._open:
            print(f"{self._doing}: {self._so_far()}", flush=True)
        self._open = False

    def _share(self) -> float:
        """Of what is to be read, at most 1: some archives are read in parts twice."""
        return min(self._consumed / self._size, 1.0) if self._size else 0.0

    def _so_far(self) -> str:
        rate = self._rows / max(time.monotonic() - self._start, 1e-9)
        return f"{self._rows:,} rows, {rate:,.0f} rows/s"
