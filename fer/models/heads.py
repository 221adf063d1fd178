"""What stands on a backbone: pooling, the classifier, GoogLeNet's auxiliary heads, and how their losses add up."""

from __future__ import annotations

from typing import Callable

import tensorflow as tf

from fer.labels import CLASSES
from fer.models.dropout import PositionalDropout

HEAD_SALT = 1_000_000  # beyond the number of any backbone's own dropout layers
AUXILIARY_WEIGHT = 0.3  # Szegedy et al. 2014, arXiv:1409.4842, section 5
AUXILIARY_DROPOUT = 0.7  # as there

layers = tf.keras.layers


class GeneralizedMean(tf.keras.layers.Layer):
    """(mean of x^p)^(1/p) over the image, p learned from 3 (Radenovic et al. 2019, arXiv:1711.02512, equation 3).

    Features below 1e-6 count as that. From [B, h, w, C] to [B, C].
    """

    def build(self, input_shape: tf.TensorShape) -> None:
        """Adds the trained power."""
        self.power = self.add_weight("power", shape=[], initializer=tf.keras.initializers.Constant(3.0))

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Pools [B, H, W, C] to [B, C]."""
        powers = tf.pow(tf.maximum(inputs, 1e-6), self.power)
        return tf.pow(tf.reduce_mean(powers, axis=[1, 2]), 1 / self.power)


def pool(features: tf.Tensor, pooling: str) -> tf.Tensor:
    """[B, h, w, C] in any precision to [B, C] float32.

    Args:
      features: what the backbone gives.
      pooling: avg, max, their mean (avgmax) or gem.
    """
    if pooling == "gem":
        return GeneralizedMean(dtype="float32", name="pool")(features)
    if pooling == "avgmax":
        mean = layers.GlobalAveragePooling2D(dtype="float32", name="pool_avg")(features)
        largest = layers.GlobalMaxPooling2D(dtype="float32", name="pool_max")(features)
        return layers.Average(dtype="float32", name="pool")([mean, largest])
    layer = {"avg": layers.GlobalAveragePooling2D, "max": layers.GlobalMaxPooling2D}[pooling]
    return layer(dtype="float32", name="pool")(features)


def classification_head(features: tf.Tensor, pooling: str, dropout: float, class_maps: bool) -> tf.Tensor:
    """The head: features [B, h, w, C] to logits float32 [B, 7].

    Args:
      features: what the backbone gives.
      pooling: as for `pooled`.
      dropout: share of features set to zero in training.
      class_maps: a 3x3 convolution makes a map of each class, and these are pooled; else the features are pooled
        and a dense layer follows.
    """
    drop = PositionalDropout(dropout, HEAD_SALT, dtype="float32", name="head_dropout")
    if class_maps:
        maps = layers.Conv2D(len(CLASSES), 3, padding="same", dtype="float32", name="logits")(drop(features))
        return pool(maps, pooling)
    return layers.Dense(len(CLASSES), dtype="float32", name="logits")(drop(pool(features, pooling)))


def auxiliary(features: tf.Tensor, number: int) -> tf.Tensor:
    """GoogLeNet's auxiliary head (Szegedy et al. 2014, section 5): [B, h, w, C] to logits float32 [B, 7].

    The pooling window is 5, or the whole map where that is smaller.
    """
    name = f"auxiliary{number}"
    x = layers.AveragePooling2D(min(5, features.shape[1]), 3, name=f"{name}_pool")(features)
    x = layers.Conv2D(128, 1, activation="relu", name=f"{name}_conv")(x)
    x = layers.Dense(1024, activation="relu", name=f"{name}_dense")(layers.Flatten(name=f"{name}_flatten")(x))
    x = PositionalDropout(AUXILIARY_DROPOUT, HEAD_SALT + number, dtype="float32", name=f"{name}_dropout")(x)
    return layers.Dense(len(CLASSES), dtype="float32", name=f"{name}_logits")(x)


class WithAuxiliaries(tf.keras.Model):
    """A functional model of several logits: all in training, in a list, and the first alone at inference."""

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: None = None) -> tf.Tensor | list[tf.Tensor]:
        """Returns the logits of all heads in training, else those of the main head."""
        outputs = super().call(inputs, training=training, mask=mask)
        return outputs if training else outputs[0]


def main_logits(outputs: tf.Tensor | list[tf.Tensor]) -> tf.Tensor:
    """The logits [B, 7] that count, of what a classifier gave in training."""
    return outputs[0] if isinstance(outputs, (list, tuple)) else outputs


def losses(
    outputs: tf.Tensor | list[tf.Tensor], criterion: Callable[[tf.Tensor], tf.Tensor], weight: float = AUXILIARY_WEIGHT
) -> tf.Tensor:
    """The loss of each example: that of the main logits, and `weight` of each auxiliary head's.

    Args:
      outputs: what a classifier gave in training: logits [B, 7], or a list of them, the main ones first.
      criterion: from logits [B, 7] to losses [B].
      weight: of an auxiliary head's loss.

    Returns:
      [B] float32.
    """
    main, *others = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    return criterion(main) + sum(weight * criterion(other) for other in others)
