"""Keeps what libraries write below Python, and help nobody with, off the screen."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def standard_error() -> Iterator[None]:
    """Within it, nothing reaches the standard error. Exceptions pass as they are, so that no error is lost."""
    if sys.stderr:
        sys.stderr.flush()
    try:
        errors = os.dup(2)
    except OSError:  # it is closed, as by 2>&-
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(errors, 2)
        os.close(errors)
        os.close(nowhere)
