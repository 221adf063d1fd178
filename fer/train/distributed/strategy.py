"""Where a run computes: one device, all of a machine's, or those of several machines."""

from __future__ import annotations

import os
import signal
import threading

import tensorflow as tf
from tensorflow.python.distribute import collective_all_reduce_strategy as multi_worker
from tensorflow.python.eager import context

from fer.config import Train
from fer.errors import UserError
from fer.io import files
from fer.train.distributed import rendezvous
from fer.train.distributed.cluster_resolver import Cluster

# Seconds. The first decides how soon the others stop when a worker dies, or is cut off without a word.
HEARTBEAT_S = 10  # without a sign of life, a worker counts as lost
JOIN_TIMEOUT_S = 600  # workers may start so long after one another
CONNECT_TIMEOUT_S = 120  # once all are there, TensorFlow may take so long to connect them

COLLECTIVE_KEY_STEP = 1000  # of devices that one strategy may divide its own into


def make_strategy(name: str, train: Train, workers: Cluster | None = None) -> tf.distribute.Strategy:
    """The distribution strategy called `name`, for as many replicas as `train` asks for.

    `auto` is `multi_worker` where `workers` are several, `mirrored` where there are several GPUs or several replicas
    are asked for, else `one`. On a machine without GPUs, replicas are logical devices of the CPU, which only a process
    that has not used them yet can make; a worker without GPUs is one replica.

    Raises:
      UserError: fewer GPUs than replicas, a global batch that the replicas cannot share evenly or go through in equal
        parts, no word of who the workers are, or workers that do not come.
    """
    if train.deterministic:
        tf.config.experimental.enable_op_determinism()
    gpus = tf.config.list_physical_devices("GPU")
    if name == "auto" and workers is not None and len(workers.workers) > 1:
        name = "multi_worker"
    if name == "auto":
        name = "mirrored" if (train.replicas or len(gpus)) > 1 else "one"
    if name == "one":
        if train.replicas > 1:
            raise UserError(f"config.train.replicas is {train.replicas}, but --strategy=one is a single device.")
        chosen = tf.distribute.OneDeviceStrategy("GPU:0" if gpus else "CPU:0")
    elif name == "mirrored":
        chosen = make_mirrored(_list_devices(train.replicas, len(gpus)))
    elif workers is None:
        raise UserError(
            "--strategy=multi_worker needs to know the workers: give --workers=host:port,... and --worker_index=N, set "
            "TF_CONFIG, or start the run with srun or on SageMaker."
        )
    else:
        local = _count_local_replicas(train.replicas, len(workers.workers), len(gpus))
        _check_batch(train, local * len(workers.workers))
        chosen = _connect_workers(workers, {"GPU": local} if gpus else {})
    _check_batch(train, chosen.num_replicas_in_sync)
    return chosen


class ConnectedClusterResolver(tf.distribute.cluster_resolver.SimpleClusterResolver):
    """Of workers that have met."""

    others: rendezvous.ConnectedWorkers | None = (
        None  # until all have started: see `fer.train.distributed.multi_worker.report_startup`
    )


def check_deterministic_jit(model: tf.keras.Model, train: Train) -> None:
    """Refuses what TensorFlow cannot compute alike each time in a step that XLA compiles for a GPU.

    Raises:
      UserError: the network has a layer of the kind.
    """
    if not (train.deterministic and train.jit_compile and tf.config.list_logical_devices("GPU")):
        return
    pooled = [part.name for part in model.submodules if isinstance(part, tf.keras.layers.MaxPooling2D)]
    if pooled:
        raise UserError(
            f"config.train.jit_compile is true, and XLA has no gradient of max-pooling (layer {pooled[0]}) for GPUs "
            "that is the same each time: set config.train.jit_compile=false, or config.train.deterministic=false."
        )


def make_mirrored(names: list[str]) -> tf.distribute.Strategy:
    """A strategy of one replica on each of these devices, beside any others of this process."""
    # Strategies count their groups of collective operations from the same key. Two in a process would be taken for
    # one, and the first operation of another shape would abort them all; TensorFlow's own tests move the key so, too.
    tf.distribute.MirroredStrategy._collective_key_base += COLLECTIVE_KEY_STEP
    return tf.distribute.MirroredStrategy(names)


def _check_batch(train: Train, replicas: int) -> None:
    global_batch, parts = train.global_batch, train.accumulation
    if global_batch % replicas:
        raise UserError(
            f"config.train.global_batch is {global_batch}, which {replicas} replicas cannot share evenly; "
            f"{global_batch - global_batch % replicas or replicas} would do."
        )
    share = global_batch // replicas
    if share % parts:
        raise UserError(
            f"config.train.accumulation is {parts}, but a replica's {share} examples of a step do not come in {parts} "
            f"equal parts; {next(fewer for fewer in range(min(parts, share), 0, -1) if share % fewer == 0)} would do."
        )


def _connect_workers(workers: Cluster, accelerators: dict[str, int]) -> tf.distribute.Strategy:
    """The strategy of several workers, once all of them are there. Before it, no operation may have run."""
    spec = tf.train.ClusterSpec({"worker": list(workers.workers)})
    resolver = ConnectedClusterResolver(
        spec, task_type="worker", task_id=workers.index, num_accelerators=accelerators, rpc_layer="grpc"
    )
    # The strategy would do this itself, with a time-out that is not ours to know.
    context.context().configure_coordination_service(
        "standalone",
        service_leader="/job:worker/replica:0/task:0",
        cluster_register_timeout_in_ms=CONNECT_TIMEOUT_S * 1000,
        heartbeat_timeout_in_ms=HEARTBEAT_S * 1000,
        coordinated_jobs=[
            multi_worker.coordination_config_pb2.CoordinatedJob(name="worker", num_tasks=len(workers.workers))
        ],
    )
    print(f"This is {workers.name}; waiting for the others.", flush=True)
    resolver.others = rendezvous.wait_for_workers(
        workers, JOIN_TIMEOUT_S, os.environ.get(rendezvous.TOKEN_VARIABLE, "")
    )
    resolver.others.watch(CONNECT_TIMEOUT_S, 3 * HEARTBEAT_S - 2)  # so that it is over within what `watched` says
    try:
        # Without a time-out for a worker that lives but hangs: TensorFlow would start a thread for every single
        # collective operation, which sleeps until its time is up, and soon there would be no more threads to have.
        chosen = tf.distribute.MultiWorkerMirroredStrategy(resolver)
    except tf.errors.OpError as error:
        resolver.others.close()
        raise UserError(
            f"This is {workers.name}, and TensorFlow could not connect it with the others "
            f"({files.error_message(error)}): see that all of {', '.join(workers.workers)} reach each other."
        ) from error
    resolver.others.connected()
    # All workers have equally many batches, so they need not ask each other before each one whether it is the last.
    chosen.extended.experimental_enable_get_next_as_optional = False
    if threading.current_thread() is threading.main_thread():
        # TensorFlow's server takes SIGTERM for a notice of its own, which nothing here reads: it would be lost.
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
    return chosen


def _count_local_replicas(replicas: int, workers: int, gpus: int) -> int:
    """How many of a run's replicas are this worker's."""
    most = gpus or 1
    if replicas % workers or replicas > workers * most:
        raise UserError(
            f"config.train.replicas is {replicas}, over {workers} workers with {most} "
            f"{'GPUs' if gpus else 'CPU'} each; 0 uses all, else it must be a multiple of {workers} up to "
            f"{workers * most}."
        )
    return replicas // workers or most


def _list_devices(replicas: int, gpus: int) -> list[str]:
    """The devices of a mirrored run: GPUs, or logical CPUs where there are none."""
    if gpus:
        if replicas > gpus:
            raise UserError(f"config.train.replicas is {replicas}, but this machine has {gpus} GPUs.")
        return [f"GPU:{number}" for number in range(replicas or gpus)]
    return make_logical_cpus(max(replicas, 1))


def make_logical_cpus(count: int) -> list[str]:
    """Makes `count` logical devices of the CPU, unless a process that already uses TensorFlow has enough.

    Raises:
      RuntimeError: it uses TensorFlow already and has fewer.
    """
    cpu = tf.config.list_physical_devices("CPU")[0]
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    except RuntimeError:  # TensorFlow has started its devices, which cannot be changed any more
        if len(tf.config.list_logical_devices("CPU")) < count:
            raise
    return [f"CPU:{number}" for number in range(count)]
