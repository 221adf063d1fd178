"""Layers that train faster on CPUs without AVX-512, whose oneDNN kernels have two slow cases.

Times are for float32 batches of 128 on two cores with AVX2 code, TensorFlow 2.15 (2.21 behaves alike):

| op | input | oneDNN | here | oneDNN with AVX-512 code |
|---|---|---|---|---|
| FusedBatchNormV3 in training | 24x24x64 | 25 ms | 5.5 ms | 2.8 ms |
| DepthwiseConv2dNativeBackpropFilter, 3x3 | 1x1x1024 | 50 ms | 1.5 ms | 2.7 ms |
| DepthwiseConv2dNativeBackpropFilter, 5x5 | 3x3x672 | 44 ms | 9 ms | 9 ms |

No issue of TensorFlow or oneDNN is known for either op. The layers can be removed once oneDNN is as fast.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from fer.models import precision

STRIDES = (1, 1, 1, 1)


def accelerate(model: tf.keras.Model) -> None:
    """Replaces the layers of a model in place by those of this module, on a CPU without AVX-512.

    Weights, settings of the layers, inference and, except for rounding, training are unchanged. Keras cannot save the
    architecture of the model afterwards. The model must not be trained in a function with `jit_compile`: XLA compiles
    these layers to slower code than Keras' layers.
    """
    if not precision.is_limited_to_avx2():
        return
    for layer in model.submodules:
        faster = FASTER.get(type(layer))
        if faster:
            layer.__class__ = faster


class Avx2BatchNormalization(tf.keras.layers.BatchNormalization):
    """Keras' layer, whose fused op is replaced in training, with equal results except for rounding.

    Keras' own code serves inference, frozen layers, other data types and data formats, and layers that are not fused.
    """

    def _fused_batch_norm(self, inputs: tf.Tensor, mask: tf.Tensor | None, training: Any) -> tf.Tensor:
        if training is not True or inputs.dtype != tf.float32 or self._data_format != "NHWC":
            return super()._fused_batch_norm(inputs, mask, training)
        channels = inputs.shape[-1]
        gamma = self.gamma if self.scale else tf.ones([channels])
        beta = self.beta if self.center else tf.zeros([channels])
        outputs, mean, variance = _normalize(inputs, gamma, beta, self.epsilon)
        count = tf.cast(tf.size(inputs) // channels, tf.float32)
        unbiased = variance * (count / tf.maximum(count - 1, 1))  # as the fused op reports it (Bessel's correction)
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, unbiased)):
            moving.assign_sub((moving - value) * (1 - self.momentum))
        return outputs


class Avx2DepthwiseConv2D(tf.keras.layers.DepthwiseConv2D):
    """Keras' layer, which pads an input that is smaller than its kernel in an op of its own.

    If the convolution pads such an input, oneDNN computes the kernel's gradient by a matrix product for each channel.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Convolves images [B, H, W, C]."""
        sides, kernel = inputs.shape[1:3], self.kernel_size
        smaller = None not in sides and any(side < size for side, size in zip(sides, kernel))
        plain = self.padding == "same" and self.data_format == "channels_last" and set(self.dilation_rate) == {1}
        if not (smaller and plain and inputs.dtype == tf.float32):
            return super().call(inputs)
        paddings = [same_padding(*numbers) for numbers in zip(sides, kernel, self.strides)]
        padded = tf.pad(inputs, [(0, 0), *paddings, (0, 0)])
        outputs = tf.nn.depthwise_conv2d(padded, self.depthwise_kernel, (1, *self.strides, 1), "VALID")
        return self.activation(tf.nn.bias_add(outputs, self.bias) if self.use_bias else outputs)


FASTER = {
    tf.keras.layers.BatchNormalization: Avx2BatchNormalization,
    tf.keras.layers.DepthwiseConv2D: Avx2DepthwiseConv2D,
}


def same_padding(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """Returns the zeros before and after one dimension that TensorFlow's padding SAME adds."""
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return total // 2, total - total // 2


def _normalize(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float) -> tuple[tf.Tensor, ...]:
    """Normalizes each channel over the batch (Ioffe and Szegedy 2015, arXiv:1502.03167, algorithm 1).

    Args:
      x: float32 [B, H, W, C].
      gamma: float32 [C], scale of the result.
      beta: float32 [C], mean of the result.
      epsilon: added to the variance.

    Returns:
      The result, float32 [B, H, W, C]; mean and biased variance of `x`, float32 [C], which have no gradient.
    """

    @tf.custom_gradient
    def normalize(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor) -> tuple[tuple[tf.Tensor, ...], Callable]:
        channels = x.shape[-1]
        count = tf.size(x) // channels
        share = 1 / tf.cast(count, tf.float32)
        # A product of matrices: a reduction takes up to five times as long.
        mean = tf.matmul(tf.fill([1, count], share), tf.reshape(x, [count, channels]))[0]
        centred = x - mean
        # The gradient of a 1x1 depthwise convolution is the sum of products by channel.
        squares = tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
            input=centred, filter_sizes=[1, 1, channels, 1], out_backprop=centred, strides=STRIDES, padding="VALID"
        )
        variance = tf.reshape(squares, [channels]) * share
        factor = tf.reshape(gamma * tf.math.rsqrt(variance + epsilon), [1, 1, channels, 1])
        # oneDNN fuses the convolution and the addition to one pass over the pixels.
        result = tf.nn.bias_add(tf.nn.depthwise_conv2d(centred, factor, STRIDES, "VALID"), beta)

        def gradients(gradient: tf.Tensor, *_: tf.Tensor) -> list[tf.Tensor]:
            return tf.raw_ops.FusedBatchNormGradV3(
                y_backprop=gradient,
                x=x,
                scale=gamma,
                reserve_space_1=mean,
                reserve_space_2=variance,
                reserve_space_3=tf.zeros([0]),
                epsilon=epsilon,
            )[:3]

        return (result, mean, variance), gradients

    return normalize(x, tf.convert_to_tensor(gamma), tf.convert_to_tensor(beta))
