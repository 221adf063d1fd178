"""Progress displays: a bar on a terminal, plain lines at intervals elsewhere."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, ClassVar, TextIO, TypeVar

from fer.periodic import call_every

SLOW_AFTER_S = 3.0
STAGE_INTERVAL_S = 4.0  # below 5 seconds, the longest time that a program may print nothing
TRAIN_BAR_FORMAT = "{desc} {percentage:3.0f}%|{bar}| {rate_fmt}, {remaining} left{postfix}"


@contextlib.contextmanager
def print_when_slow(text: str, after_s: float | None = None, file: TextIO | None = None) -> Iterator[None]:
    """Prints the line `text` if the body of the `with` statement runs for longer than `after_s`.

    Args:
      text: the line.
      after_s: in seconds; SLOW_AFTER_S if None.
      file: the stream to print to; standard output if None.
    """
    timer = threading.Timer(SLOW_AFTER_S if after_s is None else after_s, lambda: print(text, file=file, flush=True))
    timer.daemon = True  # a program that ends before then does not wait for the timer
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextlib.contextmanager
def stage(text: str, file: TextIO | None = None) -> Iterator[None]:
    """Prints `text` when the block begins, and every `STAGE_INTERVAL_S` seconds, with the elapsed time, until it ends.

    Args:
      text: the line, such as "Loading the model ...".
      file: where the lines go; None means the standard output at the beginning of the block, even if the block
        redirects it.
    """
    output = sys.stdout if file is None else file
    started = time.monotonic()

    def repeat() -> None:
        print(f"{text} {time.monotonic() - started:.0f} s", file=output, flush=True)

    print(text, file=output, flush=True)
    with call_every(STAGE_INTERVAL_S, repeat, "progress"):
        yield


_Display = TypeVar("_Display", bound="ProgressDisplay")


class ProgressDisplay:
    """Base class: a tqdm bar if the standard error is a terminal, else plain lines on the standard output.

    A context manager that closes the bar.
    """

    INTERVAL_S: ClassVar[float]  # seconds between two plain lines

    def __init__(self, **bar_options: Any):
        """Starts the display with tqdm's options, such as `desc` and `unit`."""
        import tqdm  # imported here because it takes 0.07 s, which `--help` and flag errors do not need

        self._bar = tqdm.tqdm(disable=not (sys.stderr and sys.stderr.isatty()), **bar_options)
        self._last_line = time.monotonic()

    def print_line(self, text: str) -> None:
        """Prints a line to the standard output, above the bar."""
        self._bar.write(text, file=sys.stdout)
        sys.stdout.flush()
        self._last_line = time.monotonic()

    @contextlib.contextmanager
    def hidden(self) -> Iterator[None]:
        """Hides the bar while the body of the `with` statement prints to the terminal."""
        self._bar.clear()
        yield
        self._bar.refresh()

    def close(self) -> None:
        """Closes the bar."""
        self._bar.close()

    def _line_is_due(self) -> bool:
        return self._bar.disable and time.monotonic() - self._last_line >= self.INTERVAL_S

    def __enter__(self: _Display) -> _Display:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class ReadProgress(ProgressDisplay):
    """Progress of reading rows from files of known size: the number of rows is extrapolated from the bytes read."""

    INTERVAL_S = 5.0

    def __init__(self, task: str, size: int):
        """Starts the display of `task`, which reads `size` bytes; 0 if the size is unknown."""
        super().__init__(desc=task, unit=" rows", leave=False)
        self._task, self._size = task, size
        self._rows = self._bytes = 0
        self._start = self._last_line
        self._closed = False

    def add_bytes(self, count: int) -> None:
        """Counts bytes read."""
        self._bytes += count

    def add_rows(self, count: int) -> None:
        """Counts rows read and updates the display."""
        self._rows += count
        fraction = self._fraction()
        self._bar.total = round(self._rows / fraction) if fraction else None
        self._bar.update(count)
        if self._line_is_due():
            self.print_line(f"{self._rate()}, {fraction:.0%}")

    def close(self) -> None:
        """Closes the bar and prints the number of rows and their rate, once."""
        super().close()
        if not self._closed:
            self.print_line(self._rate())
        self._closed = True

    def _fraction(self) -> float:
        """Returns the fraction of the bytes that are read, at most 1: parts of some archives are read twice."""
        return min(self._bytes / self._size, 1.0) if self._size else 0.0

    def _rate(self) -> str:
        rate = self._rows / max(time.monotonic() - self._start, 1e-9)
        return f"{self._task}: {self._rows:,} rows, {rate:,.0f} rows/s"


class ImageProgress(ProgressDisplay):
    """Progress of a forward pass over images."""

    INTERVAL_S = 30.0

    def __init__(self, task: str, unit: str = "image"):
        super().__init__(desc=task, unit=unit)
        self._task, self._unit, self._done = task, unit, 0

    def update(self, count: int, total: int | None = None) -> None:
        """Counts the `count` images of a batch, of `total` in all (None if unknown)."""
        self._done += count
        self._bar.total = total
        self._bar.update(count)
        if self._line_is_due():
            of_all = "" if total is None else f" of {total:,}"
            self.print_line(f"{self._task}: {self._done:,}{of_all} {self._unit}s")


class TrainProgress(ProgressDisplay):
    """Progress of a training run."""

    INTERVAL_S = 60.0

    def __init__(self, total_steps: int, step: int, global_batch: int, epoch_steps: int):
        """Starts at step `step` of `total_steps`, with `epoch_steps` steps an epoch."""
        super().__init__(
            total=total_steps * global_batch,
            initial=step * global_batch,
            unit=" images",
            bar_format=TRAIN_BAR_FORMAT,
            dynamic_ncols=True,
        )
        self._global_batch, self._total_steps, self._epoch_steps = global_batch, total_steps, epoch_steps
        self._last_step = step  # at the last line

    def update(self, step: int, loss: float, accuracy: float, input_wait_share: float, note: str = "") -> None:
        """Shows step `step` and a note; loss, accuracy and share of time waiting are those of the epoch so far."""
        note = note and f", {note}"
        self._bar.set_description(f"epoch {self._epoch(step)} of {self._epoch(self._total_steps)}", refresh=False)
        self._bar.set_postfix_str(
            f"loss {loss:.3f}, accuracy {accuracy:.3f}, {input_wait_share:.1%} waiting{note}", refresh=False
        )
        self._bar.update(step * self._global_batch - self._bar.n)
        if self._line_is_due():
            rate = (step - self._last_step) * self._global_batch / (time.monotonic() - self._last_line)
            minutes = (self._total_steps - step) * self._global_batch / rate / 60
            self.print_line(
                f"step {step} of {self._total_steps}: loss {loss:.3f}, accuracy {accuracy:.3f}, "
                f"{rate:.0f} images/s, {input_wait_share:.1%} waiting for input, {minutes:.0f} min left{note}"
            )
            self._last_step = step

    def end_epoch(self, entry: dict[str, Any], best: bool) -> None:
        """Prints the metrics of an epoch: `entry` is its record in history.json."""
        self.print_line(
            f"epoch {entry['epoch']}: train loss {entry['train_loss']:.3f}, "
            f"validation loss {entry['validation_loss']:.3f}, accuracy {entry['validation_accuracy']:.4f}, "
            f"macro F1 {entry['validation_macro_f1']:.4f}, {entry['images_per_second']:.0f} images/s, "
            f"{entry['input_wait_share']:.1%} waiting for input" + (" (best so far)" if best else "")
        )
        self._last_step = entry["step"]

    def roll_back(self, step: int) -> None:
        """Continues from the earlier step `step`."""
        self._last_step = step
        self._bar.n = step * self._global_batch

    def _epoch(self, step: int) -> int:
        return -(-step // self._epoch_steps)
