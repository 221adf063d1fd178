"""Local paths for TensorFlow functions that treat paths as glob patterns.

`tf.train.Checkpoint.read`, `tf.train.load_checkpoint` and `tf.saved_model.load` search for files that match their path,
and find none below a folder whose name has "[", "*", "?" or a backslash (tensorflow issue 34290).
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

PATTERN = re.compile(r"[][*?\\]")  # characters of glob patterns


@contextlib.contextmanager
def literal(folder: str) -> Iterator[str]:
    """Yields a path of `folder` without pattern characters: its own, or a temporary symbolic link to it.

    Args:
      folder: of files, local or in a store. Paths in a store are yielded as they are.

    Raises:
      StorageError: every folder for temporary files has pattern characters in its path.
    """
    if is_remote(folder) or not PATTERN.search(folder):
        yield folder
        return
    with temp_files.folder("alias", within=_temporary_folder(folder)) as place:
        alias = os.path.join(place, "folder")
        os.symlink(os.path.abspath(folder), alias)
        yield alias


def _temporary_folder(wanted_for: str) -> str:
    """Returns a folder for temporary files without pattern characters in its path."""
    for folder in (tempfile.gettempdir(), "/tmp", "/var/tmp", os.path.expanduser("~")):
        path = os.path.realpath(folder)
        if not PATTERN.search(path) and os.path.isdir(path) and os.access(path, os.W_OK | os.X_OK):
            return path
    raise StorageError(
        f"TensorFlow cannot read {wanted_for}, whose name has characters of a pattern, without a folder for temporary "
        "files: set TMPDIR to one whose path has none of []*?\\."
    )
