"""Trains with several worker processes on this machine, and measures the bytes that each sends per step.

A worker process runs this module as a program: its argument is its task, as JSON, and it prints its result.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import subprocess
import sys

from fer.benchmark.train import build_training, draw_faces
from fer.config import Experiment, from_dict
from fer.errors import UserError
from fer.models import precision
from fer.train.distributed import multi_worker
from fer.train.distributed.cluster_resolver import Cluster
from fer.train.distributed.strategy import make_strategy

FACES = 1000
BYTES_SENT = 200  # offset of tcpi_bytes_sent in Linux' struct tcp_info


def measure_sent_bytes(experiment: Experiment, workers: int, steps: int) -> tuple[list[float], int]:
    """Trains `steps` steps with `workers` processes.

    Args:
      experiment: to train, at its global batch size.
      workers: the number of processes, each with one replica.
      steps: training steps to measure, after one that compiles.

    Returns:
      The bytes that each process sends per step, and the number of float32 values that a step all-reduces: the
      gradients and the statistics of BatchNormalization.

    Raises:
      UserError: a process failed.
    """
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(workers)]
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for connection in sockets:
        connection.close()
    task = {"experiment": experiment.to_dict(), "workers": addresses, "steps": steps}
    command = [sys.executable, "-m", "fer.benchmark.worker_process"]
    tasks = [json.dumps({**task, "index": index}) for index in range(workers)]
    started = [subprocess.Popen([*command, each], stdout=subprocess.PIPE, text=True) for each in tasks]
    try:
        printed = [process.communicate()[0] for process in started]
    finally:
        for process in started:
            process.kill()
    for index, process in enumerate(started):
        if process.returncode:
            raise UserError(
                f"Worker process {index} of {workers} ended with exit code {process.returncode}: see its message above."
            )
    results = [json.loads(text.splitlines()[-1]) for text in printed]
    return [result["bytes"] for result in results], results[0]["values"]


def serve(task: dict) -> None:
    """Trains as one worker and prints its result as a line of JSON."""
    experiment = from_dict(task["experiment"])
    strategy = make_strategy("multi_worker", experiment.train, Cluster(tuple(task["workers"]), task["index"]))
    experiment = precision.resolve_precision(experiment)
    faces = draw_faces(max(FACES, experiment.train.global_batch_size))
    take_step, feed, state = build_training(strategy, experiment, faces)
    float(take_step(next(feed)).loss)  # compiles, and waits for the others
    multi_worker.report_started(strategy)
    before = read_sent_bytes()
    for _ in range(task["steps"]):
        float(take_step(next(feed)).loss)
    sent = (read_sent_bytes() - before) / task["steps"]
    print(json.dumps({"bytes": sent, "values": state.model.count_params()}), flush=True)


def read_sent_bytes() -> int:
    """Returns the bytes that this process has sent over its open TCP connections."""
    total = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # closed since
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                total += _sent_bytes(int(name))
    return total


def _sent_bytes(descriptor: int) -> int:
    """Returns the bytes sent over a socket, 0 if it is not of TCP."""
    with socket.socket(fileno=os.dup(descriptor)) as each:
        if each.family not in (socket.AF_INET, socket.AF_INET6) or each.type != socket.SOCK_STREAM:
            return 0
        information = each.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, BYTES_SENT + 8)
        return struct.unpack_from("Q", information, BYTES_SENT)[0]


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]))
