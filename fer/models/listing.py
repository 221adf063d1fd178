"""The list of models: what each costs at the size that it is meant for."""

from __future__ import annotations

from collections.abc import Iterator

import tensorflow as tf

from fer.config import Model
from fer.models import classifier, keras_cv_presets, registry
from fer.models.classifier import SIDE


def lines() -> Iterator[str]:
    """The table that `--list_models` prints, a line as soon as it is known: each model is built for it."""
    yield "Multiply-adds are of one face at the default size; a multiplication and an addition count as one."
    yield f"{'name':<22}{'parameters':>14}{'multiply-adds':>16}{'size':>8}"
    for name, chosen in registry.BACKBONES.items():
        tf.keras.backend.clear_session()  # else Keras keeps every model that was built
        model = classifier.build(Model(name=name), "float32")
        yield f"{name:<22}{model.count_params():>14,}{multiply_adds(model) / 1e6:>14,.0f} M{chosen.size:>5} px"
    yield "By preset, with KerasCV's architecture: " + ", ".join(keras_cv_presets.names())


def multiply_adds(model: tf.keras.Model) -> int:
    """What a classifier computes for one face in its convolutions and dense layers, as publications count it."""
    face = tf.TensorSpec([1, SIDE, SIDE, 1], tf.uint8)
    graph = tf.function(lambda faces: model(faces, training=False), autograph=False).get_concrete_function(face).graph
    total = 0
    for operation in graph.get_operations():
        if operation.type not in ("Conv2D", "DepthwiseConv2dNative", "MatMul"):
            continue
        output, kernel = operation.outputs[0].shape.num_elements(), operation.inputs[1].shape
        # Multiplications for a value: a kernel's height, width and input channels; a matrix' rows.
        each = {"Conv2D": kernel[:-1], "DepthwiseConv2dNative": kernel[:2], "MatMul": kernel[:1]}[operation.type]
        total += output * each.num_elements()
    return total
