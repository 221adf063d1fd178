"""Suppression of messages that libraries write to the standard error from native code."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import platform
import sys
from collections.abc import Iterator, Sequence

from absl import logging as absl_logging

from fer import progress

# Optional imports of Keras, needed only by scripts/benchmark.py: a seventh of TensorFlow's import time.
HIDDEN_PACKAGES = ("pandas", "scipy")
CONVERTER_LOGGERS = ("tf2onnx", "tf2onnx.tfonnx")


def enable_onednn() -> None:
    """Makes TensorFlow compute with oneDNN on all x86-64 processors, unless it is loaded or the user has decided.

    By default, TensorFlow does so only where the processor has instructions for neural networks, such as AVX512_VNNI.
    With AVX2 code, training with oneDNN and `fer.models.avx2_layers` is 1.7 to 2.7 times as fast as without
    (docs/results/benchmark/avx2.md).
    """
    if "tensorflow" not in sys.modules and platform.machine() == "x86_64":  # not measured on others
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def import_tensorflow(announce: bool = True, whole: bool = False) -> None:
    """Imports TensorFlow without its start-up messages, after `enable_onednn`.

    Programs call this after they have checked their flags and before they import modules that need TensorFlow. The
    standard error is suppressed meanwhile, because TensorFlow 2.16 and later log before they read the log level.

    Args:
      announce: prints a line if loading takes long.
      whole: lets Keras import `HIDDEN_PACKAGES`, which tf.keras.preprocessing.image needs.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    enable_onednn()
    notice = progress.print_when_slow("Loading TensorFlow ...") if announce else contextlib.nullcontext()
    with notice, suppress_stderr(), _hide_packages(() if whole else HIDDEN_PACKAGES), _skip_garbage_collection():
        import tensorflow  # noqa: F401
    logging.getLogger("tensorflow").setLevel(logging.ERROR)


@contextlib.contextmanager
def _skip_garbage_collection() -> Iterator[None]:
    """Searches no cyclic garbage within the context, and none of its objects later: a tenth of an import's time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()


@contextlib.contextmanager
def _hide_packages(packages: Sequence[str]) -> Iterator[None]:
    """Makes imports of the packages fail within the context, unless they are already imported."""
    absent = [package for package in packages if package not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]  # None forbids an import
    try:
        yield
    finally:
        for package in absent:
            del sys.modules[package]


@contextlib.contextmanager
def suppress_stderr() -> Iterator[None]:
    """Discards all writes to the standard error within the context. Exceptions pass unchanged."""
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
    """Discards the standard error and all log messages below a warning within the context."""
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
