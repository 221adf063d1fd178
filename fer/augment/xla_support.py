"""How a change of pixels is carried out: as measured by `scripts/benchmark.py --suite=augment`, and the same bytes.

On a CPU, TensorFlow's own operations pass over all pixels once each. XLA makes one loop of a whole change, which is
two to five times faster, so changes that visit every pixel are compiled (`fused`). What few images draw and what costs
much is computed for those images alone (`only`): a partition of the batch, not a branch an image.

On a GPU, operations are launched as they stand, and the warp is TensorFlow's kernel. A caller that compiles its whole
step by XLA says `xla=True`: then nothing may have a shape that the draws decide, nor a kernel that XLA lacks.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

_AS_ON_GPU: contextvars.ContextVar[bool] = contextvars.ContextVar("as_on_gpu", default=False)


def on_cpu() -> bool:
    """Whether there is no GPU."""
    return not (_AS_ON_GPU.get() or tf.config.list_logical_devices("GPU"))


@contextlib.contextmanager
def as_on_gpu() -> Iterator[None]:
    """Within it, changes are built as for a GPU, whether there is one or not: to look at what is built."""
    token = _AS_ON_GPU.set(True)
    try:
        yield
    finally:
        _AS_ON_GPU.reset(token)


def index_type() -> tf.DType:
    """Of numbers that say where: int64 on a GPU, since TensorFlow computes int32 there in the host's memory."""
    return tf.int32 if on_cpu() else tf.int64


def xla_on_cpu(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles `function` by XLA on a CPU; it takes and returns tensors of shapes known beforehand.

    The random numbers stay outside: XLA draws others than TensorFlow from the same seed.
    """
    compiled = tf.function(function, autograph=False, jit_compile=True)

    @functools.wraps(function)
    def run(*arguments: Any) -> Any:
        return (compiled if on_cpu() else function)(*arguments)

    return run


def apply_where(
    chosen: tf.Tensor, otherwise: tf.Tensor, function: Callable[..., tf.Tensor], *inputs: tf.Tensor, xla: bool = False
) -> tf.Tensor:
    """`function(*inputs)` for the chosen images, computed for them alone where the device gains by it.

    Args:
      chosen: [B] bool.
      otherwise: [B, ...]: what the others are.
      function: of [N, ...] tensors, each image by itself; returns [N, ...] as in `otherwise`.
      inputs: [B, ...] tensors.
      xla: see above; every image is computed then, as on a GPU, where shapes that change cost more than they save.

    Returns:
      [B, ...] of `otherwise`'s dtype.
    """
    if xla or not on_cpu():
        wide = tf.reshape(chosen, [-1] + [1] * (len(otherwise.shape) - 1))
        return tf.where(wide, function(*inputs), otherwise)
    rows = tf.where(chosen)
    changed = function(*(tf.gather_nd(each, rows) for each in inputs))
    return tf.tensor_scatter_nd_update(otherwise, rows, changed)
