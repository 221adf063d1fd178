"""Execution of pixel ops: compiled by XLA on a CPU, op by op on a GPU, with the same bytes.

On a CPU, each TensorFlow op passes over all pixels. XLA fuses a whole change into one loop, which is two to five times
faster, so changes of every pixel are compiled (`xla_on_cpu`). Expensive, rare ops run only on the images that need them
(`apply_where`): the batch is partitioned once, without a branch for each image. The figures are measured by
`scripts/benchmark.py --suite=augment`.

On a GPU, ops run uncompiled, and the warp is TensorFlow's kernel. Under `jit_compile` of the caller (`under_xla`), no
shape depends on random numbers, and no kernel is used that XLA lacks.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator
from typing import Any

from fer.lazy_modules import tf

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


def index_type() -> tf.DType:
    """Returns the dtype of indices: int64 on a GPU, where TensorFlow computes int32 in host memory."""
    return tf.int32 if on_cpu() else tf.int64


def xla_on_cpu(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates a function of tensors of static shapes: on a CPU it is compiled by XLA.

    The function must not draw random numbers: XLA draws others than TensorFlow from the same seed.
    """

    @functools.cache
    def compiled() -> Callable[..., Any]:  # at the first call, because tf.function needs TensorFlow
        from fer import tf_workarounds

        tf_workarounds.release_at_exit(compiled.cache_clear)
        return tf.function(function, autograph=False, jit_compile=True)

    @functools.wraps(function)
    def run(*arguments: Any) -> Any:
        return (compiled() if on_cpu() else function)(*arguments)

    return run


def apply_where(
    chosen: tf.Tensor, otherwise: tf.Tensor, function: Callable[..., tf.Tensor], *inputs: tf.Tensor
) -> tf.Tensor:
    """Returns `function(*inputs)` for the chosen images; on a CPU it is computed for them alone.

    On a GPU and under XLA it is computed for all images, because dynamic shapes cost more there than they save.

    Args:
      chosen: [B] bool.
      otherwise: [B, ...]: the result for the other images.
      function: maps [N, ...] tensors to [N, ...], independently for each image, with the dtype of `otherwise`.
      inputs: [B, ...] tensors.

    Returns:
      [B, ...] of `otherwise`'s dtype.
    """
    if is_under_xla() or not on_cpu():
        wide = tf.reshape(chosen, [-1] + [1] * (len(otherwise.shape) - 1))
        return tf.where(wide, function(*inputs), otherwise)
    rows = tf.where(chosen)
    changed = function(*(tf.gather_nd(each, rows) for each in inputs))
    return tf.tensor_scatter_nd_update(otherwise, rows, changed)
