"""Folders that the processes of one test session share, because they are expensive to make."""

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
    """Returns a folder that `make` fills once in a session; the other pytest-xdist workers wait for it and read it.

    Args:
      tmp_path_factory: pytest's own fixture.
      name: of the folder, unique in the session.
      make: fills the folder that it is given, which does not exist yet.
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
