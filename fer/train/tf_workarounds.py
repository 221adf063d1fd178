"""What tracing leaves in the process, taken out again once a run is over."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tensorflow.python.framework import ops

CUSTOM_GRADIENT_PREFIX = "CustomGradient-"  # as tf.custom_gradient names what it registers


@contextlib.contextmanager
def release_custom_gradients() -> Iterator[None]:
    """Within it, functions may be traced whose custom gradients nobody asks for afterwards.

    TensorFlow registers each custom gradient of a graph, such as that of a sum over replicas, for as long as the
    process lives, and what is registered holds the graph: 25 MiB and more a run, which a sweep would add up. There is
    no public way to take one back.
    """
    registry = ops.gradient_registry._registry
    before = set(registry)
    try:
        yield
    finally:
        for name in set(registry) - before:
            if name.startswith(CUSTOM_GRADIENT_PREFIX):
                del registry[name]
