"""Discovery of the workers of a run from flags, TF_CONFIG, SageMaker or Slurm.

This module needs no TensorFlow, so that a wrong setting is reported within a second. TensorFlow's own resolvers
(`tf.distribute.cluster_resolver`, 2.15 to 2.21) take three seconds to import, raise ValueError or TypeError without the
name of the variable, and differ as follows:

| resolver | environment | result |
|---|---|---|
| `SlurmClusterResolver` | no GPU (issue 56894), or no nvidia-smi | raises |
| | n[9-10] or b,a: hosts that are not sorted by name | sorts them: tasks listen at addresses of others |
| | node[1-2]-ib, rack[1-2]node[1-2] | raises |
| | more tasks on a node than GPUs | raises |
| | more nodes than in tasks per node, a task index beyond the last | accepts both |
| | --distribution=cyclic | accepts it: tasks listen at addresses of others |
| | CUDA_VISIBLE_DEVICES, as set by Slurm | replaces it |
| `TFConfigClusterResolver` | a list, no task, an index beyond the last, a worker without port or twice | accepts it |
| | the task types ps and evaluator | accepts them |
| SageMaker's (not public) | SM_HOSTS unset, hosts in resourceconfig.json only | raises AssertionError |

The strategy gets the result through TensorFlow's `SimpleClusterResolver`.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import re
from collections.abc import Mapping

from fer.errors import UserError

DEFAULT_PORT = 8470  # of a worker's gRPC server, where the environment names hosts without ports
SAGEMAKER_CONFIG = "/opt/ml/input/config/resourceconfig.json"  # SageMaker's own file, in every training container


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The workers of a run, in the same order on each, and the index of this process."""

    workers: tuple[str, ...]  # host:port
    index: int

    @property
    def chief(self) -> bool:
        """True for the first worker, which writes the run directory."""
        return self.index == 0

    @property
    def name(self) -> str:
        """Name of this worker for messages."""
        return f"worker {self.index} of {len(self.workers)} ({self.workers[self.index]})"


def find_cluster(
    environment: Mapping[str, str],
    workers: str | None = None,
    worker_index: int | None = None,
    port: int = DEFAULT_PORT,
    resource_config: str = SAGEMAKER_CONFIG,
) -> Cluster | None:
    """Returns the cluster that this process belongs to, or None if nothing names one.

    Flags come first, then TF_CONFIG, SageMaker (SM_HOSTS and SM_CURRENT_HOST, or its file) and the step of a Slurm job.

    Args:
      environment: environment variables.
      workers: "host:port,host:port", the same for every worker.
      worker_index: index of this process among the workers, from 0.
      port: of hosts that are named without a port. The tasks of one Slurm node use this port and the following ones.
      resource_config: SageMaker's file.

    Raises:
      UserError: a value is missing, invalid, or contradicts another; the message names it.
    """
    if workers is not None or worker_index is not None:
        return from_flags(workers, worker_index)
    if environment.get("TF_CONFIG"):
        return from_tf_config(environment["TF_CONFIG"])
    if "SM_HOSTS" in environment or os.path.exists(resource_config):
        return from_sagemaker(environment, port, resource_config)
    if "SLURM_STEP_NODELIST" in environment:  # only srun sets it: the batch script itself is no worker
        return from_slurm(environment, port)
    return None


def from_flags(workers: str | None, worker_index: int | None) -> Cluster:
    """Reads the cluster from `--workers=host:port,...` and `--worker_index=N`."""
    if workers is None or worker_index is None:
        missing, given = ("workers", "worker_index") if workers is None else ("worker_index", "workers")
        raise UserError(f"--{given} needs --{missing} too: --workers=host:port,host:port --worker_index=0.")
    return _make_cluster([part.strip() for part in workers.split(",")], worker_index, "--workers", "--worker_index")


def from_tf_config(text: str) -> Cluster | None:
    """Reads the cluster from TF_CONFIG in TensorFlow's format, a "chief" before the workers; None if it is empty."""
    try:
        config = json.loads(text)
        jobs, task = config.get("cluster") or {}, config.get("task") or {}
        unknown = sorted(set(jobs) - {"chief", "worker"} | {task.get("type", "worker")} - {"chief", "worker"})
        if unknown:
            raise UserError(f"TF_CONFIG names the job {unknown[0]!r}; only worker and chief are supported.")
        chiefs, workers = list(jobs.get("chief", [])), list(jobs.get("worker", []))
        if not chiefs + workers:
            return None
        kind, index = task["type"], int(task["index"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            'TF_CONFIG is not of the form {"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", '
            f'"index": 0}}}}: {text[:200]!r}.'
        ) from error
    own, first = (workers, len(chiefs)) if kind == "worker" else (chiefs, 0)
    if not 0 <= index < len(own):  # with the other list, it would be the index of another task
        raise UserError(
            f"TF_CONFIG is wrong: its task's index is {index}, but it names {len(own)} {kind}s, which count from 0."
        )
    return _make_cluster(chiefs + workers, first + index, "TF_CONFIG", "its task's index")


def from_sagemaker(environment: Mapping[str, str], port: int, resource_config: str) -> Cluster:
    """Reads the cluster from SageMaker's list of hosts, one worker per host."""
    try:
        if "SM_HOSTS" in environment:
            hosts, here = json.loads(environment["SM_HOSTS"]), environment["SM_CURRENT_HOST"]
        else:
            with open(resource_config, encoding="utf-8") as file:
                config = json.load(file)
            hosts, here = config["hosts"], config["current_host"]
        hosts = sorted(hosts)  # in the same order on every host
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UserError(
            'SageMaker\'s environment names no hosts: set SM_HOSTS to a list, as in ["algo-1", "algo-2"], and '
            f"SM_CURRENT_HOST, or provide hosts and current_host in {resource_config}."
        ) from error
    if here not in hosts:
        raise UserError(f"SageMaker's hosts are {', '.join(hosts)}; the current host, {here!r}, is not among them.")
    return _make_cluster([f"{host}:{port}" for host in hosts], hosts.index(here), "SM_HOSTS", "SM_CURRENT_HOST")


def from_slurm(environment: Mapping[str, str], port: int) -> Cluster:
    """Reads the cluster from srun's variables: a task is a worker, and the tasks of a node have consecutive indices."""
    hosts = expand_node_list(environment["SLURM_STEP_NODELIST"])
    count, index = (_read_number(environment, name) for name in ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"))
    each = environment.get("SLURM_STEP_TASKS_PER_NODE")
    tasks = _parse_tasks_per_node(each) if each else [-(-count // len(hosts))] * len(hosts)
    if len(tasks) != len(hosts) or sum(tasks) != count:
        raise UserError(
            f"Slurm's environment contradicts itself: {count} tasks, but {each or tasks} on {len(hosts)} nodes "
            f"({', '.join(hosts)}); start the workers with srun --ntasks-per-node."
        )
    workers = [f"{host}:{port + task}" for host, here in zip(hosts, tasks) for task in range(here)]
    cluster = _make_cluster(workers, index, "Slurm's list of nodes", "SLURM_PROCID")
    node, expected = environment.get("SLURMD_NODENAME"), workers[index].rpartition(":")[0]
    if node in hosts and node != expected:
        raise UserError(
            f"Task {index} runs on {node}, not on {expected}: the tasks of a node must follow each other; start them "
            "with srun --distribution=block."
        )
    return cluster


def expand_node_list(nodes: str) -> list[str]:
    """Expands a Slurm node list, in its order: "a[1-2,07],b" names a1, a2, a07 and b.

    Raises:
      UserError: an unclosed bracket or an invalid range.
    """
    hosts = []
    for part in re.split(r",(?![^\[]*\])", nodes):
        pieces = re.split(r"\[([^\[\]]*)\]", part)  # text and the inside of brackets in turn
        if not part or any(bracket in piece for piece in pieces[::2] for bracket in "[]"):
            raise UserError(
                f"The Slurm node list {nodes!r} cannot be read: {part!r} is not a host or a range of hosts."
            )
        choices = [[piece] if place % 2 == 0 else _expand_range(piece, nodes) for place, piece in enumerate(pieces)]
        hosts += ["".join(chosen) for chosen in itertools.product(*choices)]
    return hosts


def _expand_range(inside: str, nodes: str) -> list[str]:
    """Expands the numbers between brackets, with their leading zeros: "1-3,08" gives 1, 2, 3, 08."""
    numbers = []
    for piece in inside.split(","):
        bounds = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", piece)
        first, last = (bounds[1], bounds[2] or bounds[1]) if bounds else ("1", "0")
        if int(first) > int(last):
            raise UserError(f"The Slurm node list {nodes!r} cannot be read: {piece!r} is not a range of numbers.")
        numbers += [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    return numbers


def _parse_tasks_per_node(text: str) -> list[int]:
    """Parses Slurm's tasks per node: "2(x3),1" is three nodes with two tasks each, and one with one."""
    counts: list[int] = []
    for piece in text.split(","):
        match = re.fullmatch(r"(\d{1,6})(?:\(x(\d{1,6})\))?", piece)
        if not match:
            raise UserError(f"SLURM_STEP_TASKS_PER_NODE is {text!r}, which is not of the form 2(x3),1.")
        counts += [int(match[1])] * int(match[2] or 1)
    return counts


def _read_number(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name)
    if not text:
        raise UserError(f"Slurm's environment lacks {name}; start the workers with srun.")
    if not re.fullmatch(r"\d{1,9}", text):
        raise UserError(f"{name} is {text!r}, which is not a number.")
    return int(text)


def _make_cluster(workers: list[str], index: int, source: str, source_of_index: str) -> Cluster:
    """Makes the cluster.

    Raises:
      UserError: an address is invalid or occurs twice, or the index is out of range; the message names the source.
    """
    for worker in workers:
        host, colon, port = str(worker).rpartition(":")
        if not (colon and host and port.isdecimal() and 0 < int(port) < 2**16):
            raise UserError(f"{source}: {worker!r} is not of the form host:port, with a port from 1 to 65535.")
    duplicates = [worker for place, worker in enumerate(workers) if worker in workers[:place]]
    if duplicates:
        raise UserError(f"{source} names {duplicates[0]} twice; each worker needs its own address.")
    if not 0 <= index < len(workers):
        raise UserError(
            f"{source_of_index} is {index}, but {source} names {len(workers)} workers: it must be 0 to "
            f"{len(workers) - 1}."
        )
    return Cluster(tuple(workers), index)
