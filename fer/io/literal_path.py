"""Local paths for the functions of TensorFlow that take a path as a glob pattern.

`tf.train.Checkpoint.read`, `tf.train.load_checkpoint` and `tf.saved_model.load` look for files that match the path that
they are given, so they find none below a folder whose name has "[", "*", "?" or a backslash (tensorflow issue 34290).
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator

from fer.errors import StorageError
from fer.io import temp_files
from fer.storage import is_remote

PATTERN = re.compile(r"[][*?\\]")  # characters that TensorFlow or a file system takes as a part of a pattern


@contextlib.contextmanager
def literal(folder: str) -> Iterator[str]:
    """Yields a path of `folder` that is no pattern: its own, or the path of a temporary symbolic link to it.

    Args:
      folder: of files, local or in a store. Paths in a store are yielded as they are.

    Raises:
      StorageError: no folder for temporary files has a name that is no pattern.
    """
    if is_remote(folder) or not PATTERN.search(folder):
        yield folder
        return
    with temp_files.folder("alias", within=_temporary_folder(folder)) as place:
        alias = os.path.join(place, "folder")
        os.symlink(os.path.abspath(folder), alias)
        yield alias


def _temporary_folder(wanted_for: str) -> str:
    """Returns a folder for temporary files whose own path is no pattern."""
    for folder in (tempfile.gettempdir(), "/tmp", "/var/tmp", os.path.expanduser("~")):
        path = os.path.realpath(folder)
        if not PATTERN.search(path) and os.path.isdir(path) and os.access(path, os.W_OK | os.X_OK):
            return path
    raise StorageError(
        f"TensorFlow cannot read {wanted_for}, whose name has characters of a pattern, without a folder for temporary "
        "files: set TMPDIR to one whose path has none of []*?\\."
    )
