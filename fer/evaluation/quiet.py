"""Keeps what converters of networks print off the screen: dozens of lines that help nobody."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from absl import logging as absl_logging

from fer import quiet

LOGGERS = ("tf2onnx", "tf2onnx.tfonnx")


@contextlib.contextmanager
def converters() -> Iterator[None]:
    """Within it, nothing is written to the standard error, and no logger speaks below a warning."""
    verbosity = absl_logging.get_verbosity()
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    absl_logging.set_verbosity(absl_logging.WARNING)
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        with quiet.standard_error():
            yield
    finally:
        absl_logging.set_verbosity(verbosity)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
