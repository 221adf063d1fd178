"""Environments for other people's packages, each made once and kept in the user's cache folder.

What they need contradicts what we need, and the package named fer has our own name: so each lives in a virtual
environment of its own, which its programs run in.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence

LONGEST = 3600  # seconds that one step may take, downloads among them


class NotAvailable(Exception):  # noqa: N818  it is no error: others are measured all the same
    """A peer cannot be installed or run here. Its text says why, as the rest of a sentence."""


def cache_folder() -> str:
    """Where environments are kept: below XDG_CACHE_HOME, or ~/.cache."""
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "fer", "peers")


def python_of(packages: Sequence[str], requirements: Sequence[str], cache: str) -> str:
    """The Python of an environment that holds some packages, made if there is none yet.

    Args:
      packages: requirements with their versions, installed without what they ask for.
      requirements: what is needed of that, installed with what they ask for in turn; options of pip may be among them.
      cache: folder of the environments; they differ by these arguments and by Python's version.

    Raises:
      NotAvailable: pip cannot install them.
    """
    described = json.dumps([sys.version_info[:2], sorted(packages), sorted(requirements)])
    folder = os.path.join(cache, hashlib.sha256(described.encode()).hexdigest()[:16])
    if not os.path.exists(folder):
        os.makedirs(cache, exist_ok=True)
        beside = tempfile.mkdtemp(prefix="unfinished-", dir=cache)
        try:
            _make(beside, packages, requirements)
            if not os.path.exists(folder):  # another process may have been faster
                os.rename(beside, folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    return _python_in(folder)


def run(command: Sequence[str]) -> None:
    """Runs a command to its end, without what would make another Python take our modules for its own.

    Raises:
      NotAvailable: it cannot be started, fails or takes longer than an hour.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    try:
        subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=LONGEST)
    except subprocess.CalledProcessError as error:
        raise NotAvailable(_last_line(error.stderr) or f"exit code {error.returncode}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotAvailable(str(error)) from error


def _make(folder: str, packages: Sequence[str], requirements: Sequence[str]) -> None:
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    pip = [sys.executable, "-m", "pip", "--python", _python_in(folder), "install", "--no-input", "--retries=1"]
    run([*pip, "--no-deps", *packages])
    if requirements:
        run([*pip, *requirements])


def _python_in(folder: str) -> str:
    return str(pathlib.Path(folder, *(("Scripts", "python.exe") if os.name == "nt" else ("bin", "python"))))


def _last_line(text: str) -> str:
    """What pip or Python says last: the error, after any hints."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")]
    return (errors or lines or [""])[-1].rstrip(".")
