"""Counts the kernels that a training step launches on a GPU, by stage. Needs no GPU.

The step is traced as for a GPU, and TensorFlow's graph optimizer (Grappler) optimizes its graph for a virtual GPU. Each
op of the result that has a GPU kernel and computes in GPU memory counts as one launch; some, such as sums, launch more.
An XLA cluster counts the instructions of the entry computation of its optimized HLO. That HLO is compiled for the CPU:
for a GPU, XLA fuses more. The body of a loop counts once.
"""

from __future__ import annotations

import collections
import copy
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import tensorflow as tf
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.protobuf import config_pb2, device_properties_pb2, meta_graph_pb2
from tensorflow.python.eager.polymorphic_function import compiler_ir
from tensorflow.python.framework import op_def_registry
from tensorflow.python.grappler import cluster, tf_optimizer

from fer import progress
from fer.augment.xla_support import as_on_gpu
from fer.benchmark.gpu import op_placement
from fer.benchmark.gpu.gpu_check import find_devices
from fer.benchmark.harness import Result
from fer.benchmark.train import EXPERIMENTS, build_training, draw_faces
from fer.config import Augment, Experiment, Model, Optimizer, Train
from fer.data.example_codec import Faces

DEVICE_PREFIX = "/job:localhost/replica:0/task:0/device:"
INCEPTION = Experiment(  # equal to configs/inception_v3.py
    model=Model(name="inception_v3", image_size=139, dropout=0.3),
    augment=Augment(policy="flip|affine(rotate=15,scale=0.1,shift=0.08,shear=0.1)"),
    optimizer=Optimizer(name="sgd", learning_rate=0.1, weight_decay=2e-3, warmup_epochs=5.0),
    train=Train(global_batch_size=256, ema_decay=0.9995, deterministic=False),
)
VIRTUAL_DEVICES = {"GPU:0": {"architecture": "9.0"}, "CPU:0": {}}

# Ops with a GPU kernel that launch nothing: they pass on buffers, or they call functions.
METADATA_OPS = {
    *("Const", "Placeholder", "VarHandleOp", "ReadVariableOp", "AssignVariableOp", "Identity", "IdentityN", "NoOp"),
    *("StopGradient", "PreventGradient", "Reshape", "ExpandDims", "Squeeze", *op_placement.SHAPE_OPS),
    *("If", "StatelessIf", "While", "StatelessWhile", "PartitionedCall", "StatefulPartitionedCall"),
}
METADATA_HLO = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "reshape"}
INSTRUCTION = re.compile(r"^  (?:ROOT )?%?[\w.-]+ = (?:\(.*?\)|\S+) ([a-z][a-z0-9-]*)\((.*)$", re.MULTILINE)
ROOT = re.compile(r"^%?([\w.-]+) \(.*?^  ROOT (.*?)$", re.MULTILINE | re.DOTALL)  # of a computation
CALLED = re.compile(r"to_apply=%?([\w.-]+)")
OP_NAME = re.compile(r'op_name="([^"]*)"')

INPUT_LAYERS = {"resize", "channels", "pixels"}  # of `fer.models.classifier.build`
INPUT, BACKWARD, OTHER = "resize_and_normalization", "backward", "other"
SCOPES = ("augmentation", "forward", "gradient_norm", "optimizer", "moving_average", "metrics")  # see `train_step`
STAGES = (*SCOPES[:1], INPUT, SCOPES[1], BACKWARD, *SCOPES[2:], OTHER)


def measure() -> list[Result]:
    """Counts the launches of a training step of each experiment of the suite `train`, and of Inception-v3."""
    experiments = {**EXPERIMENTS, "inception_v3": INCEPTION}
    faces = draw_faces(max(each.train.global_batch_size for each in experiments.values()))
    results = []
    for model, experiment in experiments.items():
        settings = copy.deepcopy(experiment)
        settings.train.precision = "mixed_bfloat16"
        with progress.stage(f"launches: tracing {model}"):
            counts = count_step(settings, faces)
        for stage, count in [*counts.items(), ("whole step", sum(counts.values()))]:
            name = f"kernels: {stage.replace('_', ' ')}: {settings.model.name}"
            results.append(Result("launches", name, count, "launches", count, count))
    return results


def count_step(experiment: Experiment, faces: Faces) -> dict[str, int]:
    """Returns the number of launches of one training step by stage."""
    (device,) = find_devices("CPU")
    with as_on_gpu():
        take_step, feed, _ = build_training(tf.distribute.OneDeviceStrategy(device), experiment, faces, 1)
        function = cast(Any, take_step).get_concrete_function(next(feed))
    return count_launches(function)


def count_launches(function: Any) -> dict[str, int]:
    """Counts the launches of a function by stage.

    Args:
      function: a concrete function, traced within `as_on_gpu`, that names the device CPU:0 for what the host computes.

    Returns:
      The number of launches of each of `STAGES`, named by the name scopes of `fer.train.train_step`.
    """
    counts = collections.Counter(dict.fromkeys(STAGES, 0))
    graph = optimize_for_gpu(function)
    bodies = [each.node_def for each in graph.library.function if not each.attr["_XlaMustCompile"].b]
    for node in (node for body in (graph.node, *bodies) for node in body):
        if node.attr["_XlaMustCompile"].b:
            counts.update(map(stage_of, _iter_hlo_names(function, node)))
        elif _launches(node):
            counts[stage_of(node.name)] += 1
    return dict(counts)


def optimize_for_gpu(function: Any) -> GraphDef:
    """Returns the graph of a concrete function with every op on a GPU, as Grappler optimizes it for that GPU.

    Ops on CPU:0, and those of variables there, stay on the host.
    """
    graph = function.graph
    on_host = {inner.op.name for outer, inner in graph.captures if outer.device.endswith("CPU:0")}
    meta = meta_graph_pb2.MetaGraphDef(graph_def=graph.as_graph_def(add_shapes=True))
    for body in (meta.graph_def.node, *(each.node_def for each in meta.graph_def.library.function)):
        for node in body:
            host = node.device.endswith("CPU:0") or not on_host.isdisjoint((node.name, *node.input))
            node.device = DEVICE_PREFIX + ("CPU:0" if host else "GPU:0")
    outputs = [tensor.op.name for tensor in graph.outputs] + [each.name for each in graph.control_outputs]
    meta.collection_def["train_op"].node_list.value.extend(outputs)  # what Grappler must keep
    devices = [
        device_properties_pb2.NamedDevice(
            name=DEVICE_PREFIX + name,
            properties=device_properties_pb2.DeviceProperties(
                type=name[:3], frequency=1000, num_cores=1, environment=environment
            ),
        )
        for name, environment in VIRTUAL_DEVICES.items()
    ]
    virtual = cluster.Cluster(devices=devices)
    return tf_optimizer.OptimizeGraph(config_pb2.ConfigProto(), meta, verbose=False, cluster=virtual)


def stage_of(name: str) -> str:
    """Returns the stage of an op by its name, which has the name scopes of `fer.train.train_step`."""
    scopes = [re.sub(r"_\d+$", "", scope) for scope in name.split("/")]
    if BACKWARD in scopes or "gradient_tape" in scopes:
        return BACKWARD
    if INPUT_LAYERS & set(scopes):
        return INPUT
    return next((scope for scope in scopes if scope in SCOPES), OTHER)


def _launches(node: NodeDef) -> bool:
    """Returns whether an op of an optimized graph launches a kernel of the GPU."""
    kernel = op_placement.choose_kernel(node)
    if node.op in METADATA_OPS or kernel is None or not node.device.endswith("GPU:0"):
        return False
    outputs = {each.name for each in op_def_registry.get(node.op).output_arg}
    return not outputs or not outputs <= set(kernel.host_memory_arg)


def iter_launching(hlo: str) -> Iterator[str]:
    """Yields the name of the TensorFlow op of each launching instruction of optimized HLO, "" before the first name.

    XLA names the op of most instructions. Others get the name of the one before. For a CPU, XLA splits long sums in
    two: a `reduce-window` without a name and a `reduce`, which count once, and it calls loops that several cores share.
    """
    roots, name = dict(ROOT.findall(hlo)), ""
    for opcode, rest in INSTRUCTION.findall(hlo[hlo.index("\nENTRY ") :]):
        called = CALLED.search(rest) if opcode == "call" else None
        called_root = roots[called[1]] if called else ""
        named = OP_NAME.search(called_root or rest)
        splits_sum = opcode == "reduce-window" or " reduce-window(" in called_root
        if opcode in METADATA_HLO or (splits_sum and not named):
            continue
        name = named[1] if named else name
        yield name


def _iter_hlo_names(function: Any, node: NodeDef) -> Iterator[str]:
    """Yields the name of the TensorFlow op of each launching instruction of an XLA cluster.

    Args:
      function: the concrete function that calls the cluster.
      node: the call.
    """
    call, handles = (
        function.graph.get_operation_by_name(node.name),
        {id(own): each for each, own in function.graph.captures},
    )
    arguments = [
        handles[id(each)] if each.dtype == tf.resource else tf.zeros(each.shape, each.dtype) for each in call.inputs
    ]
    called = SimpleNamespace(name=node.attr["f"].func.name, captured_inputs=arguments, structured_input_signature=())
    with tf.device(call.device):
        hlo = compiler_ir.from_concrete_function(called)(stage="optimized_hlo")
    yield from iter_launching(hlo)
