"""Reads the placement of ops from the partitioned graphs that TensorFlow passes to its devices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable, NamedTuple

import tensorflow as tf
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.python.eager import context  # the public API returns partitioned graphs only for tf.Session

from fer import rng

# Ops that move data between devices, or into and out of a function.
TRANSFERS = frozenset({"_Arg", "_Retval", "_DeviceArg", "_DeviceRetval", "_Send", "_Recv", "_HostSend", "_HostRecv"})
NO_COMPUTE = frozenset({"NoOp", "Const", "Identity"})  # ops that compute nothing


class Node(NamedTuple):
    """Op of a partition."""

    name: str
    op: str
    device: str  # such as GPU:0
    dtype: tf.DType | None  # of the attribute T
    compiled: bool  # whether XLA compiles it with the functions that it calls


def executed_nodes(call: Callable[[], Any]) -> list[Node]:
    """Calls a tf.function for the first time and returns the ops of its partitions.

    Raises:
      ValueError: the function was called before, so that TensorFlow builds no graph.
    """
    context.enable_run_metadata()
    try:
        tf.function(lambda: tf.zeros([]), autograph=False)()  # collects the graphs that an earlier call left over
        context.export_run_metadata()
        call()
        graphs = context.export_run_metadata().partition_graphs
    finally:
        context.disable_run_metadata()
    if not graphs:
        raise ValueError("There is no partitioned graph: the function was called before.")
    return [node for graph in graphs for node in _nodes_of(graph)]


def nodes_elsewhere(nodes: Sequence[Node], device: str) -> list[Node]:
    """Returns the computing ops on other devices than `device`, without the ops of seeds, which belong on the host."""
    return [
        node
        for node in nodes
        if node.device != device and node.op not in TRANSFERS | NO_COMPUTE and not rng.is_seed_op(node.name)
    ]


def _nodes_of(graph: GraphDef) -> list[Node]:
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
