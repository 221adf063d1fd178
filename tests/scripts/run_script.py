"""Runs the scripts in processes that have TensorFlow imported already.

The import takes most of the time of a short run. A server process imports TensorFlow once and forks for each run; it
executes nothing of TensorFlow before, so that the fork is safe. Each run executes the script anew, with its own
arguments, directory, output and exit code. One test per script starts it as a user does.
"""

from __future__ import annotations

import multiprocessing
import os
import pathlib
import runpy
import signal
import subprocess
import sys
import tempfile

from fer import progress

ROOT = pathlib.Path(__file__).resolve().parents[2]
LONGEST = 120  # maximum duration of a run in seconds
KINDS = ("stdout", "stderr")

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    ["fer.cli", "fer.compare.comparison", "fer.predict.predict", "fer.train.trainer", "fer.train.augmentation_preview"]
)


class Started:
    """A running script, with a part of the interface of `subprocess.Popen`."""

    def __init__(self, name: str, folder: pathlib.Path, arguments: tuple[str, ...], environment: dict[str, str]):
        self.args = [name, *arguments]
        self._outputs = tempfile.TemporaryDirectory()
        task = (str(ROOT / "scripts" / name), str(folder), arguments, self._outputs.name, environment)
        self._process = _SERVER.Process(target=_run, args=task)
        self._process.start()

    @property
    def returncode(self) -> int | None:
        """The exit code, or minus the number of the signal that ended the script; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Returns `returncode`."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Sends a signal if the script is running."""
        if self.poll() is None:
            os.kill(self._process.pid, number)

    def kill(self) -> None:
        """Kills the script."""
        self._process.kill()

    def output(self) -> tuple[str, str]:
        """Returns standard output and standard error so far."""
        files = [pathlib.Path(self._outputs.name, kind) for kind in KINDS]
        return tuple(file.read_text() if file.exists() else "" for file in files)

    def communicate(self, timeout: float = LONGEST) -> tuple[str, str]:
        """Waits for the end and returns standard output and standard error.

        Raises:
          TimeoutError: the script runs for longer than `timeout` seconds; it is killed.
        """
        self._process.join(timeout)
        if self.returncode is None:
            self.kill()
            raise TimeoutError(f"{self.args} took longer than {timeout} s: {self.output()}")
        return self.output()


def start(name: str, folder: pathlib.Path, *arguments: str, environment: dict[str, str] | None = None) -> Started:
    """Starts scripts/<name> in a folder with additional environment variables. The caller waits for it or kills it."""
    return Started(name, folder, arguments, environment or {})


def run(name: str, folder: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess:
    """Runs scripts/<name> in a folder to its end."""
    process = start(name, folder, *arguments)
    output, errors = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def make(folder: pathlib.Path, name: str, *arguments: str) -> None:
    """Runs scripts/<name> with --workdir=<folder> and asserts success with an empty standard error; see `printed`."""
    done = run(name, folder.parent, f"--workdir={folder}", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    folder.with_suffix(".out").write_text(done.stdout)


def printed(folder: pathlib.Path) -> str:
    """Returns the standard output of the script that `make` ran for this folder."""
    return folder.with_suffix(".out").read_text()


def execute(code: str) -> int:
    """Executes Python code in a process of the server, which has only the modules of the scripts imported.

    Returns:
      The exit code.
    """
    process = _SERVER.Process(target=exec, args=(code,))
    process.start()
    process.join(LONGEST)
    process.kill()
    return process.exitcode


def _run(path: str, folder: str, arguments: tuple[str, ...], outputs: str, environment: dict[str, str]) -> None:
    for number, kind in enumerate(KINDS, 1):
        os.dup2(os.open(os.path.join(outputs, kind), os.O_WRONLY | os.O_CREAT), number)
    os.environ.update(environment)
    progress.SLOW_AFTER_S = progress.STAGE_INTERVAL_S = LONGEST  # no lines that only a slow machine prints
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell script ignores it in background processes
    os.chdir(folder)
    sys.argv = [path, *arguments]
    runpy.run_path(path, run_name="__main__")
