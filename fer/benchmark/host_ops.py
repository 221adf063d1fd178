"""Finds the ops of a graph that would compute in host memory on a GPU; needs no GPU.

The partitioned graph (`op_placement`) shows ops without a GPU kernel. It does not show ops whose GPU kernel computes in
host memory, like that of nearly all int32 arithmetic: TensorFlow places them on the GPU, but the host waits for the
GPU, and their tensors are copied in both directions. TensorFlow's kernel registry lists both kinds.
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
    random numbers (`fer.rng`) are excluded because they stay on the host.
    """
    inner = (function_def_to_graph.function_def_to_graph(each) for each in graph.as_graph_def().library.function)
    return [found for each in (graph, *inner) for found in _find_in_graph(each)]


def _find_in_graph(graph: tf.Graph) -> Iterator[HostOp]:
    device_tensors: set[str] = set()  # names of the tensors in GPU memory
    for operation in graph.get_operations():
        if operation.type in SHAPE_OPS or rng.is_seed_op(operation.name):
            continue
        definition, kernel = op_def_registry.get(operation.type), _choose_kernel(operation.node_def)
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


def _choose_kernel(node: NodeDef) -> KernelDef | None:
    """Returns the kernel that TensorFlow would choose on a GPU; None if there is none."""

    def fits(kernel: KernelDef) -> bool:
        return all(
            node.attr[each.name].type in (0, *each.allowed_values.list.type)
            for each in kernel.constraint
            if each.name in node.attr
        )

    return next(filter(fits, _gpu_kernels(node.op)), None)
