"""Workaround for graphs that TensorFlow keeps in memory after a run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tensorflow.python.framework import ops

CUSTOM_GRADIENT_PREFIX = "CustomGradient-"  # prefix of the names that tf.custom_gradient registers


@contextlib.contextmanager
def release_custom_gradients() -> Iterator[None]:
    """Removes, at the end of the context, the custom gradients that were registered within it.

    TensorFlow registers each custom gradient of a graph, such as that of a sum over replicas, for the lifetime of the
    process, and a registered gradient holds the graph: 25 MiB or more per run, which would add up in a sweep. There is
    no public function to unregister one.
    """
    registry = ops.gradient_registry._registry
    before = set(registry)
    try:
        yield
    finally:
        for name in set(registry) - before:
            if name.startswith(CUSTOM_GRADIENT_PREFIX):
                del registry[name]
