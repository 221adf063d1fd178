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
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
LONGEST = 120  # seconds

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    ["fer.cli", "fer.evaluation.comparison", "fer.evaluation.predict", "fer.train.loop", "fer.train.preview"]
)


def run(name: str, folder: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess:
    """Runs scripts/<name> in a folder."""
    with tempfile.TemporaryDirectory() as outputs:
        process = _SERVER.Process(target=_run, args=(str(ROOT / "scripts" / name), str(folder), arguments, outputs))
        process.start()
        process.join(LONGEST)
        if process.exitcode is None:
            process.kill()
            raise TimeoutError(f"{name} {arguments} took longer than {LONGEST} s")
        said, complaint = (pathlib.Path(outputs, kind).read_text() for kind in ("stdout", "stderr"))
    return subprocess.CompletedProcess([name, *arguments], process.exitcode, said, complaint)


def _run(path: str, folder: str, arguments: tuple[str, ...], outputs: str) -> None:
    for number, kind in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(os.path.join(outputs, kind), os.O_WRONLY | os.O_CREAT), number)
    os.chdir(folder)
    sys.argv = [path, *arguments]
    runpy.run_path(path, run_name="__main__")
