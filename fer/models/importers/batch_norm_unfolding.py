"""Unfolding of batch normalization that a published network has folded into its convolutions.

Networks for inference are distributed with the statistics of BatchNormalization folded into kernels and biases. Folded
layers cannot be trained as before: a BatchNormalization that is the identity would change the network in training,
where it normalizes by the statistics of the batch. So the statistics are measured on faces. The function of the network
does not change.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from fer.models.normalization import Normalization

BATCH = 128  # faces a forward pass
MIN_DEVIATION = 1e-6  # for channels that are constant over all faces


@dataclasses.dataclass(frozen=True)
class Convolution:
    """Convolution with the scale and shift that follow it: (kernel * x + bias) * scale + shift."""

    kernel: np.ndarray  # float32 [height, width, in, out], or [height, width, channels, 1] of a depthwise convolution
    bias: np.ndarray  # float32 [out]
    scale: np.ndarray  # float32 [out]
    shift: np.ndarray  # float32 [out]


def load(
    model: tf.keras.Model, convolutions: Mapping[str, Convolution], normalization: Normalization, images: np.ndarray
) -> None:
    """Loads convolutions without batch normalization into a network that has it.

    Args:
      model: backbone with three input channels.
      convolutions: by the names of their layers, NAME or NAME_conv, which NAME_bn follows; from input to output.
      normalization: of the network's input.
      images: [N, 48, 48, 1] uint8, faces on which the statistics of each convolution are measured.
    """
    for name, each in convolutions.items():
        model.get_layer(name).set_weights([each.kernel])
        norm = _get_normalization(model, name)
        shift = each.shift + each.scale * each.bias
        norm.set_weights([each.scale, shift, np.zeros_like(shift), np.full_like(shift, 1 - norm.epsilon)])
    statistics = _measure_statistics(model, list(convolutions), normalization, images)
    for (name, each), (mean, variance) in zip(convolutions.items(), statistics):
        _unfold(model, name, each, mean, variance)


def _get_normalization(model: tf.keras.Model, name: str) -> tf.keras.layers.BatchNormalization:
    return model.get_layer(f"{name.removesuffix('_conv')}_bn")


def _measure_statistics(
    model: tf.keras.Model, names: list[str], normalization: Normalization, images: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Measures mean and variance of the channels of each convolution, float64 [out], over faces and positions."""
    convolutions = tf.keras.Model(model.input, [model.get_layer(name).output for name in names])
    side = model.input_shape[1]

    @tf.function(autograph=False)
    def moments(faces: tf.Tensor) -> list[tuple[tf.Tensor, tf.Tensor]]:
        outputs = convolutions(
            tf.image.resize(faces, [side, side]) * normalization.scale + normalization.offset, training=False
        )
        return [(tf.reduce_mean(each, [0, 1, 2]), tf.reduce_mean(each**2, [0, 1, 2])) for each in outputs]

    means = [np.zeros(1)] * len(names)
    squares = [np.zeros(1)] * len(names)
    for start in range(0, len(images), BATCH):
        faces = images[start : start + BATCH]
        for place, (mean, square) in enumerate(moments(faces)):
            means[place] = means[place] + mean.numpy().astype(np.float64) * len(faces) / len(images)
            squares[place] = squares[place] + square.numpy().astype(np.float64) * len(faces) / len(images)
    return [(mean, square - mean**2) for mean, square in zip(means, squares)]


def _unfold(model: tf.keras.Model, name: str, each: Convolution, mean: np.ndarray, variance: np.ndarray) -> None:
    """Scales the convolution to outputs of variance 1, which its batch normalization compensates.

    Folded kernels may be so small that the variance of their outputs is near the epsilon of a normalization; an
    optimizer's first steps would be far too large for them.
    """
    deviation = np.sqrt(variance.clip(0)).clip(MIN_DEVIATION)  # rounding may give a constant channel -1e-9
    convolution, norm = model.get_layer(name), _get_normalization(model, name)
    depthwise = isinstance(convolution, tf.keras.layers.DepthwiseConv2D)
    convolution.set_weights([each.kernel / (deviation[:, np.newaxis] if depthwise else deviation)])
    variance = variance.clip(0) / deviation**2
    gamma = each.scale * deviation * np.sqrt(variance + norm.epsilon)
    beta = each.shift + each.scale * (each.bias + mean)
    norm.set_weights([gamma, beta, mean / deviation, variance])
