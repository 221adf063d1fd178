"""Standard output and standard error whose failure does not stop a program.

A stream that is closed, whose reader has exited or whose disk is full discards all later output, and the program
continues.
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
_READER_GONE = {errno.EPIPE, errno.ECONNRESET, errno.ESHUTDOWN, errno.EBADF}  # the reader has exited, or never existed

_errors: dict[int, OSError] = {}  # file descriptor -> first error of its stream


class _RawOutput(io.RawIOBase):
    """File descriptor whose writes never fail: after an error, output is discarded."""

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
            except BlockingIOError:  # a pipe that another process made non-blocking
                with contextlib.suppress(OSError, ValueError):
                    select.select([], [self._descriptor], [], 1.0)
            except OSError as error:
                _errors.setdefault(self._descriptor, error.with_traceback(None))  # frames hold compiled functions
                _redirect_to_null(self._descriptor)
                return len(content)


def install() -> None:
    """Replaces `sys.stdout` and `sys.stderr` by streams that cannot fail and can write every text.

    Closed descriptors are redirected to the null device, so that no file of the program gets their numbers. Streams
    that are not the process's own, such as those of a test, are not replaced.
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
    """Returns the error that made standard output incomplete, or None; an exited reader is no error."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
    error = _errors.get(OUTPUT)
    return None if error is None or error.errno in _READER_GONE else error


def stdout_is_closed() -> bool:
    """Returns whether the reader of standard output has exited, so that all further output is discarded."""
    error = _errors.get(OUTPUT)
    return error is not None and error.errno in _READER_GONE


class _EscapedText(io.TextIOWrapper):
    """Text stream that escapes control characters, since printed names may come from untrusted files."""

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
    """Redirects a file descriptor to the null device."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere != descriptor:
        os.dup2(nowhere, descriptor)
        os.close(nowhere)
