"""Communication between the workers of a run: equal start, joint stop, and errors that name a lost worker.

With a single worker, no function here communicates.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from fer.errors import Stopped, UserError, WorkerLostError
from fer.io import temp_files
from fer.train.distributed.cluster_resolver import Cluster
from fer.train.distributed.strategy import HEARTBEAT_S
from fer.train.preemption import StopRequest

SUM = tf.distribute.ReduceOp.SUM
SYNC_EVERY = 5  # steps between two calls of `sync_stop` that communicate


def is_multi_worker(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether a strategy spans several processes."""
    resolver = strategy.cluster_resolver
    return resolver is not None and len(resolver.cluster_spec().as_dict().get("worker", [])) > 1


@contextlib.contextmanager
def worker_loss_errors(workers: Cluster | None) -> Iterator[None]:
    """Converts TensorFlow's error after the loss of another worker to WorkerLostError.

    Raises:
      WorkerLostError: this worker lost the connection to another one.
    """
    try:
        yield
    except tf.errors.OpError as error:
        if workers is None or "ollective" not in str(error) or isinstance(error, tf.errors.ResourceExhaustedError):
            raise
        raise WorkerLostError(
            f"{workers.name.capitalize()} lost the connection to another worker ({_describe_cause(error)}). A worker "
            f"without a heartbeat for {HEARTBEAT_S} s counts as lost, and the others stop within {3 * HEARTBEAT_S} s. "
            "The last checkpoint is complete: start the same command on every worker to resume from it."
        ) from error


@contextlib.contextmanager
def report_startup(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Reports the end of the start to the other workers; if this worker fails before, they count it as lost."""
    try:
        yield
    except BaseException as error:
        report_started(strategy, isinstance(error, Stopped))
        raise
    report_started(strategy)


def report_started(strategy: tf.distribute.Strategy, started: bool = True) -> None:
    """Reports that this worker has made its first step, for which all others had to start, or has no step to make.

    Args:
      strategy: of the run.
      started: False reports that this worker failed before.
    """
    others = getattr(strategy.cluster_resolver, "others", None)
    if others is not None:
        others.close(started)


@contextlib.contextmanager
def worker_dir(workers: Cluster | None, workdir: str) -> Iterator[str]:
    """Yields the folder that this worker writes the run to: `workdir` for the chief.

    The other workers do the same work as the chief, so that no worker waits for one with less to do. Their files go to
    a temporary folder, which is removed, and their standard output is discarded.
    """
    if workers is None or workers.chief:
        yield workdir
        return
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(os.devnull, "w", encoding="utf-8"))))
        try:
            yield stack.enter_context(temp_files.folder("worker"))
        except Stopped as stopped:
            raise Stopped(
                f"{workers.name.capitalize()} stopped together with the others; the checkpoint is in {workdir}.",
                stopped.exit_code,
            ) from stopped


def assert_same_on_all(strategy: tf.distribute.Strategy, hashes: dict[str, str]) -> None:
    """Checks that all workers have the same config and data.

    Args:
      strategy: of the run.
      hashes: SHA-256 in hexadecimal, by the name of the hashed object.

    Raises:
      UserError: a hash of a worker differs from the chief's; all workers raise the same error.
    """
    if not is_multi_worker(strategy):
        return
    mine = tf.constant([int(digest[:15], 16) for digest in hashes.values()], tf.int64)
    index, count = strategy.cluster_resolver.task_id, len(strategy.cluster_resolver.cluster_spec().as_dict()["worker"])
    chiefs = strategy.reduce(SUM, mine if index == 0 else tf.zeros_like(mine), axis=None)
    own_row = tf.one_hot(index, count, dtype=tf.int64)[:, tf.newaxis]
    differs = strategy.reduce(SUM, own_row * tf.cast(mine != chiefs, tf.int64), axis=None)  # [workers, hashes]
    for worker, place in zip(*differs.numpy().nonzero()):
        name = list(hashes)[place]
        advice = "start the same command on every worker."
        if name.startswith("config."):
            advice = f"set --{name} to one value on every worker, because auto depends on the devices."
        raise UserError(f"Worker {worker} has another {name} than worker 0: {advice}")


def broadcast_object(strategy: tf.distribute.Strategy, value: Any) -> Any:
    """Returns the chief's value on every worker.

    Args:
      strategy: of the run.
      value: a JSON value; the values of the other workers are ignored.
    """
    if not is_multi_worker(strategy):
        return value
    chief = strategy.cluster_resolver.task_id == 0
    text = json.dumps(value).encode() if chief else b""
    length = int(strategy.reduce(SUM, tf.constant(len(text), tf.int64), axis=None))
    content = np.frombuffer(text, np.uint8) if chief else np.zeros(length, np.uint8)
    received = strategy.reduce(SUM, tf.constant(content, tf.int64), axis=None)
    return json.loads(received.numpy().astype(np.uint8).tobytes())


def broadcast_variables(strategy: tf.distribute.Strategy, variables: Sequence[tf.Variable]) -> None:
    """Copies the values of the chief's first replica, bit for bit, to every replica of every worker."""
    if not is_multi_worker(strategy):
        return

    def replica_values() -> list[tf.Tensor]:
        context = tf.distribute.get_replica_context()
        chief = tf.equal(context.replica_id_in_sync_group, 0)
        values = [tf.convert_to_tensor(variable) for variable in variables]
        for kind in sorted({value.dtype for value in values}, key=str):  # one all-reduce per dtype
            places = [place for place, value in enumerate(values) if value.dtype == kind]
            # x + -0.0 is x for every x, the negative zero included.
            nothing = tf.constant(-0.0 if kind.is_floating else 0, kind)
            received = context.all_reduce(SUM, [tf.where(chief, values[place], nothing) for place in places])
            for place, value in zip(places, received):
                values[place] = value
        return values

    @tf.function(autograph=False)
    def assign_all() -> None:
        for variable, value in zip(variables, strategy.run(replica_values)):
            strategy.extended.update(variable, lambda mine, value: mine.assign(value), args=(value,))

    assign_all()


def sync_stop(strategy: tf.distribute.Strategy, stop: StopRequest, steps: int) -> bool:
    """Returns whether the run stops now: the same on all workers, so that they stop after the same step.

    All workers call this function after the same steps; the calls communicate at least `SYNC_EVERY` steps apart.

    Args:
      strategy: of the run.
      stop: the stop request of this worker; if workers stop, it is the same on all. A signal precedes a spot notice.
      steps: number of steps since the last call.
    """
    if not is_multi_worker(strategy):
        return stop.requested
    stop.unsynced_steps += steps
    if stop.unsynced_steps < SYNC_EVERY:
        return False
    stop.unsynced_steps = 0
    requests = strategy.reduce(SUM, tf.one_hot(stop.exit_code, 256, dtype=tf.int64), axis=None).numpy()
    received = requests.nonzero()[0].max()  # 0 if no worker has a request
    if received:
        stop.exit_code = int(received)
    return bool(received)  # not stop.requested: a signal may have arrived on this worker alone since then


def _describe_cause(error: tf.errors.OpError) -> str:
    """Returns TensorFlow's description of the cause, on one line."""
    match = re.search(r"aborted by: (.*)", str(error))
    return (match[1] if match else str(error).strip().splitlines()[0]).strip().rstrip(".")
