"""Where a run computes: one device, all of a machine's, or those of several machines."""

from __future__ import annotations

import tensorflow as tf

from fer.config import Train
from fer.errors import UserError

STRATEGIES = ("auto", "one", "mirrored", "multi_worker")


def strategy(name: str, train: Train) -> tf.distribute.Strategy:
    """The distribution strategy called `name`, for as many replicas as `train` asks for.

    `auto` is `mirrored` where there are several GPUs or several replicas are asked for, else `one`. On a machine
    without GPUs, replicas are logical devices of the CPU, which only a process that has not used them yet can make.

    Raises:
      UserError: fewer GPUs than replicas, or a global batch that the replicas cannot share evenly.
    """
    if train.deterministic:
        tf.config.experimental.enable_op_determinism()
    gpus = tf.config.list_physical_devices("GPU")
    if name == "auto":
        name = "mirrored" if (train.replicas or len(gpus)) > 1 else "one"
    if name == "one":
        chosen = tf.distribute.OneDeviceStrategy("GPU:0" if gpus else "CPU:0")
    elif name == "mirrored":
        chosen = tf.distribute.MirroredStrategy(_devices(train.replicas, len(gpus)))
    else:
        chosen = tf.distribute.MultiWorkerMirroredStrategy()
    replicas = chosen.num_replicas_in_sync
    if train.global_batch % replicas:
        raise UserError(
            f"config.train.global_batch is {train.global_batch}, which {replicas} replicas cannot share evenly; "
            f"{train.global_batch - train.global_batch % replicas or replicas} would do."
        )
    return chosen


def _devices(replicas: int, gpus: int) -> list[str]:
    """The devices of a mirrored run: GPUs, or logical CPUs where there are none."""
    if gpus:
        if replicas > gpus:
            raise UserError(f"config.train.replicas is {replicas}, but this machine has {gpus} GPUs.")
        return [f"GPU:{number}" for number in range(replicas or gpus)]
    count = max(replicas, 1)
    _split_cpu(count)
    return [f"CPU:{number}" for number in range(count)]


def _split_cpu(count: int) -> None:
    """Makes `count` logical devices of the CPU, unless a process that already uses TensorFlow has enough."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    except RuntimeError:  # TensorFlow has started its devices, which cannot be changed any more
        if len(tf.config.list_logical_devices("CPU")) < count:
            raise
