"""Residual network of dlib's face recognition (King 2017), with batch normalization for dlib's fixed scales.

The architecture is "anet_type" in dlib's examples/dnn_face_recognition_ex.cpp, a ResNet34 (He et al. 2015,
arXiv:1512.03385) with half the filters and fewer blocks. Its shortcuts have no weights: where a stage changes the size,
they are averages over 2x2 pixels, and missing channels are zeros. Strided convolutions are not padded.
"""

from __future__ import annotations

import tensorflow as tf

layers = tf.keras.layers

STAGES = ((32, 3, False), (64, 4, True), (128, 3, True), (256, 3, True), (256, 1, True))  # filters, blocks, halves
CONVOLUTIONS = (  # in dlib's order, from input to output
    "conv1",
    *(
        f"conv{stage}_block{block}_{number}"
        for stage, (_, count, _) in enumerate(STAGES, start=2)
        for block in range(1, count + 1)
        for number in (1, 2)
    ),
)


def dlib_resnet(side: int, channels: int, name: str = "dlib_resnet") -> tf.keras.Model:
    """Builds the backbone, without dlib's last layer.

    Args:
      side: pixels of the square input; dlib's own is 150.
      channels: of the input.
      name: of the model.

    Returns:
      A model from [B, side, side, channels] to features [B, h, w, 256]; 2x2 at 150 pixels.
    """
    inputs = tf.keras.Input([side, side, channels])
    x = _convolution(inputs, 32, kernel=7, stride=2, padding="valid", name="conv1")
    x = layers.ReLU(name="conv1_relu")(x)
    x = layers.MaxPooling2D(3, strides=2, name="pool1_out")(x)
    for stage, (width, count, halves) in enumerate(STAGES, start=2):
        for block in range(count):
            x = _block(x, width, halves and not block, f"conv{stage}_block{block + 1}")
    return tf.keras.Model(inputs, x, name=name)


def _block(x: tf.Tensor, width: int, halves: bool, name: str) -> tf.Tensor:
    stride, padding = (2, "valid") if halves else (1, "same")
    change = _convolution(x, width, 3, stride, padding, f"{name}_1")
    change = layers.ReLU(name=f"{name}_1_relu")(change)
    change = _convolution(change, width, 3, 1, "same", f"{name}_2")
    if halves:
        x = layers.AveragePooling2D(2, name=f"{name}_0_pool")(x)
        if width > x.shape[-1]:
            x = layers.Concatenate(name=f"{name}_0_channels")([x, tf.zeros_like(x)])
        # An even side gives the unpadded convolution one row and one column less than the shortcut.
        missing = x.shape[1] - change.shape[1]
        change = layers.ZeroPadding2D(((0, missing), (0, missing)), name=f"{name}_2_pad")(change) if missing else change
    return layers.ReLU(name=f"{name}_out")(layers.Add(name=f"{name}_add")([x, change]))


def _convolution(x: tf.Tensor, width: int, kernel: int, stride: int, padding: str, name: str) -> tf.Tensor:
    x = layers.Conv2D(
        width, kernel, stride, padding, use_bias=False, kernel_initializer="he_normal", name=f"{name}_conv"
    )(x)
    return layers.BatchNormalization(epsilon=1e-4, name=f"{name}_bn")(x)
