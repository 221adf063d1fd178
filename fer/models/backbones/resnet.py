"""ResNet with basic blocks: ResNet18 and ResNet34 (He et al. 2015, arXiv:1512.03385), which Keras lacks.

The layers are those of its table 1: a 7x7 stem, four stages, batch normalization after each convolution, and a
projection where a stage changes the size (option B). Padding and epsilon are those of Keras' ResNet50.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

layers = tf.keras.layers


def resnet(side: int, channels: int, blocks: Sequence[int], name: str) -> tf.keras.Model:
    """Builds the backbone.

    Args:
      side: pixels of the square input.
      channels: of the input.
      blocks: number of blocks of each of the four stages.
      name: of the model.

    Returns:
      A model from [B, side, side, channels] to features [B, side / 32, side / 32, 512].
    """
    inputs = tf.keras.Input([side, side, channels])
    x = layers.ZeroPadding2D(3, name="conv1_pad")(inputs)
    x = _convolution(x, 64, kernel=7, stride=2, padding="valid", name="conv1")
    x = layers.ReLU(name="conv1_relu")(x)
    x = layers.ZeroPadding2D(1, name="pool1_pad")(x)
    x = layers.MaxPooling2D(3, strides=2, name="pool1_out")(x)
    for stage, count in enumerate(blocks):
        for block in range(count):
            stride = 2 if stage and not block else 1
            x = _block(x, 64 * 2**stage, stride, f"conv{stage + 2}_block{block + 1}")
    return tf.keras.Model(inputs, x, name=name)


def _block(x: tf.Tensor, width: int, stride: int, name: str) -> tf.Tensor:
    shortcut = x if stride == 1 else _convolution(x, width, kernel=1, stride=stride, name=f"{name}_0")
    change = _convolution(x, width, kernel=3, stride=stride, name=f"{name}_1")
    change = layers.ReLU(name=f"{name}_1_relu")(change)
    change = _convolution(change, width, kernel=3, stride=1, name=f"{name}_2")
    return layers.ReLU(name=f"{name}_out")(layers.Add(name=f"{name}_add")([shortcut, change]))


def _convolution(x: tf.Tensor, width: int, kernel: int, stride: int, name: str, padding: str = "same") -> tf.Tensor:
    if padding == "same" and stride == 2 and kernel == 3:  # pads both sides, as published; "same" would pad one
        x, padding = layers.ZeroPadding2D(1, name=f"{name}_pad")(x), "valid"
    x = layers.Conv2D(
        width, kernel, stride, padding, use_bias=False, kernel_initializer="he_normal", name=f"{name}_conv"
    )(x)
    return layers.BatchNormalization(epsilon=1.001e-5, name=f"{name}_bn")(x)
