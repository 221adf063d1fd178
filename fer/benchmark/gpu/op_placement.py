"""Finds the ops of a step that run on the host.

The partitioned graphs that TensorFlow passes to its devices show ops without a GPU kernel (`executed_nodes`). They do
not show ops whose GPU kernel computes in host memory, like that of nearly all int32 arithmetic: TensorFlow places them
on the GPU, but the host waits for the GPU, and their tensors are copied in both directions. TensorFlow's kernel
registry lists both kinds (`find_host_ops`, which needs no GPU).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.framework.kernel_def_pb2 import KernelDef
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.framework.op_def_pb2 import OpDef
from tensorflow.python.eager import context  # the public API returns partitioned graphs only for tf.Session
from tensorflow.python.framework import function_def_to_graph, kernels, op_def_registry

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


SHAPE_OPS = frozenset({"Shape", "ShapeN", "Size", "Rank"})  # known on the host without a transfer
RANDOM_OPS = ("StatelessRandomUniform", "StatelessRandomNormal", "StatelessRandomGamma", "StatelessTruncatedNormal")


class HostOp(NamedTuple):
    """Op that computes on the host from tensors of the GPU."""

    name: str
    op: str
    why: str


def find_host_ops(graph: tf.Graph) -> list[HostOp]:
    """Returns the ops of a graph and its functions that would compute on the host from tensors of a GPU.

    A GPU has the inputs of the graph, variables, random numbers and everything computed from them on the GPU. Seeds of
    random numbers (`fer.rng`) are excluded because they stay on the host, and functions that XLA compiles, because
    XLA computes all of their ops on the GPU.
    """
    functions = [each for each in graph.as_graph_def().library.function if not each.attr["_XlaMustCompile"].b]
    inner = (function_def_to_graph.function_def_to_graph(each) for each in functions)
    return [found for each in (graph, *inner) for found in _find_in_graph(each)]


def _find_in_graph(graph: tf.Graph) -> Iterator[HostOp]:
    device_tensors: set[str] = set()  # names of the tensors in GPU memory
    for operation in graph.get_operations():
        if operation.type in SHAPE_OPS or rng.is_seed_op(operation.name):
            continue
        definition, kernel = op_def_registry.get(operation.type), choose_kernel(operation.node_def)
        read_by_host = set(kernel.host_memory_arg) if kernel else set()
        device_inputs = [
            (name, tensor)
            for name, tensor in zip(_argument_names(operation, definition.input_arg), operation.inputs)
            if tensor.name in device_tensors and tensor.dtype != tf.resource
        ]
        is_source = operation.type in ("Placeholder", "ReadVariableOp") or operation.type.startswith(RANDOM_OPS)
        if kernel and (device_inputs or is_source):
            outputs = zip(_argument_names(operation, definition.output_arg), operation.outputs)
            device_tensors.update(tensor.name for name, tensor in outputs if is_source or name not in read_by_host)
        if device_inputs and not kernel:
            dtypes = ", ".join(tensor.dtype.name for tensor in operation.inputs)
            yield HostOp(operation.name, operation.type, f"no GPU kernel for {dtypes}")
        read = next((tensor for name, tensor in device_inputs if name in read_by_host), None)
        if read is not None:
            yield HostOp(operation.name, operation.type, f"the host reads {read.dtype.name} {read.shape}")


def _argument_names(operation: tf.Operation, definitions: Iterable[OpDef.ArgDef]) -> list[str]:
    """Returns the argument name of each input or output; an argument may be a list of tensors."""
    names: list[str] = []
    for argument in definitions:
        count = 1
        if argument.number_attr:
            count = operation.get_attr(argument.number_attr)
        elif argument.type_list_attr:
            count = len(operation.get_attr(argument.type_list_attr))
        names += [argument.name] * count
    return names


@functools.cache
def _gpu_kernels(operation: str) -> list[KernelDef]:
    """Returns the registered kernels for GPUs, before those for any device."""
    found = kernels.get_registered_kernels_for_op(operation).kernel
    return [each for kind in ("GPU", "DEFAULT") for each in found if each.device_type == kind]


def choose_kernel(node: NodeDef) -> KernelDef | None:
    """Returns the kernel that TensorFlow would choose on a GPU; None if there is none."""

    def fits(kernel: KernelDef) -> bool:
        return all(
            node.attr[each.name].type in (0, *each.allowed_values.list.type)
            for each in kernel.constraint
            if each.name in node.attr
        )

    return next(filter(fits, _gpu_kernels(node.op)), None)
