"""Keeps what libraries write below Python, and help nobody with, off the screen."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence

from absl import logging as absl_logging

from fer import progress

# Keras imports these if it can, for functions that only scripts/benchmark.py calls: a seventh of TensorFlow's import.
HIDDEN_PACKAGES = ("pandas", "scipy")
CONVERTER_LOGGERS = ("tf2onnx", "tf2onnx.tfonnx")


def import_tensorflow(announce: bool = True, whole: bool = False) -> None:
    """Imports TensorFlow without its start-up lines, which help nobody.

    A program calls it once its flags are known to be good, before it imports what needs TensorFlow. From TensorFlow
    2.16 on, lines that come before it has read its log level go nowhere.

    Args:
      announce: prints a line where loading takes long.
      whole: lets Keras have `UNUSED`, which tf.keras.preprocessing.image needs.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    notice = progress.print_when_slow("Loading TensorFlow ...") if announce else contextlib.nullcontext()
    with notice, suppress_stderr(), _hide_packages(() if whole else HIDDEN_PACKAGES):
        import tensorflow  # noqa: F401
    logging.getLogger("tensorflow").setLevel(logging.ERROR)


@contextlib.contextmanager
def _hide_packages(packages: Sequence[str]) -> Iterator[None]:
    """Within it, importing one of the packages fails, unless it is imported already."""
    absent = [package for package in packages if package not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]  # None forbids an import
    try:
        yield
    finally:
        for package in absent:
            del sys.modules[package]


@contextlib.contextmanager
def suppress_stderr() -> Iterator[None]:
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


@contextlib.contextmanager
def suppress_converter_output() -> Iterator[None]:
    """Within it, nothing is written to the standard error, and no logger speaks below a warning."""
    verbosity = absl_logging.get_verbosity()
    levels = {name: logging.getLogger(name).level for name in CONVERTER_LOGGERS}
    absl_logging.set_verbosity(absl_logging.WARNING)
    for name in CONVERTER_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        with suppress_stderr():
            yield
    finally:
        absl_logging.set_verbosity(verbosity)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
