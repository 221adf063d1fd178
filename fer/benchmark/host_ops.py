"""What TensorFlow would compute in the host's memory although a device is a GPU: read from a graph, without a GPU.

The partitioned graph (`placement`) shows operations that have no kernel for GPUs. It does not show those whose kernel
for GPUs computes on the host, as that of nearly all arithmetic in int32 does: they count as the GPU's, yet the host
waits until the GPU has reached them, and their numbers go to and fro. TensorFlow's list of kernels knows both kinds.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import tensorflow as tf
from tensorflow.core.framework.kernel_def_pb2 import KernelDef
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.framework.op_def_pb2 import OpDef
from tensorflow.python.framework import function_def_to_graph, kernels, op_def_registry

from fer import rng

METADATA = frozenset({"Shape", "ShapeN", "Size", "Rank"})  # the host knows these without asking the device
DRAWS = ("StatelessRandomUniform", "StatelessRandomNormal", "StatelessRandomGamma", "StatelessTruncatedNormal")


class OnHost(NamedTuple):
    """An operation that waits for numbers of the device."""

    name: str
    op: str
    why: str


def on_host(graph: tf.Graph) -> list[OnHost]:
    """The operations that would compute on the host from what a GPU has: a graph's inputs, variables, random numbers.

    Left out are the seeds of random numbers (`fer.rng`), which are the host's from the beginning to the end.
    """
    inner = (function_def_to_graph.function_def_to_graph(each) for each in graph.as_graph_def().library.function)
    return [found for each in (graph, *inner) for found in _on_host(each)]


def _on_host(graph: tf.Graph) -> Iterator[OnHost]:
    of_device: set[str] = set()  # names of the tensors that a GPU has
    for operation in graph.get_operations():
        if operation.type in METADATA or rng.is_seed_op(operation.name):
            continue
        definition, kernel = op_def_registry.get(operation.type), _kernel(operation.node_def)
        read_by_host = set(kernel.host_memory_arg) if kernel else set()
        given = [
            (name, tensor)
            for name, tensor in zip(_arguments(operation, definition.input_arg), operation.inputs)
            if tensor.name in of_device and tensor.dtype != tf.resource
        ]
        begins = operation.type in ("Placeholder", "ReadVariableOp") or operation.type.startswith(DRAWS)
        if kernel and (given or begins):
            told = zip(_arguments(operation, definition.output_arg), operation.outputs)
            of_device.update(tensor.name for name, tensor in told if begins or name not in read_by_host)
        if given and not kernel:
            kinds = ", ".join(tensor.dtype.name for tensor in operation.inputs)
            yield OnHost(operation.name, operation.type, f"no kernel for GPUs takes {kinds}")
        read = next((tensor for name, tensor in given if name in read_by_host), None)
        if read is not None:
            yield OnHost(operation.name, operation.type, f"{read.dtype.name} {read.shape} is read by the host")


def _arguments(operation: tf.Operation, definitions: Iterable[OpDef.ArgDef]) -> list[str]:
    """The name of the argument that each input or output is of."""
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
def _kernels(operation: str) -> list[KernelDef]:
    """All that could compute it on a GPU; those of the very kind before those of every kind."""
    found = kernels.get_registered_kernels_for_op(operation).kernel
    return [each for kind in ("GPU", "DEFAULT") for each in found if each.device_type == kind]


def _kernel(node: NodeDef) -> KernelDef | None:
    """That which TensorFlow would choose on a GPU."""

    def fits(kernel: KernelDef) -> bool:
        return all(
            node.attr[each.name].type in (0, *each.allowed_values.list.type)
            for each in kernel.constraint
            if each.name in node.attr
        )

    return next(filter(fits, _kernels(node.op)), None)
