"""mini-Xception (Arriaga et al. 2017, arXiv:1710.07557), the usual baseline on FER-2013: 58 thousand parameters.

As in the authors' code: two convolutions without padding, then four residual modules of separable convolutions. The
last convolution computes a map for each class, and the maps are averaged: it is the classifier's head
(`fer.models.registry.Backbone.class_maps`).
"""

from __future__ import annotations

import tensorflow as tf

from fer import tf_workarounds

layers = tf.keras.layers


def mini_xception(side: int, channels: int) -> tf.keras.Model:
    """Builds the backbone.

    Args:
      side: pixels of the square input.
      channels: of the input.

    Returns:
      A model from [B, side, side, channels] to features [B, side / 16, side / 16, 128].
    """
    inputs = x = tf.keras.Input([side, side, channels])
    for number in (1, 2):
        x = layers.Conv2D(8, 3, use_bias=False, name=f"stem{number}_conv")(x)
        x = layers.BatchNormalization(name=f"stem{number}_bn")(x)
        x = layers.ReLU(name=f"stem{number}_out")(x)
    for width in (16, 32, 64, 128):
        x = _module(x, width, f"module{width}")
    return tf.keras.Model(inputs, x, name="mini_xception")


def _module(x: tf.Tensor, width: int, name: str) -> tf.Tensor:
    shortcut = tf_workarounds.downsample(x, f"{name}_0_pool")
    shortcut = layers.Conv2D(width, 1, use_bias=False, name=f"{name}_0_conv")(shortcut)
    shortcut = layers.BatchNormalization(name=f"{name}_0_bn")(shortcut)
    x = layers.SeparableConv2D(width, 3, padding="same", use_bias=False, name=f"{name}_1_conv")(x)
    x = layers.BatchNormalization(name=f"{name}_1_bn")(x)
    x = layers.ReLU(name=f"{name}_1_relu")(x)
    x = layers.SeparableConv2D(width, 3, padding="same", use_bias=False, name=f"{name}_2_conv")(x)
    x = layers.BatchNormalization(name=f"{name}_2_bn")(x)
    x = layers.MaxPooling2D(3, strides=2, padding="same", name=f"{name}_pool")(x)
    return layers.Add(name=f"{name}_out")([x, shortcut])
