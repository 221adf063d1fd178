"""Starts the real scripts/train.py as several worker processes."""

from __future__ import annotations

import os
import pathlib
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

from fer.config import Experiment
from fer.train import checkpoints
from tests.scripts import run_script

ROOT = run_script.ROOT
QUICK = str(ROOT / "tests" / "train" / "quick_train.py")
LIMIT = 300.0  # seconds until a program must have ended, on a busy machine too
Process = subprocess.Popen | run_script.Started


def find_free_ports(count: int) -> list[int]:
    """Returns free ports of 127.0.0.1."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def find_free_port_pair() -> int:
    """Returns the first of two consecutive free ports."""
    while True:
        (port,) = find_free_ports(1)
        try:
            socket.create_server(("127.0.0.1", port + 1)).close()
        except OSError:
            continue
        return port


def write_config(folder: pathlib.Path, experiment: Experiment) -> pathlib.Path:
    """Writes an experiment as a file for --config."""
    path = folder / "config.py"
    path.write_text(
        f"from fer.config import from_dict\n\n\ndef get_config():\n    return from_dict({experiment.to_dict()})\n"
    )
    return path


def start_worker(
    arguments: Sequence[str],
    environment: dict[str, str],
    before: Sequence[str] = (),
) -> subprocess.Popen:
    """Starts one worker: scripts/train.py.

    Args:
      arguments: its flags.
      environment: variables added to those of this process.
      before: words of a command that runs the program, e.g. `ip netns exec NAME`.
    """
    command = [*before, sys.executable, str(ROOT / "scripts" / "train.py"), *arguments]
    return subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def start_two_workers(
    config: pathlib.Path,
    data: str,
    workdir: pathlib.Path,
    folders: Sequence[pathlib.Path] = (ROOT, ROOT),
    path: str = QUICK,
    more_flags: Sequence[str] = (),
) -> list[run_script.Started]:
    """Starts two workers on this machine with --workers.

    Args:
      config: file for --config.
      data: folder of the shards.
      workdir: run directory.
      folders: working directory of each worker.
      path: path of the program.
      more_flags: further flags of both workers.
    """
    workers = ",".join(f"127.0.0.1:{port}" for port in find_free_ports(2))
    flags = [f"--config={config}", f"--data={data}", f"--workdir={workdir}", f"--workers={workers}", *more_flags]
    return [run_script.start(path, folders[index], *flags, f"--worker_index={index}") for index in (0, 1)]


def wait_for_step(processes: Sequence[Process], workdir: pathlib.Path, step: int, seconds: float) -> None:
    """Waits until the run has a checkpoint of `step` or a later one; fails if a process ends before."""
    end = time.monotonic() + seconds
    while not any(each >= step for each in checkpoints.list_steps(str(workdir / "checkpoints"))):
        ended = [process for process in processes if process.poll() is not None]
        assert not ended, [process.communicate() for process in ended]
        assert time.monotonic() < end, f"no checkpoint of step {step} after {seconds} s"
        time.sleep(0.01)


def wait_for_exit(processes: Sequence[Process], seconds: float) -> list[tuple[int, str, str]]:
    """Returns exit code, standard output and standard error of each process; fails after `seconds` for one of them."""
    results = []
    for process in processes:
        try:
            output, errors = process.communicate(timeout=seconds)
        finally:
            process.kill()
        results.append((process.returncode, output, errors))
    return results
