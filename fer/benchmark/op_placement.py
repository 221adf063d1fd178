"""Where operations really run: read from the partitioned graph, what TensorFlow hands to its devices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable, NamedTuple

import tensorflow as tf
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.python.eager import context  # the public API gives graphs to callbacks of tf.Session alone

from fer import rng

# What moves data between devices, or hands them in and out of a function. A computation is none of these.
TRANSFERS = frozenset({"_Arg", "_Retval", "_DeviceArg", "_DeviceRetval", "_Send", "_Recv", "_HostSend", "_HostRecv"})
STILL = frozenset({"NoOp", "Const", "Identity"})  # computes nothing


class Node(NamedTuple):
    """An operation of a partition."""

    name: str
    op: str
    device: str  # such as GPU:0
    dtype: tf.DType | None  # of its attribute T
    compiled: bool  # by XLA, with all that it calls


def placed(call: Callable[[], Any]) -> list[Node]:
    """Makes the first call of a tf.function, and returns the operations of its partitions.

    Raises:
      ValueError: it was called before, so that its graph is not made any more.
    """
    context.enable_run_metadata()
    try:
        tf.function(lambda: tf.zeros([]), autograph=False)()  # with it come graphs that an earlier call left over
        context.export_run_metadata()
        call()
        graphs = context.export_run_metadata().partition_graphs
    finally:
        context.disable_run_metadata()
    if not graphs:
        raise ValueError("there is no partitioned graph: the function was called before")
    return [node for graph in graphs for node in _nodes(graph)]


def on_other_devices(nodes: Sequence[Node], device: str) -> list[Node]:
    """The operations that compute, but not on `device`; seeds, which are the host's on purpose, are left out."""
    return [
        node
        for node in nodes
        if node.device != device and node.op not in TRANSFERS | STILL and not rng.is_seed_op(node.name)
    ]


def _nodes(graph: GraphDef) -> list[Node]:
    return [
        Node(
            name=node.name,
            op=node.op,
            device=":".join(node.device.rsplit(":", 2)[-2:]),
            dtype=tf.dtypes.as_dtype(node.attr["T"].type) if node.attr["T"].type else None,
            compiled=node.attr["_XlaMustCompile"].b or node.op in ("XlaLaunch", "XlaLaunchV2", "_XlaRun"),
        )
        for node in graph.node
    ]
