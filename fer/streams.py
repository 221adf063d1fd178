"""Standard output and standard error that no program can fail at.

Printing is not the work of a program. A stream that is closed, whose reader has gone or whose disk is full is from then
on silent, and the work goes on.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import sys
from typing import Any

from fer import escaping

OUTPUT, ERROR = 1, 2  # file descriptors
_READER_GONE = {errno.EPIPE, errno.ECONNRESET, errno.ESHUTDOWN, errno.EBADF}  # the reader has read enough, or never was

_errors: dict[int, OSError] = {}  # by file descriptor, what its stream could not write for


class _RawOutput(io.RawIOBase):
    """A file descriptor whose writing never fails: after an error it leads nowhere."""

    def __init__(self, descriptor: int):
        self._descriptor = descriptor

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, content: Any) -> int:
        while True:
            try:
                return os.write(self._descriptor, content)
            except BlockingIOError:  # a pipe that another process has set so
                with contextlib.suppress(OSError, ValueError):
                    select.select([], [self._descriptor], [], 1.0)
            except OSError as error:
                _errors.setdefault(self._descriptor, error)
                _redirect_to_null(self._descriptor)
                return len(content)


def install() -> None:
    """Replaces `sys.stdout` and `sys.stderr` by streams that cannot fail and that can write every text.

    Descriptors that are closed lead nowhere from now on, so that no file of the program gets their numbers. Streams
    that are not the process's own, such as those of a test, stay.
    """
    for descriptor in (0, OUTPUT, ERROR):
        try:
            os.fstat(descriptor)
        except OSError:
            _redirect_to_null(descriptor)
    for name, descriptor in (("stdout", OUTPUT), ("stderr", ERROR)):
        stream = getattr(sys, name)
        if stream is not None:
            try:
                if stream.fileno() != descriptor:
                    continue
                stream.flush()
            except (OSError, ValueError):  # io.UnsupportedOperation is both
                continue
        setattr(sys, name, _make_stream(stream, descriptor))


def stdout_error() -> OSError | None:
    """Returns why standard output is incomplete, or None; a reader that has gone is no failure."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
    error = _errors.get(OUTPUT)
    return None if error is None or error.errno in _READER_GONE else error


class _EscapedText(io.TextIOWrapper):
    """A stream that nothing printed can use to move a terminal's cursor or the like: names come from anywhere."""

    def write(self, text: str) -> int:
        super().write(escaping.escape_lines(text))
        return len(text)


def _make_stream(old: io.TextIOWrapper | None, descriptor: int) -> io.TextIOWrapper:
    return _EscapedText(
        io.BufferedWriter(_RawOutput(descriptor)),
        encoding=getattr(old, "encoding", None) or "utf-8",
        errors="backslashreplace",
        line_buffering=descriptor == ERROR or bool(getattr(old, "line_buffering", False)),
        write_through=bool(getattr(old, "write_through", False)),
    )


def _redirect_to_null(descriptor: int) -> None:
    """Makes a file descriptor lead nowhere."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere != descriptor:
        os.dup2(nowhere, descriptor)
        os.close(nowhere)
