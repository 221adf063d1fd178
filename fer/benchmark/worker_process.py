"""Trains with several worker processes on this machine, and measures the bytes that each sends per step.

A worker process runs this module as a program: it reads its task from the standard input and prints its result.
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
    """
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(workers)]
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    command = [sys.executable, "-m", "fer.benchmark.worker_process"]
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(workers)
    ]
    task = {"experiment": experiment.to_dict(), "workers": addresses, "steps": steps}
    for index, process in enumerate(started):
        assert process.stdin is not None
        process.stdin.write(json.dumps({**task, "index": index}))
        process.stdin.close()
        process.stdin = None  # for `communicate`
    results = [json.loads(process.communicate()[0].splitlines()[-1]) for process in started]
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
    serve(json.load(sys.stdin))
