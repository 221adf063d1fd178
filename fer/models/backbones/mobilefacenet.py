"""MobileFaceNet (Chen et al. 2018, arXiv:1804.07573), a network of face recognition for small devices.

The variant is that of github.com/sirius-ai/MobileFaceNet_TF: bottlenecks of MobileNet v2 with PReLU instead of ReLU6, a
linear 1x1 convolution after each depthwise one, and an embedding of 192 values. Instead of average pooling, a global
depthwise convolution weights the 7x7 positions of the last map.
"""

from __future__ import annotations

import tensorflow as tf

layers = tf.keras.layers

# Bottlenecks of a stage: number, stride of the first, expansion, width.
STAGES = ((5, 2, 2, 64), (1, 2, 4, 128), (6, 1, 2, 128), (1, 2, 4, 128), (2, 1, 2, 128))
GLOBAL_KERNEL = 7  # side of the last map at 112 pixels
EMBEDDING = 192


def mobilefacenet(side: int, channels: int, name: str = "mobilefacenet") -> tf.keras.Model:
    """Builds the backbone.

    The kernel of the global depthwise convolution is 7x7 at every input size, so that the weights do not depend on the
    size. From 97 to 112 pixels it has one position. At other sizes it has several, which the head pools: above, the
    convolution is not padded either; below, where the last map is smaller than the kernel, the map is padded.

    Args:
      side: pixels of the square input; the authors' is 112.
      channels: of the input.
      name: of the model.

    Returns:
      A model from [B, side, side, channels] to the linear embedding [B, h, w, 192].
    """
    inputs = tf.keras.Input([side, side, channels])
    x = _prelu(_convolution(inputs, 64, 3, 2, "conv1"), "conv1")
    x = _prelu(_depthwise(x, 3, 1, "same", "conv2_dw"), "conv2_dw")
    x = _convolution(x, 64, 1, 1, "conv2_project")
    block = 0
    for count, stride, expansion, width in STAGES:
        for position in range(count):
            block += 1
            x = _bottleneck(x, width, 1 if position else stride, expansion, f"block{block}")
    x = _prelu(_convolution(x, 512, 1, 1, "conv7"), "conv7")
    x = _depthwise(x, GLOBAL_KERNEL, 1, "valid" if x.shape[1] >= GLOBAL_KERNEL else "same", "global_dw")
    x = _convolution(x, 512, 1, 1, "global_project")
    x = _convolution(x, EMBEDDING, 1, 1, "embedding")
    return tf.keras.Model(inputs, x, name=name)


def _bottleneck(x: tf.Tensor, width: int, stride: int, expansion: int, name: str) -> tf.Tensor:
    inputs = x
    x = _prelu(_convolution(x, expansion * x.shape[-1], 1, 1, f"{name}_expand"), f"{name}_expand")
    x = _prelu(_depthwise(x, 3, stride, "same", f"{name}_dw"), f"{name}_dw")
    x = _convolution(x, width, 1, 1, f"{name}_project")
    return layers.Add(name=f"{name}_add")([x, inputs]) if stride == 1 else x


def _convolution(x: tf.Tensor, width: int, kernel: int, stride: int, name: str) -> tf.Tensor:
    x = layers.Conv2D(
        width, kernel, stride, "same", use_bias=False, kernel_initializer="he_normal", name=f"{name}_conv"
    )(x)
    return layers.BatchNormalization(epsilon=1e-3, name=f"{name}_bn")(x)


def _depthwise(x: tf.Tensor, kernel: int, stride: int, padding: str, name: str) -> tf.Tensor:
    x = layers.DepthwiseConv2D(
        kernel, stride, padding, use_bias=False, depthwise_initializer="he_normal", name=f"{name}_conv"
    )(x)
    return layers.BatchNormalization(epsilon=1e-3, name=f"{name}_bn")(x)


def _prelu(x: tf.Tensor, name: str) -> tf.Tensor:
    """Applies leaky ReLU with a trained slope for each channel, which starts at 0.25 as the authors' does."""
    slope = tf.keras.initializers.Constant(0.25)
    return layers.PReLU(slope, shared_axes=[1, 2], name=f"{name}_prelu")(x)
