"""Folders that are expensive to create and shared by the processes of a test session."""

from __future__ import annotations

import fcntl
import os
import pathlib
import shutil
from collections.abc import Callable

import pytest


def shared_folder(
    tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[pathlib.Path], object]
) -> pathlib.Path:
    """Returns a folder that `make` fills once in a session. Other pytest-xdist workers wait for it and then read it.

    Args:
      tmp_path_factory: the fixture of pytest.
      name: unique name of the folder in the session.
      make: creates and fills the folder.
    """
    base = tmp_path_factory.getbasetemp()
    session = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, done = session / f"shared-{name}", session / f"shared-{name}.done"
    with open(session / f"shared-{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            done.touch()
    return folder
