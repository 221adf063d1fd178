"""Inference graph of a classifier on disk, which loads in a tenth of the time that Keras needs to build the model.

The file is a GraphDef from `FACES`, uint8 [B, 48, 48, 1], to `LOGITS`, float32 [B, C]. The weights are placeholders,
whose values come from the .npz beside the file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import convert_to_constants

from fer.errors import UserError
from fer.io import files
from fer.labels import SIDE

FACES, LOGITS, WEIGHT = (
    "faces",
    "logits",
    "weight_",
)  # names of nodes; a weight's name ends with its position in `model.weights`


def write(model: tf.keras.Model, path: str) -> None:
    """Writes the inference graph of a classifier.

    Args:
      model: from uint8 [B, 48, 48, 1] to logits [B, C].
      path: of the file.

    Raises:
      StorageError: the file cannot be written.
    """
    signature = [tf.TensorSpec([None, SIDE, SIDE, 1], tf.uint8, name=FACES)]
    function = tf.function(
        lambda faces: tf.cast(model(faces, training=False), tf.float32), signature, autograph=False
    ).get_concrete_function()
    position = {id(weight.handle): number for number, weight in enumerate(model.weights)}
    names = {
        inside.op.name: f"{WEIGHT}{position[id(outside)]}"
        for outside, inside in function.graph.captures
        if id(outside) in position
    }
    frozen = convert_to_constants.convert_variables_to_constants_v2(function, lower_control_flow=False)
    names[frozen.outputs[0].op.name] = LOGITS
    graph = frozen.graph.as_graph_def()
    for node in graph.node:
        node.name = names.get(node.name, node.name)
        if node.name.startswith(WEIGHT):
            shape = node.attr["value"].tensor.tensor_shape
            node.attr["shape"].shape.CopyFrom(shape)
            del node.attr["value"]
            node.op = "Placeholder"
        node.input[:] = [_rename_input(source, names) for source in node.input]
    files.write_bytes(path, graph.SerializeToString(deterministic=True))


def read(path: str, arrays: Sequence[np.ndarray]) -> Callable[..., tf.Tensor]:
    """Reads a graph that `write` wrote. The file must be trusted, because a graph can contain any op.

    Args:
      path: of the file.
      arrays: the weights, in the order of the model's.

    Returns:
      A function of (faces, training=False), to be called in a graph, that returns logits float32 [B, C].

    Raises:
      StorageError: the file cannot be read now.
      UserError: the file is missing or damaged, or belongs to other weights.
    """
    content = files.read_bytes(path, f"There is no graph {path}.")
    graph = tf.compat.v1.GraphDef()
    try:
        graph.ParseFromString(content)
        weights = {node.name: _load_weight(node, arrays) for node in graph.node if node.name.startswith(WEIGHT)}
    except Exception as error:  # protobuf's errors differ by its version
        raise UserError(f"{path} is no graph of these weights ({files.error_message(error)}).") from error

    def network(faces: tf.Tensor, training: bool = False) -> tf.Tensor:
        if training:
            raise ValueError("An inference graph cannot be trained.")
        given = {FACES: faces, **{name: faces.graph.capture(weight) for name, weight in weights.items()}}
        (logits,) = tf.graph_util.import_graph_def(graph, given, [f"{LOGITS}:0"], name="network")
        return tf.ensure_shape(logits, [faces.shape[0], None])

    return network


def _rename_input(source: str, names: dict[str, str]) -> str:
    """Renames an input of a node: "name", "name:1" or "^name"."""
    control, rest = ("^", source[1:]) if source.startswith("^") else ("", source)
    name, colon, output = rest.partition(":")
    return f"{control}{names.get(name, name)}{colon}{output}"


def _load_weight(node: tf.compat.v1.NodeDef, arrays: Sequence[np.ndarray]) -> tf.Tensor:
    """Returns the value of a placeholder.

    Raises:
      ValueError, IndexError: its array is missing or has another shape.
    """
    array = arrays[int(node.name.removeprefix(WEIGHT))]
    shape = tuple(size.size for size in node.attr["shape"].shape.dim)
    if array.shape != shape:
        raise ValueError(f"{node.name} has the shape {shape}, and the array {array.shape}")
    return tf.constant(array, tf.dtypes.as_dtype(node.attr["dtype"].type))
