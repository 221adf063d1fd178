"""GoogLeNet, the first Inception network (Szegedy et al. 2014, arXiv:1409.4842), which Keras lacks.

The layers are those of its table 1. Batch normalization follows each convolution (Ioffe and Szegedy 2015,
arXiv:1502.03167); without it, the network hardly trains from random weights. `normalize=False` uses the local response
normalization of the publication instead. The auxiliary heads are in `fer.models.heads`.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

layers = tf.keras.layers

# Filters of each module: 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool projection. Pooling separates the stages.
STAGES = (
    {"3a": (64, 96, 128, 16, 32, 32), "3b": (128, 128, 192, 32, 96, 64)},
    {
        "4a": (192, 96, 208, 16, 48, 64),
        "4b": (160, 112, 224, 24, 64, 64),
        "4c": (128, 128, 256, 24, 64, 64),
        "4d": (112, 144, 288, 32, 64, 64),
        "4e": (256, 160, 320, 32, 128, 128),
    },
    {"5a": (256, 160, 320, 32, 128, 128), "5b": (384, 192, 384, 48, 128, 128)},
)
AUXILIARY = ("inception4a_out", "inception4d_out")  # inputs of the auxiliary heads


class LocalResponseNormalization(tf.keras.layers.Layer):
    """Division by (1 + 1e-4 / 5 * the sum of squares over 5 channels) ** 0.75.

    The form is that of Krizhevsky et al. 2012, section 3.3, the constants are those of Caffe's GoogLeNet.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Normalizes over five neighbouring channels."""
        return tf.nn.local_response_normalization(inputs, depth_radius=2, bias=1.0, alpha=1e-4 / 5, beta=0.75)


def googlenet(side: int, channels: int, normalize: bool, name: str) -> tf.keras.Model:
    """Builds the backbone.

    Args:
      side: pixels of the square input.
      channels: of the input.
      normalize: True: batch normalization after each convolution; False: local response normalization in the stem.
      name: of the model.

    Returns:
      A model from [B, side, side, channels] to features [B, side / 32, side / 32, 1024].
    """
    inputs = tf.keras.Input([side, side, channels])
    x = _convolution(inputs, 64, 7, "stem1", normalize, stride=2)
    x = layers.MaxPooling2D(3, 2, "same", name="stem1_pool")(x)
    x = x if normalize else LocalResponseNormalization(dtype="float32", name="stem1_lrn")(x)
    x = _convolution(x, 64, 1, "stem2", normalize)
    x = _convolution(x, 192, 3, "stem3", normalize)
    x = x if normalize else LocalResponseNormalization(dtype="float32", name="stem3_lrn")(x)
    x = layers.MaxPooling2D(3, 2, "same", name="stem_out")(x)
    for number, stage in enumerate(STAGES):
        if number:
            x = layers.MaxPooling2D(3, 2, "same", name=f"pool{number + 2}")(x)
        for module, widths in stage.items():
            x = _inception(x, widths, f"inception{module}", normalize)
    return tf.keras.Model(inputs, x, name=name)


def _inception(x: tf.Tensor, widths: Sequence[int], name: str, normalize: bool) -> tf.Tensor:
    """Builds a module of four parallel branches."""
    one, three_reduce, three, five_reduce, five, projection = widths
    branches = [
        _convolution(x, one, 1, f"{name}_1x1", normalize),
        _convolution(
            _convolution(x, three_reduce, 1, f"{name}_3x3_reduce", normalize), three, 3, f"{name}_3x3", normalize
        ),
        _convolution(
            _convolution(x, five_reduce, 1, f"{name}_5x5_reduce", normalize), five, 5, f"{name}_5x5", normalize
        ),
        _convolution(
            layers.MaxPooling2D(3, 1, "same", name=f"{name}_pool")(x), projection, 1, f"{name}_projection", normalize
        ),
    ]
    return layers.Concatenate(name=f"{name}_out")(branches)


def _convolution(x: tf.Tensor, width: int, kernel: int, name: str, normalize: bool, stride: int = 1) -> tf.Tensor:
    x = layers.Conv2D(
        width,
        kernel,
        stride,
        "same",
        use_bias=not normalize,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    x = layers.BatchNormalization(epsilon=1e-3, name=f"{name}_bn")(x) if normalize else x
    return layers.ReLU(name=f"{name}_relu")(x)
