"""Starts the real scripts/train.py as several workers, as a user or a batch system would."""

from __future__ import annotations

import os
import pathlib
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Union

from fer.config import Experiment
from fer.train import checkpoints
from tests.scripts import run_script

ROOT = run_script.ROOT
QUICK = str(ROOT / "tests" / "train" / "quick_train.py")
LIMIT = 300.0  # seconds in which programs start and train, on however busy a machine
Process = Union[subprocess.Popen, run_script.Started]


def free_ports(count: int) -> list[int]:
    """Ports that nothing on this machine listens at."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def free_neighbours() -> int:
    """The first of two ports that follow each other, and that nothing listens at."""
    while True:
        (port,) = free_ports(1)
        try:
            socket.create_server(("127.0.0.1", port + 1)).close()
        except OSError:
            continue
        return port


def config_file(folder: pathlib.Path, experiment: Experiment) -> pathlib.Path:
    """A file for --config."""
    path = folder / "config.py"
    path.write_text(
        f"from fer.config import from_dict\n\n\ndef get_config():\n    return from_dict({experiment.to_dict()})\n"
    )
    return path


def start(
    arguments: Sequence[str],
    environment: dict[str, str],
    before: Sequence[str] = (),
) -> subprocess.Popen:
    """One worker: scripts/train.py with these flags, these variables besides our own, behind another command."""
    command = [*before, sys.executable, str(ROOT / "scripts" / "train.py"), *arguments]
    return subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def start_two(
    config: pathlib.Path,
    data: str,
    workdir: pathlib.Path,
    folders: Sequence[pathlib.Path] = (ROOT, ROOT),
    path: str = QUICK,
) -> list[run_script.Started]:
    """Two workers on this machine, named by flags, each started in its folder; `path` is of the program."""
    workers = ",".join(f"127.0.0.1:{port}" for port in free_ports(2))
    flags = [f"--config={config}", f"--data={data}", f"--workdir={workdir}", f"--workers={workers}"]
    return [run_script.start(path, folders[index], *flags, f"--worker_index={index}") for index in (0, 1)]


def wait_for_step(processes: Sequence[Process], workdir: pathlib.Path, step: int, seconds: float) -> None:
    """Returns once the run has a checkpoint of `step` or a later one."""
    end = time.monotonic() + seconds
    while not any(found >= step for found in checkpoints.list_steps(str(workdir / "checkpoints"))):
        ended = [process for process in processes if process.poll() is not None]
        assert not ended, [process.communicate() for process in ended]
        assert time.monotonic() < end, f"no checkpoint of step {step} after {seconds} s"
        time.sleep(0.01)


def outcomes(processes: Sequence[Process], seconds: float) -> list[tuple[int, str, str]]:
    """Exit code, standard output and standard error of each, which must end in time."""
    found = []
    for process in processes:
        try:
            output, errors = process.communicate(timeout=seconds)
        finally:
            process.kill()
        found.append((process.returncode, output, errors))
    return found
