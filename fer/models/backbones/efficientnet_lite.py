"""EfficientNet-Lite0 to Lite2: EfficientNet for integer hardware.

EfficientNet (Tan and Le 2019, arXiv:1905.11946) without squeeze-and-excitation, with ReLU6 instead of swish. The
widths of stem and head and the depths of the first and last stage are not scaled (github.com/tensorflow/tpu,
models/official/efficientnet/lite). Layers are named stem, block0 to block15 or more, and head, which are also the names
in `layer/index` keys of weight files.
"""

from __future__ import annotations

import math

import tensorflow as tf

layers = tf.keras.layers

# repeats, kernel, stride, expansion, width
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
MAX_DROP_RATE = 0.2  # stochastic depth: rate at which the last residual branch is dropped; earlier ones linearly less


def efficientnet_lite(side: int, channels: int, width: float, depth: float, name: str) -> tf.keras.Model:
    """Builds the backbone.

    Args:
      side: pixels of the square input.
      channels: of the input.
      width: factor of the stages' channels.
      depth: factor of the stages' repeats.
      name: of the model.

    Returns:
      A model from [B, side, side, channels] to features [B, side / 32, side / 32, 1280].
    """
    inputs = tf.keras.Input([side, side, channels])
    x = _convolution(inputs, 32, 3, 2, "stem")
    repeats = [
        stage[0] if number in (0, len(STAGES) - 1) else math.ceil(depth * stage[0])
        for number, stage in enumerate(STAGES)
    ]
    block = 0
    for count, (_, kernel, stride, expansion, channels_out) in zip(repeats, STAGES):
        for position in range(count):
            drop = MAX_DROP_RATE * block / sum(repeats)
            out = _round_width(width * channels_out)
            x = _block(x, out, (kernel, 1 if position else stride), expansion, drop, f"block{block}")
            block += 1
    x = _convolution(x, 1280, 1, 1, "head")
    return tf.keras.Model(inputs, x, name=name)


def _block(
    x: tf.Tensor, width: int, kernel_and_stride: tuple[int, int], expansion: int, drop: float, name: str
) -> tf.Tensor:
    inputs, (kernel, stride) = x, kernel_and_stride
    if expansion > 1:
        x = _convolution(x, expansion * x.shape[-1], 1, 1, f"{name}_expand")
    x = layers.DepthwiseConv2D(
        kernel, stride, "same", use_bias=False, depthwise_initializer=_initializer(), name=f"{name}_dwconv"
    )(x)
    x = layers.BatchNormalization(epsilon=1e-3, name=f"{name}_dw_bn")(x)
    x = layers.ReLU(6.0, name=f"{name}_dw_relu")(x)
    x = layers.Conv2D(width, 1, use_bias=False, kernel_initializer=_initializer(), name=f"{name}_project_conv")(x)
    x = layers.BatchNormalization(epsilon=1e-3, name=f"{name}_project_bn")(x)
    if stride == 1 and inputs.shape[-1] == width:
        x = layers.Dropout(drop, noise_shape=(None, 1, 1, 1), name=f"{name}_drop")(x)
        x = layers.Add(name=f"{name}_add")([inputs, x])
    return x


def _convolution(x: tf.Tensor, width: int, kernel: int, stride: int, name: str) -> tf.Tensor:
    x = layers.Conv2D(
        width, kernel, stride, "same", use_bias=False, kernel_initializer=_initializer(), name=f"{name}_conv"
    )(x)
    x = layers.BatchNormalization(epsilon=1e-3, name=f"{name}_bn")(x)
    return layers.ReLU(6.0, name=f"{name}_relu")(x)


def _round_width(width: float) -> int:
    """Rounds to a multiple of 8 that is at least 0.9 * width."""
    nearest = max(8, int(width + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * width else nearest + 8


def _initializer() -> tf.keras.initializers.Initializer:
    """Returns the initializer of Keras' EfficientNet, a new one for each layer: a shared one repeats its values."""
    return tf.keras.initializers.VarianceScaling(2.0, mode="fan_out", distribution="truncated_normal")
