"""What the workers of a run do together: begin alike, stop alike, and tell a person when one of them is lost.

With a single worker nothing of this communicates.
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

from fer.errors import Stopped, UserError
from fer.io import temp_files
from fer.train.distributed.cluster_resolver import Cluster
from fer.train.distributed.strategy import HEARTBEAT_S
from fer.train.preemption import StopRequest

SUM = tf.distribute.ReduceOp.SUM
SYNC_EVERY = 5  # looks at whether to stop between two at which all workers confer


def is_multi_worker(strategy: tf.distribute.Strategy) -> bool:
    """Whether a strategy spans processes."""
    resolver = strategy.cluster_resolver
    return resolver is not None and len(resolver.cluster_spec().as_dict().get("worker", [])) > 1


@contextlib.contextmanager
def worker_loss_errors(workers: Cluster | None) -> Iterator[None]:
    """Within it, the loss of another worker is a sentence instead of TensorFlow's error.

    Raises:
      UserError: this worker lost another one.
    """
    try:
        yield
    except tf.errors.OpError as error:
        if workers is None or "ollective" not in str(error):
            raise
        raise UserError(
            f"{workers.name.capitalize()} lost the connection to another worker ({_describe_cause(error)}). A worker "
            f"without a heartbeat for {HEARTBEAT_S} s counts as lost, and the others stop within {3 * HEARTBEAT_S} s. "
            "The last checkpoint is complete: start the same command on every worker to resume from it."
        ) from error


@contextlib.contextmanager
def report_startup(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Within it, this worker starts; `started` says when it has. One that fails before is lost to the others."""
    try:
        yield
    except Stopped:
        report_started(strategy)
        raise
    except BaseException:
        others = getattr(strategy.cluster_resolver, "others", None)
        if others is not None:
            others.close()
        raise
    report_started(strategy)


def report_started(strategy: tf.distribute.Strategy) -> None:
    """Says that this worker has made its first step, for which all the others had to start, or has none to make."""
    others = getattr(strategy.cluster_resolver, "others", None)
    if others is not None:
        others.finish()


@contextlib.contextmanager
def worker_dir(workers: Cluster | None, workdir: str) -> Iterator[str]:
    """The folder that this worker writes the run to: `workdir` for the chief.

    The others do all that the chief does, so that none waits for one that does something else, but what they write
    goes to a temporary folder that is removed, and what they print nowhere.
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
    """Holds what this worker was given against what the chief was given.

    Args:
      strategy: of the run.
      hashes: SHA-256 in hexadecimal, by what they are of.

    Raises:
      UserError: they differ, on a worker that is not the chief.
    """
    if not is_multi_worker(strategy):
        return
    mine = tf.constant([int(digest[:15], 16) for digest in hashes.values()], tf.int64)
    chiefs = strategy.reduce(SUM, mine if strategy.cluster_resolver.task_id == 0 else tf.zeros_like(mine), axis=None)
    for what, same in zip(hashes, (mine == chiefs).numpy()):
        if not same:
            raise UserError(
                f"Worker {strategy.cluster_resolver.task_id} was given another {what} than worker 0; start the same "
                "command on all."
            )


def broadcast_object(strategy: tf.distribute.Strategy, value: Any) -> Any:
    """What the chief passes, on every worker.

    Args:
      strategy: of the run.
      value: what JSON can hold; that of the others is dropped.
    """
    if not is_multi_worker(strategy):
        return value
    chief = strategy.cluster_resolver.task_id == 0
    text = json.dumps(value).encode() if chief else b""
    length = int(strategy.reduce(SUM, tf.constant(len(text), tf.int64), axis=None))
    content = np.frombuffer(text, np.uint8) if chief else np.zeros(length, np.uint8)
    told = strategy.reduce(SUM, tf.constant(content, tf.int64), axis=None)
    return json.loads(told.numpy().astype(np.uint8).tobytes())


def broadcast_variables(strategy: tf.distribute.Strategy, variables: Sequence[tf.Variable]) -> None:
    """Gives every replica of every worker the values, to the bit, of the chief's first replica."""
    if not is_multi_worker(strategy):
        return

    def of_replica() -> list[tf.Tensor]:
        context = tf.distribute.get_replica_context()
        chief = tf.equal(context.replica_id_in_sync_group, 0)
        values = [tf.convert_to_tensor(variable) for variable in variables]
        for kind in sorted({value.dtype for value in values}, key=str):  # those of one kind travel together
            places = [place for place, value in enumerate(values) if value.dtype == kind]
            # x + -0.0 is x for every x, the negative zero included.
            nothing = tf.constant(-0.0 if kind.is_floating else 0, kind)
            told = context.all_reduce(SUM, [tf.where(chief, values[place], nothing) for place in places])
            for place, value in zip(places, told):
                values[place] = value
        return values

    @tf.function(autograph=False)
    def take() -> None:
        for variable, value in zip(variables, strategy.run(of_replica)):
            strategy.extended.update(variable, lambda mine, value: mine.assign(value), args=(value,))

    take()


def sync_stop(strategy: tf.distribute.Strategy, stop: StopRequest) -> bool:
    """Whether the run is to stop now: all workers are told the same, so that they stop after the same step.

    Args:
      strategy: of the run.
      stop: what this worker was asked; it learns what another one was. All call this after the same steps, and confer
        every `AGREE`th time.
    """
    if not is_multi_worker(strategy):
        return stop.requested
    stop.polls += 1
    if stop.polls % SYNC_EVERY:
        return False
    asked = strategy.reduce(SUM, tf.one_hot(stop.signal or 0, 64, dtype=tf.int64), axis=None).numpy()
    for number in asked.nonzero()[0]:
        if number and not stop.requested:
            stop.request(int(number))
    return bool(asked[1:].any())


def _describe_cause(error: tf.errors.OpError) -> str:
    """TensorFlow's word for what happened, on one line."""
    found = re.search(r"aborted by: (.*)", str(error))
    return (found[1] if found else str(error).strip().splitlines()[0]).strip().rstrip(".")
