"""Virtual environments for the packages of baselines, created once in the user's cache folder.

Their requirements conflict with ours, and the package fer has the name of ours. Each set of packages therefore has an
environment of its own, whose Python runs the baseline.
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

TIMEOUT_S = 3600  # of one step, such as an installation with its downloads


class BaselineUnavailable(Exception):  # noqa: N818  not an error: the other baselines are measured
    """A baseline cannot be installed or run here. The message is the reason."""


def cache_folder() -> str:
    """Returns the folder of the environments, in XDG_CACHE_HOME or ~/.cache."""
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "fer", "baselines")


def prepare_environment(packages: Sequence[str], requirements: Sequence[str], cache: str) -> str:
    """Returns the path of Python in an environment with some packages; creates the environment if it does not exist.

    Args:
      packages: pinned requirements, installed without their dependencies.
      requirements: dependencies to install, with their own dependencies; may include options of pip.
      cache: folder of the environments. These arguments and the version of Python identify an environment.

    Raises:
      BaselineUnavailable: pip cannot install them.
    """
    described = json.dumps([sys.version_info[:2], sorted(packages), sorted(requirements)])
    folder = os.path.join(cache, hashlib.sha256(described.encode()).hexdigest()[:16])
    if not os.path.exists(folder):
        os.makedirs(cache, exist_ok=True)
        temporary = tempfile.mkdtemp(prefix="unfinished-", dir=cache)
        try:
            _create(temporary, packages, requirements)
            if not os.path.exists(folder):  # another process may have created it
                os.rename(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return _python_in(folder)


def run(command: Sequence[str]) -> None:
    """Runs a command without the variables PYTHON*, which would make another Python import our modules.

    Raises:
      BaselineUnavailable: it cannot be started, fails or takes longer than an hour.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    try:
        subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.CalledProcessError as error:
        raise BaselineUnavailable(_last_line(error.stderr) or f"exit code {error.returncode}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BaselineUnavailable(str(error)) from error


def _create(folder: str, packages: Sequence[str], requirements: Sequence[str]) -> None:
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    pip = [sys.executable, "-m", "pip", "--python", _python_in(folder), "install", "--no-input", "--retries=1"]
    run([*pip, "--no-deps", *packages])
    if requirements:
        run([*pip, *requirements])


def _python_in(folder: str) -> str:
    return str(pathlib.Path(folder, *(("Scripts", "python.exe") if os.name == "nt" else ("bin", "python"))))


def _last_line(text: str) -> str:
    """Returns the last error line of the output of pip or Python, or else the last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")]
    return (errors or lines or [""])[-1].rstrip(".")
