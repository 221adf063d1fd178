"""Paths that are not on the local disk. s3:// goes through TensorFlow I/O, which is loaded when such a path is named.

`fer.cli` makes every program ready for the paths in its flags; who calls the package otherwise does it with `ready`.
From then on `tf.io.gfile` and `tf.data` read and write s3:// as they do a local path, with these differences, which
are the store's or the client's (tensorflow_io 0.36):

- An object is whole or absent by itself: it appears when the file that writes it is closed. It is written anew as a
  whole by every flush.
- A folder is there when something is in it. `makedirs` makes none.
- `rename` copies and deletes one object after the other, so a folder is not renamed as one; it takes every path that
  begins like the one it is given ("a/step-1" also "a/step-10"), unless that ends with "/"; and it fails on an empty
  object. Nothing of ours renames in a store.
- A whole bucket is "s3://bucket/"; without the slash it is an error.
"""

from __future__ import annotations

import ctypes
import functools
import os
import re

from fer.errors import UserError


def is_remote(path: str) -> bool:
    """Whether a path is somewhere else than on the local disk."""
    return "://" in path


def ready(*texts: str) -> None:
    """Makes TensorFlow understand the paths in some texts (a path, several with commas between them, a configuration).

    Raises:
      UserError: there is an s3:// path, and the extra `s3` is not installed.
    """
    if any("s3://" in text for text in texts):
        _load_s3()


def check_within(path: str) -> None:
    """Refuses the path of a whole bucket.

    Raises:
      UserError: it is one.
    """
    if re.fullmatch(r"\w+://[^/]*/*", path):
        raise UserError(f"{path} is a whole bucket: name a place in it, as in {path.rstrip('/')}/fer2013.")


@functools.cache
def _load_s3() -> None:
    # Read by the client when it is first used. Downloads in parts cost a second request for each read, and a server
    # that does not answer would be waited for five minutes, ten times.
    os.environ.setdefault("S3_DISABLE_MULTI_PART_DOWNLOAD", "1")
    os.environ.setdefault("S3_CONNECT_TIMEOUT_MSEC", "5000")
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")  # as other clients name it
    if endpoint:
        os.environ.setdefault("S3_ENDPOINT", endpoint)
    try:
        import tensorflow_io  # noqa: F401 - registers s3:// with TensorFlow
    except ImportError as error:
        raise UserError(
            "s3:// paths need TensorFlow I/O: install the extra s3, as in pip install -e '.[s3]', on Python 3.9 to "
            "3.11 (there is none for the TensorFlow of later ones)."
        ) from error
    # Since 0.35 its client aborts a process that has done its work and is ending (tensorflow/io issue 1912). So the
    # process ends here, with its exit code, once Python itself is done, and before the destructors that do it.
    system = ctypes.CDLL(None)
    if hasattr(system, "on_exit"):  # the GNU C library's
        system.on_exit(system._exit, None)
