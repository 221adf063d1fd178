"""Workarounds for faults of TensorFlow and Keras, each with its issue and when to remove it.

Each fault was reproduced with TensorFlow 2.15 and 2.21, unless the function names other versions. Not reproduced again:
`disable_autotune`, `unfuse_frozen_batch_norm`, `create_optimizer_variables` and `quantize_except`.

| function | fault |
|---|---|
| `release_custom_gradients` | graphs with custom gradients stay in memory |
| `release_at_exit` | a compiled function that outlives TensorFlow's modules prints a traceback |
| `disable_autotune`, `iterate` | deletion of an iterator blocks for up to a minute |
| `separate_collectives` | two mirrored strategies of a process share collective groups |
| `set_worker_timeouts` | a multi-worker strategy has no argument for its timeouts |
| `keep_sigterm_handler` | the server of a worker replaces the handler of SIGTERM |
| `literal_path` | paths are treated as glob patterns |
| `read_clock` | `tf.timestamp` raises under op determinism |
| `unfuse_frozen_batch_norm` | a gradient of BatchNormalization raises under op determinism |
| `downsample` | the gradient of a strided 1x1 convolution corrupts memory |
| `create_optimizer_variables` | legacy optimizers create their variables in the first step |
| `quantize_except` | the TFLite converter cannot exclude an op from quantization |

Kernels that TensorFlow lacks on GPUs are chosen where an op is built: see `fer.augment.xla_support`.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import tensorflow as tf
from tensorflow.python.data.ops import multi_device_iterator_ops
from tensorflow.python.eager import context
from tensorflow.python.framework import ops

from fer.errors import StorageError
from fer.io import temp_files

CUSTOM_GRADIENT_PREFIX = "CustomGradient-"  # prefix of the names that tf.custom_gradient registers
COLLECTIVE_KEY_STEP = 1000  # more than the groups of devices that one strategy uses
PATTERN = re.compile(r"[][*?\\]")  # characters of glob patterns


@contextlib.contextmanager
def release_custom_gradients() -> Iterator[None]:
    """Removes, at the end of the context, the custom gradients that were registered within it.

    TensorFlow registers each custom gradient of a graph, such as that of a sum over replicas, for the lifetime of the
    process, and a registered gradient holds the graph: 25 MiB or more per run, which would add up in a sweep. There is
    no public function to unregister one.

    Issue: https://github.com/tensorflow/tensorflow/issues/27492, since 1.13; 80895 is the open one. Can be removed once
    a graph without references is collected.
    """
    registry = ops.gradient_registry._registry
    before = set(registry)
    try:
        yield
    finally:
        for name in set(registry) - before:
            if name.startswith(CUSTOM_GRADIENT_PREFIX):
                del registry[name]


def release_at_exit(release: Callable[[], object]) -> None:
    """Calls `release` when the process ends, before Python clears its modules.

    At its end, Python clears the modules that were imported last first. A compiled function in a module that was
    imported before TensorFlow is therefore deleted after TensorFlow's modules, and its `__del__` prints "TypeError:
    'NoneType' object is not subscriptable". No issue was found. Can be removed once AtomicFunction.__del__ needs no
    global variable.

    Args:
      release: drops the references to compiled functions.
    """
    atexit.register(release)


def disable_autotune(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Returns the dataset without its autotune thread.

    There is nothing to tune, since no stage leaves its size to TensorFlow. Deleting an iterator waits for that
    thread, which may miss its end and sleep for up to a minute.

    Issue: none is known; measured with 2.15. Can be removed once deletion does not wait for a sleeping thread.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def iterate(distributed: tf.distribute.DistributedDataset) -> Iterator:
    """Returns an iterator over a distributed dataset without an autotune thread for any device.

    TensorFlow creates a dataset for each device, which copies batches there, and does not pass our options to it.

    Issue: none is known. Can be removed together with `disable_autotune`.
    """
    create = multi_device_iterator_ops._create_device_dataset
    multi_device_iterator_ops._create_device_dataset = lambda *arguments: disable_autotune(create(*arguments))
    try:
        return iter(distributed)
    finally:
        multi_device_iterator_ops._create_device_dataset = create


def separate_collectives() -> None:
    """Gives the next `tf.distribute.MirroredStrategy` of this process groups of collective ops of its own.

    All strategies number their groups from the same key. Two strategies in a process would share groups, and the first
    op of another shape would abort them all. TensorFlow's own tests move the key in this way.

    Issue: https://github.com/tensorflow/tensorflow/issues/61314, since 2.13. Can be removed once a second strategy sums
    a tensor of another shape.
    """
    tf.distribute.MirroredStrategy._collective_key_base += COLLECTIVE_KEY_STEP


def set_worker_timeouts(num_workers: int, connect_s: int, heartbeat_s: int) -> None:
    """Sets the timeouts of the next `tf.distribute.MultiWorkerMirroredStrategy` of this process.

    The strategy configures the coordination service itself, unless it is configured before, and has no argument for the
    timeouts: an hour to connect, in a call that no signal interrupts, and ten seconds without a heartbeat.

    Issue: none is known. Can be removed once `tf.distribute.experimental.CommunicationOptions` has both.

    Args:
      num_workers: of the job "worker".
      connect_s: for the workers to connect, in seconds.
      heartbeat_s: after which a worker without a heartbeat counts as lost, in seconds.
    """
    context.context().configure_coordination_service(
        "standalone",
        service_leader="/job:worker/replica:0/task:0",
        cluster_register_timeout_in_ms=connect_s * 1000,
        heartbeat_timeout_in_ms=heartbeat_s * 1000,
        coordinated_jobs=[context.coordination_config_pb2.CoordinatedJob(name="worker", num_tasks=num_workers)],
    )


def keep_sigterm_handler() -> None:
    """Restores Python's handler of SIGTERM after TensorFlow's server has started.

    The server's preemption notifier ("sigterm") replaces the handler, and the signal would be lost.

    Issue: none is known. Can be removed once the notifier calls the handler that it replaces.
    """
    if threading.current_thread() is threading.main_thread():  # only the main thread may set handlers
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))


@contextlib.contextmanager
def literal_path(folder: str) -> Iterator[str]:
    """Yields a path of `folder` without pattern characters: its own, or a temporary symbolic link to it.

    `tf.train.Checkpoint.read`, `tf.train.load_checkpoint` and `tf.saved_model.load` search for files that match their
    path, and find none below a folder whose name has "[", "*", "?" or a backslash.

    Issue: https://github.com/tensorflow/tensorflow/issues/34290. Can be removed once they read such a folder.

    Args:
      folder: local.

    Raises:
      StorageError: every folder for temporary files has pattern characters in its path.
    """
    if not PATTERN.search(folder):
        yield folder
        return
    with temp_files.folder("alias", within=_temporary_folder(folder)) as place:
        alias = os.path.join(place, "folder")
        os.symlink(os.path.abspath(folder), alias)
        yield alias


def _temporary_folder(wanted_for: str) -> str:
    """Returns a folder for temporary files without pattern characters in its path."""
    for folder in (tempfile.gettempdir(), "/tmp", "/var/tmp", os.path.expanduser("~")):
        path = os.path.realpath(folder)
        if not PATTERN.search(path) and os.path.isdir(path) and os.access(path, os.W_OK | os.X_OK):
            return path
    raise StorageError(
        f"TensorFlow cannot read {wanted_for}, whose name has characters of a pattern, without a folder for temporary "
        "files: set TMPDIR to one whose path has none of []*?\\."
    )


def read_clock() -> tf.Tensor:
    """Reads the host's clock in an op; returns seconds, [] float64.

    Under op determinism, `tf.timestamp` raises FailedPreconditionError, though the time changes no result.

    Issue: https://github.com/tensorflow/tensorflow/issues/51466. Can be removed once an op can be exempted.
    """
    return tf.ensure_shape(tf.numpy_function(time.perf_counter, [], tf.float64), [])


def unfuse_frozen_batch_norm(layer: tf.keras.layers.BatchNormalization) -> None:
    """Lets a frozen layer compute with unfused ops on a GPU, with the same result.

    On a GPU, the gradient of the fused op with moving statistics raises under op determinism.

    Issue: https://github.com/tensorflow/tensorflow/pull/50505, since 2.7. Can be removed once the gradient is
    deterministic.
    """
    if tf.config.list_logical_devices("GPU"):
        layer.fused = False


def downsample(x: tf.Tensor, name: str) -> tf.Tensor:
    """Selects every second row and column of [B, H, W, C], before a 1x1 convolution that would have stride 2.

    On a CPU with AVX-512, oneDNN's gradient of the convolution with stride 2 corrupts memory, for example at 60x60
    pixels and 8 channels; the process ends with a segmentation fault. The result is the same.

    Issue: none is known for this op; similar ones of oneDNN are https://github.com/tensorflow/tensorflow/issues/57499
    and 117700. Can be removed once that gradient is computed.
    """
    return tf.keras.layers.MaxPooling2D(1, strides=2, padding="same", name=name)(x)


def create_optimizer_variables(optimizer: tf.keras.optimizers.Optimizer, variables: Sequence[tf.Variable]) -> None:
    """Creates all variables of an optimizer, so that a checkpoint can be restored before the first step.

    Keras' legacy optimizers, such as those of TensorFlow Addons, create their variables in the first step and have no
    public method for it.

    Issue: none is known; Keras develops these optimizers no longer. Can be removed together with Addons, once
    `tfa_equivalents` has Keras' new base class.

    Args:
      optimizer: also one with loss scaling.
      variables: that it trains.
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if isinstance(inner, tf.keras.optimizers.legacy.Optimizer):
        inner._create_all_weights(variables)
    else:
        optimizer.build(variables)


def quantize_except(
    op: str, converter: tf.lite.TFLiteConverter, calibration: Callable[[], Iterator[dict[str, object]]]
) -> bytes:
    """Quantizes a model to int8 and leaves one kind of op in float32.

    The converter has no such option; the quantization debugger is the only public API that excludes an op.

    Issue: https://github.com/tensorflow/tensorflow/issues/62923. Can be removed once the converter has one.

    Args:
      op: name of a TFLite op, such as "SOFTMAX".
      converter: with its optimizations.
      calibration: yields inputs by name.
    """
    converter.representative_dataset = calibration
    options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=[op])
    debugger = tf.lite.experimental.QuantizationDebugger(
        converter=converter, debug_dataset=calibration, debug_options=options
    )
    return debugger.get_nondebug_quantized_model()
