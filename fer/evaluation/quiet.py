"""Keeps what libraries print below Python off the screen: converters have dozens of lines that help nobody."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator

from absl import logging as absl_logging

LOGGERS = ("tf2onnx", "tf2onnx.tfonnx")


@contextlib.contextmanager
def native_output() -> Iterator[None]:
    """Within it, nothing is written to the standard error, and no logger speaks below a warning.

    Exceptions pass as they are, so that no error is lost.
    """
    verbosity = absl_logging.get_verbosity()
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    absl_logging.set_verbosity(absl_logging.WARNING)
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        absl_logging.set_verbosity(verbosity)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
