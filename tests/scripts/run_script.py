"""Programs, run one after the other in processes that have TensorFlow loaded already.

Loading it is most of what a short run costs. A server process loads it once and forks for each run (it has used
nothing of it by then, so that a fork is sound); the program itself is loaded and run anew each time, with its own
arguments, folder, output and exit code. That it runs as a user starts it, each program's tests show once.
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
LONGEST = 120  # seconds
KINDS = ("stdout", "stderr")

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    ["fer.cli", "fer.compare.comparison", "fer.predict.predict", "fer.train.trainer", "fer.train.augmentation_preview"]
)


class Started:
    """A program under way, with what `subprocess.Popen` offers of it."""

    def __init__(self, name: str, folder: pathlib.Path, arguments: tuple[str, ...], environment: dict[str, str]):
        self.args = [name, *arguments]
        self._outputs = tempfile.TemporaryDirectory()
        given = (str(ROOT / "scripts" / name), str(folder), arguments, self._outputs.name, environment)
        self._process = _SERVER.Process(target=_run, args=given)
        self._process.start()

    @property
    def returncode(self) -> int | None:
        """The exit code; the negative number of the signal that ended it; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self._process.pid, number)

    def kill(self) -> None:
        self._process.kill()

    def said(self) -> tuple[str, str]:
        """Standard output and standard error so far."""
        files = [pathlib.Path(self._outputs.name, kind) for kind in KINDS]
        return tuple(file.read_text() if file.exists() else "" for file in files)

    def communicate(self, timeout: float = LONGEST) -> tuple[str, str]:
        """Returns standard output and standard error once it has ended, which it must in `timeout` seconds."""
        self._process.join(timeout)
        if self.returncode is None:
            self.kill()
            raise TimeoutError(f"{self.args} took longer than {timeout} s: {self.said()}")
        return self.said()


def start(name: str, folder: pathlib.Path, *arguments: str, environment: dict[str, str] | None = None) -> Started:
    """Starts scripts/<name> in a folder, with these variables besides its own. Wait for its end, or kill it."""
    return Started(name, folder, arguments, environment or {})


def run(name: str, folder: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess:
    """Runs scripts/<name> in a folder."""
    process = start(name, folder, *arguments)
    said, complaint = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, said, complaint)


def make(folder: pathlib.Path, name: str, *arguments: str) -> None:
    """Runs scripts/<name> with --workdir=<folder>, which must succeed without a complaint; see `printed`."""
    done = run(name, folder.parent, f"--workdir={folder}", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    folder.with_suffix(".out").write_text(done.stdout)


def printed(folder: pathlib.Path) -> str:
    """Returns what the program printed that `make` ran for this folder."""
    return folder.with_suffix(".out").read_text()


def execute(code: str) -> int:
    """Executes Python code in a process of the server, where our programs' modules are imported and no others.

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
    progress.SLOW_AFTER_S = LONGEST  # no line that only a busy machine prints
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by what a script starts in the background
    os.chdir(folder)
    sys.argv = [path, *arguments]
    runpy.run_path(path, run_name="__main__")
