"""Distribution strategies: one device, all devices of a machine, or the devices of several machines."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import os
from typing import TYPE_CHECKING

import tensorflow as tf

import fer
from fer import tf_workarounds
from fer.config import Train
from fer.errors import UserError, WorkerLostError, python_command
from fer.io import files
from fer.train.distributed.cluster_resolver import Cluster

if TYPE_CHECKING:
    from fer.train.distributed import rendezvous

# Seconds. The first determines how soon the others stop after a worker is killed or disconnected.
HEARTBEAT_S = 10  # a worker without a heartbeat for this long counts as lost
JOIN_TIMEOUT_S = 600  # workers may start within this time of each other
CONNECT_TIMEOUT_S = 120  # for TensorFlow to connect the workers once all are present

CUDNN_PACKAGE, MIN_CUDNN = "nvidia-cudnn-cu12", (9, 24)  # the minimum of TensorFlow 2.21


def make_strategy(name: str, train: Train, workers: Cluster | None = None) -> tf.distribute.Strategy:
    """Makes the distribution strategy called `name`, for the number of replicas in `train`.

    `auto` is `multi_worker` if there are several `workers`, `mirrored` if there are several GPUs or `train` has several
    replicas, else `one`. On a machine without GPUs, replicas are logical devices of the CPU, which can only be
    configured before the process uses the CPU; a worker without GPUs is one replica.

    Raises:
      UserError: there are fewer GPUs, or logical devices of a started TensorFlow, than replicas; the global batch does
        not divide evenly into replicas and parts; the workers are not named.
      WorkerLostError: the workers do not connect.
    """
    if train.deterministic is True:
        tf.config.experimental.enable_op_determinism()
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        warn_of_old_cudnn()
    if name == "auto" and workers is not None and len(workers.workers) > 1:
        name = "multi_worker"
    if name == "auto":
        name = "mirrored" if (train.num_replicas or len(gpus)) > 1 else "one"
    if name == "one":
        if train.num_replicas > 1:
            raise UserError(
                f"config.train.num_replicas is {train.num_replicas}, but --strategy=one uses a single device."
            )
        strategy = tf.distribute.OneDeviceStrategy("GPU:0" if gpus else "CPU:0")
    elif name == "mirrored":
        strategy = make_mirrored(_list_devices(train.num_replicas, len(gpus)))
    elif workers is None:
        raise UserError(
            "--strategy=multi_worker needs to know the workers: give --workers=host:port,... and --worker_index=N, set "
            "TF_CONFIG, or start the run with srun or on SageMaker."
        )
    else:
        local = _count_local_replicas(train.num_replicas, len(workers.workers), len(gpus))
        _check_batch(train, local * len(workers.workers))
        strategy = _connect_workers(workers, {"GPU": local} if gpus else {})
    _check_batch(train, strategy.num_replicas_in_sync)
    return strategy


def warn_of_old_cudnn() -> None:
    """Prints a warning if there is an old cuDNN; see `find_old_cudnn`."""
    version = find_old_cudnn()
    if version is None:
        return
    needed = ".".join(map(str, MIN_CUDNN))
    command = python_command("-m", "pip", "install", f"{CUDNN_PACKAGE}>={needed},<10")
    print(
        f"Warning: cuDNN {version} is installed, and TensorFlow 2.21 needs {needed} or later: under XLA, GPUs such as "
        f'T4, A10G and L4 fail with "Autotuner could not find any supported configs". Run {command}.'
    )


def find_old_cudnn() -> str | None:
    """Returns the version of a cuDNN that finds no algorithm for some convolutions under XLA in TensorFlow 2.21.

    Returns None if there is a later cuDNN or none, or with another TensorFlow.
    """
    version = _cudnn_version() if fer.KERAS == "tf-keras" else None
    return version if version and tuple(map(int, version.split(".")[:2])) < MIN_CUDNN else None


def _cudnn_version() -> str | None:
    """Returns the version of cuDNN: of its package, or of the library that TensorFlow loaded; None without either."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(CUDNN_PACKAGE)
    try:
        number = ctypes.CDLL("libcudnn.so.9").cudnnGetVersion()
    except OSError:
        return None
    return f"{number // 10_000}.{number // 100 % 100}.{number % 100}"


class ConnectedClusterResolver(tf.distribute.cluster_resolver.SimpleClusterResolver):
    """Resolver of workers that passed the start barrier, with their connections."""

    others: rendezvous.ConnectedWorkers | None = None  # open until all have started: see `multi_worker.report_startup`


def check_deterministic_jit(model: tf.keras.Model, train: Train) -> None:
    """Checks that the network has no layer with a nondeterministic gradient under XLA on a GPU.

    Raises:
      UserError: it has one, and the config requires determinism and compilation.
    """
    if not (train.deterministic is True and train.jit_compile is True and tf.config.list_logical_devices("GPU")):
        return
    pooled = [part.name for part in model.submodules if isinstance(part, tf.keras.layers.MaxPooling2D)]
    if pooled:
        raise UserError(
            f"config.train.jit_compile is true, and XLA has no deterministic gradient of max-pooling (layer "
            f"{pooled[0]}) for GPUs: set config.train.jit_compile=false, or config.train.deterministic=false."
        )


def make_mirrored(names: list[str]) -> tf.distribute.Strategy:
    """Makes a strategy with one replica on each device; a process may have several of them."""
    tf_workarounds.separate_collectives()
    return tf.distribute.MirroredStrategy(names)


def _check_batch(train: Train, replicas: int) -> None:
    global_batch, parts = train.global_batch_size, train.gradient_accumulation_steps
    if global_batch % replicas:
        raise UserError(
            f"config.train.global_batch_size is {global_batch}, which {replicas} replicas cannot share evenly; "
            f"choose {global_batch - global_batch % replicas or replicas}."
        )
    per_replica = global_batch // replicas
    if per_replica % parts:
        raise UserError(
            f"config.train.gradient_accumulation_steps is {parts}, but a replica's {per_replica} examples of a step do "
            f"not divide into {parts} equal parts; choose "
            f"{next(fewer for fewer in range(min(parts, per_replica), 0, -1) if per_replica % fewer == 0)}."
        )


def _connect_workers(workers: Cluster, accelerators: dict[str, int]) -> tf.distribute.Strategy:
    """Waits for all workers and makes their strategy. No op may have run in this process before."""
    from fer.train.distributed import rendezvous

    spec = tf.train.ClusterSpec({"worker": list(workers.workers)})
    resolver = ConnectedClusterResolver(
        spec, task_type="worker", task_id=workers.index, num_accelerators=accelerators, rpc_layer="grpc"
    )
    tf_workarounds.set_worker_timeouts(len(workers.workers), CONNECT_TIMEOUT_S, HEARTBEAT_S)
    print(f"This is {workers.name}; waiting for the others.", flush=True)
    resolver.others = rendezvous.wait_for_workers(
        workers, JOIN_TIMEOUT_S, os.environ.get(rendezvous.TOKEN_VARIABLE, "")
    )
    resolver.others.start_monitor(CONNECT_TIMEOUT_S, 3 * HEARTBEAT_S - 2)  # less than `worker_loss_errors` announces
    try:
        # Without a timeout for a worker that hangs: TensorFlow would start a thread for every collective op that sleeps
        # until the timeout, and the process would run out of threads.
        strategy = tf.distribute.MultiWorkerMirroredStrategy(resolver)
    except tf.errors.OpError as error:
        resolver.others.close(started=False)
        raise WorkerLostError(
            f"This is {workers.name}, and TensorFlow could not connect it with the others "
            f"({files.error_message(error)}): check that all of {', '.join(workers.workers)} reach each other."
        ) from error
    resolver.others.report_connected()
    # All workers have the same number of batches, so that they need not agree before each batch whether it is the last.
    strategy.extended.experimental_enable_get_next_as_optional = False
    tf_workarounds.keep_sigterm_handler()
    return strategy


def _count_local_replicas(replicas: int, workers: int, gpus: int) -> int:
    """Returns the number of this worker's replicas.

    Raises:
      UserError: the replicas do not divide evenly over the workers, or exceed their devices.
    """
    per_worker = gpus or 1
    if replicas % workers or replicas > workers * per_worker:
        raise UserError(
            f"config.train.num_replicas is {replicas}, over {workers} workers with {per_worker} "
            f"{'GPUs' if gpus else 'CPU'} each; 0 uses all, else it must be a multiple of {workers} up to "
            f"{workers * per_worker}."
        )
    return replicas // workers or per_worker


def _list_devices(replicas: int, gpus: int) -> list[str]:
    """Lists the devices of a mirrored run: GPUs, or logical CPUs if there are none."""
    if gpus:
        if replicas > gpus:
            raise UserError(f"config.train.num_replicas is {replicas}, but this machine has {gpus} GPUs.")
        return [f"GPU:{number}" for number in range(replicas or gpus)]
    return make_logical_cpus(max(replicas, 1))


def make_logical_cpus(count: int) -> list[str]:
    """Configures `count` logical devices of the CPU, unless TensorFlow has started with at least as many.

    Raises:
      UserError: TensorFlow has started with fewer.
    """
    cpu = tf.config.list_physical_devices("CPU")[0]
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    except RuntimeError as error:  # TensorFlow has started, and its devices cannot be changed
        started = len(tf.config.list_logical_devices("CPU"))
        if started < count:
            raise UserError(
                f"{count} replicas need {count} logical CPU devices, and TensorFlow has started in this process with "
                f"{started}: start the run in a new process."
            ) from error
    return [f"CPU:{number}" for number in range(count)]
