"""Paths that are not on the local disk: s3:// through TensorFlow I/O, which is loaded when the first one is named."""

from __future__ import annotations

import ctypes
import functools

from fer.errors import UserError


def is_remote(path: str) -> bool:
    """Whether a path is somewhere else than on the local disk."""
    return "://" in path


def ready(path: str) -> None:
    """Makes `tf.io.gfile` understand a path, if it can.

    Raises:
      UserError: it begins with s3://, and the extra `s3` is not installed.
    """
    if path.startswith("s3://"):
        _load_s3()


@functools.cache
def _load_s3() -> None:
    try:
        import tensorflow_io  # noqa: F401 - registers s3:// with TensorFlow
    except ImportError as error:
        raise UserError(
            "s3:// paths need TensorFlow I/O: install the extra s3, as in pip install -e '.[s3]'."
        ) from error
    # Since 0.35 its client aborts a process that has done its work and is ending (tensorflow/io issue 1912). So the
    # process ends here, with its exit code, once Python itself is done, and before the destructors that do it.
    system = ctypes.CDLL(None)
    if hasattr(system, "on_exit"):  # the GNU C library's
        system.on_exit(system._exit, None)
