"""Execution of pixel ops, compiled by XLA: op by op on a CPU, a whole policy as one cluster on a GPU.

On a CPU, each TensorFlow op passes over all pixels. XLA fuses a whole change into one loop of vector instructions, so
changes of every pixel are compiled (`xla_compiled`). Expensive, rare ops run only on the images that need them
(`apply_where`): the batch is partitioned once, without a branch for each image. The figures are measured by
`scripts/benchmark.py --suite=augment`.

On a GPU, a step waits for the launches of kernels, not for their arithmetic. The whole policy is compiled as one
cluster of a few kernels (`cluster_on_gpu`). Within it, as in any function that its caller compiles (`under_xla`), no
shape depends on random numbers, and no op is used that XLA lacks. Random numbers are drawn outside, because XLA draws
others than TensorFlow from the same seed: a seed gives the same images everywhere, up to one grey level.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator
from typing import Any

from fer.lazy_modules import tf
from fer.rng import BatchRng

_AS_ON_GPU: contextvars.ContextVar[bool] = contextvars.ContextVar("as_on_gpu", default=False)
_UNDER_XLA: contextvars.ContextVar[bool] = contextvars.ContextVar("under_xla", default=False)


def on_cpu() -> bool:
    """Returns whether ops are built for a CPU: there is no GPU."""
    return not (_AS_ON_GPU.get() or tf.config.list_logical_devices("GPU"))


def as_on_gpu() -> contextlib.AbstractContextManager[None]:
    """Makes ops be built as for a GPU within the context, even if there is none, to test and inspect them."""
    return _set(_AS_ON_GPU, True)


def under_xla(compiled: bool) -> contextlib.AbstractContextManager[None]:
    """Makes ops be built within the context for a caller that compiles them with XLA, if `compiled`."""
    return _set(_UNDER_XLA, compiled)


@contextlib.contextmanager
def _set(variable: contextvars.ContextVar[bool], value: bool) -> Iterator[None]:
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


def is_under_xla() -> bool:
    """Returns whether ops are built for a caller that compiles them with XLA."""
    return _UNDER_XLA.get()


def xla_compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates a function of tensors of static shapes: XLA compiles it, unless the caller compiles it too.

    The function must not draw random numbers: XLA draws others than TensorFlow from the same seed.
    """

    @functools.cache
    def compiled() -> Callable[..., Any]:  # at the first call, because tf.function needs TensorFlow
        from fer import tf_workarounds

        tf_workarounds.release_at_exit(compiled.cache_clear)
        return tf.function(function, autograph=False, jit_compile=True)

    @functools.wraps(function)
    def run(*arguments: Any) -> Any:
        return (function if is_under_xla() else compiled())(*arguments)

    return run


def cluster_on_gpu(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates a function of images, targets and a `BatchRng`: on a GPU, XLA compiles it as one cluster.

    The random numbers are drawn by the caller's graph. On a CPU and under XLA, the function is called as it is.
    """

    def run(images: tf.Tensor, targets: tf.Tensor, rng: BatchRng) -> Any:
        graph = tf.compat.v1.get_default_graph()
        outside, scope = rng._replace(graph=graph), graph.get_name_scope()

        @functools.partial(tf.function, autograph=False, jit_compile=True)
        def cluster(images: tf.Tensor, targets: tf.Tensor) -> Any:
            # "/" names the caller's scope, not one within it; profiles name ops by it.
            with under_xla(True), tf.compat.v1.get_default_graph().name_scope(scope and f"{scope}/"):
                return function(images, targets, outside)

        return cluster(images, targets)

    @functools.cache
    def eager() -> Callable[..., Any]:  # an eager call compiles once for all calls
        return tf.function(run, autograph=False)

    @functools.wraps(function)
    def choose(images: tf.Tensor, targets: tf.Tensor, rng: BatchRng) -> Any:
        if is_under_xla() or on_cpu():
            return function(images, targets, rng)
        return (eager() if tf.executing_eagerly() else run)(images, targets, rng)

    return choose


def to_int32(values: tf.Tensor) -> tf.Tensor:
    """Rounds float32 values from 0 to 2 ** 23 - 1 to int32, half to even.

    XLA's conversion on a CPU takes several times longer, because of values that are not in the range of integers.
    """
    # The sum has no bits left for a fraction; its lowest 23 bits are the integer.
    return tf.bitwise.bitwise_and(tf.bitcast(values + float(2**23), tf.int32), 2**23 - 1)


def to_uint8(levels: tf.Tensor) -> tf.Tensor:
    """Rounds float32 levels from 0 to 255 to uint8, half to even."""
    return tf.cast(to_int32(levels), tf.uint8)


def rounded(product: tf.Tensor) -> tf.Tensor:
    """Returns a product of float32, which XLA then does not fuse with the sum that it is a term of.

    A fused multiply-add rounds once, not twice. Its result may be another grey level than that of TensorFlow's ops.
    """
    return tf.clip_by_value(product, tf.float32.min, tf.float32.max)


def apply_where(
    chosen: tf.Tensor, otherwise: tf.Tensor, function: Callable[..., tf.Tensor], *inputs: tf.Tensor
) -> tf.Tensor:
    """Returns `function(*inputs)` for the chosen images; on a CPU it is computed for them alone.

    Under XLA, and so on a GPU, it is computed for all images: shapes are static there.

    Args:
      chosen: [B] bool.
      otherwise: [B, ...]: the result for the other images.
      function: maps [N, ...] tensors to [N, ...], independently for each image, with the dtype of `otherwise`.
      inputs: [B, ...] tensors.

    Returns:
      [B, ...] of `otherwise`'s dtype.
    """
    if is_under_xla():
        wide = tf.reshape(chosen, [-1] + [1] * (len(otherwise.shape) - 1))
        return tf.where(wide, function(*inputs), otherwise)
    rows = tf.where(chosen)
    changed = function(*(tf.gather_nd(each, rows) for each in inputs))
    return tf.tensor_scatter_nd_update(otherwise, rows, changed)
