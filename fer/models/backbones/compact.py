"""Network of this project for small grey faces, in three widths, with dense 3x3 convolutions only.

Dense convolutions are fastest on CPUs with bfloat16 instructions and small GPUs; depthwise ones save no time there.
Channels double when the sides halve (48, 24, 12, 6), so that all stages cost about the same. The last two stages add
residual blocks (He et al. 2016, arXiv:1512.03385), whose last scale starts at zero, so that training begins with a
shallower network (Goyal et al. 2017, arXiv:1706.02677).
"""

from __future__ import annotations

import tensorflow as tf

layers = tf.keras.layers


def compact(side: int | None, channels: int, width: int = 32, name: str = "compact") -> tf.keras.Model:
    """Builds the backbone.

    Args:
      side: pixels of the square input; None takes any.
      channels: of the input.
      width: channels of the first convolution; 32 makes 1.9 million parameters, which grow with its square.
      name: of the model.

    Returns:
      A model from [B, side, side, channels] to features [B, side / 8, side / 8, 8 * width].
    """
    inputs = tf.keras.Input([side, side, channels])
    x = _convolution(inputs, width, "stem")
    x = _convolution(x, 2 * width, "half", stride=2)
    x = _convolution(x, 2 * width, "half_again")
    x = _convolution(x, 4 * width, "quarter", stride=2)
    x = _residual(x, 4 * width, "quarter_residual")
    x = _convolution(x, 8 * width, "eighth", stride=2)
    x = _residual(x, 8 * width, "eighth_residual")
    return tf.keras.Model(inputs, x, name=name)


def tiny(side: int | None, channels: int) -> tf.keras.Model:
    """Builds a backbone of two convolutions, for smoke tests of a pipeline; it is not meant to be accurate.

    Args:
      side: pixels of the square input; None takes any.
      channels: of the input.

    Returns:
      A model from [B, side, side, channels] to features [B, side / 4, side / 4, 16].
    """
    inputs = tf.keras.Input([side, side, channels])
    x = _convolution(inputs, 8, "half", stride=2)
    return tf.keras.Model(inputs, _convolution(x, 16, "quarter", stride=2), name="tiny")


def _convolution(x: tf.Tensor, width: int, name: str, stride: int = 1) -> tf.Tensor:
    return layers.ReLU(name=f"{name}_relu")(_linear(x, width, name, stride))


def _residual(x: tf.Tensor, width: int, name: str) -> tf.Tensor:
    change = _convolution(x, width, f"{name}_1")
    change = _linear(change, width, f"{name}_2", scale="zeros")
    return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_add")([x, change]))


def _linear(x: tf.Tensor, width: int, name: str, stride: int = 1, scale: str = "ones") -> tf.Tensor:
    x = layers.Conv2D(
        width,
        kernel_size=3,
        strides=stride,
        padding="same",
        use_bias=False,  # BatchNormalization has one
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    # Keras' default of 0.99 is too slow for runs of a few thousand steps.
    return layers.BatchNormalization(momentum=0.95, gamma_initializer=scale, name=f"{name}_bn")(x)
