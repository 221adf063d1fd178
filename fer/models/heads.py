"""Heads of a classifier: pooling, logits, GoogLeNet's auxiliary heads, and the sum of their losses."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from fer.models.dropout import PositionalDropout

HEAD_SALT = 1_000_000  # above the salts of the backbones' own dropout layers
LOGITS = "logits"  # ends the names of the layers that compute logits
AUXILIARY_WEIGHT = 0.3  # Szegedy et al. 2014, arXiv:1409.4842, section 5
AUXILIARY_DROPOUT = 0.7  # as there

layers = tf.keras.layers


class GeneralizedMean(tf.keras.layers.Layer):
    """Generalized mean over the image, (mean of x^p)^(1/p), with a trained p that starts at 3.

    Source: Radenovic et al. 2019, arXiv:1711.02512, equation 3. Features are clipped below at 1e-6. The layer maps
    [B, h, w, C] to [B, C].
    """

    def build(self, input_shape: tf.TensorShape) -> None:
        """Adds the trained power p."""
        self.power = self.add_weight("power", shape=[], initializer=tf.keras.initializers.Constant(3.0))

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Pools [B, H, W, C] to [B, C]."""
        powers = tf.pow(tf.maximum(inputs, 1e-6), self.power)
        return tf.pow(tf.reduce_mean(powers, axis=[1, 2]), 1 / self.power)


def pool(features: tf.Tensor, pooling: str) -> tf.Tensor:
    """Pools features [B, h, w, C] of any precision to [B, C] float32.

    Args:
      features: output of the backbone.
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


def classification_head(features: tf.Tensor, pooling: str, dropout: float, class_maps: bool, classes: int) -> tf.Tensor:
    """Builds the head, from features [B, h, w, C] to logits float32 [B, classes].

    Args:
      features: output of the backbone.
      pooling: as for `pool`.
      dropout: fraction of features set to zero in training.
      class_maps: True: a 3x3 convolution computes a map for each class, and the maps are pooled. False: the features
        are pooled, and a dense layer follows.
      classes: number of logits.
    """
    drop = PositionalDropout(dropout, HEAD_SALT, dtype="float32", name="head_dropout")
    if class_maps:
        maps = layers.Conv2D(classes, 3, padding="same", dtype="float32", name=LOGITS)(drop(features))
        return pool(maps, pooling)
    return layers.Dense(classes, dtype="float32", name=LOGITS)(drop(pool(features, pooling)))


def auxiliary_head(features: tf.Tensor, number: int, classes: int) -> tf.Tensor:
    """Builds GoogLeNet's auxiliary head (Szegedy et al. 2014, section 5), from [B, h, w, C] to logits [B, classes].

    The side of the pooling window is 5, or that of the map if it is smaller.
    """
    name = f"auxiliary{number}"
    x = layers.AveragePooling2D(min(5, features.shape[1]), 3, name=f"{name}_pool")(features)
    x = layers.Conv2D(128, 1, activation="relu", name=f"{name}_conv")(x)
    x = layers.Dense(1024, activation="relu", name=f"{name}_dense")(layers.Flatten(name=f"{name}_flatten")(x))
    x = PositionalDropout(AUXILIARY_DROPOUT, HEAD_SALT + number, dtype="float32", name=f"{name}_dropout")(x)
    return layers.Dense(classes, dtype="float32", name=f"{name}_{LOGITS}")(x)


class AuxiliaryClassifier(tf.keras.Model):
    """Functional model with several logits: a list of all in training, the main logits at inference."""

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: None = None) -> tf.Tensor | list[tf.Tensor]:
        """Returns the logits of all heads in training, else those of the main head."""
        outputs = super().call(inputs, training=training, mask=mask)
        return outputs if training else outputs[0]


def main_logits(outputs: tf.Tensor | list[tf.Tensor]) -> tf.Tensor:
    """Returns the main logits [B, classes] of a classifier's outputs in training."""
    return outputs[0] if isinstance(outputs, (list, tuple)) else outputs


def losses(
    outputs: tf.Tensor | list[tf.Tensor], criterion: Callable[[tf.Tensor], tf.Tensor], weight: float = AUXILIARY_WEIGHT
) -> tf.Tensor:
    """Returns the loss of each example: that of the main logits plus `weight` times that of each auxiliary head.

    Args:
      outputs: outputs of a classifier in training: logits [B, classes], or a list of logits, the main ones first.
      criterion: maps logits [B, classes] to losses [B].
      weight: weight of an auxiliary head's loss.

    Returns:
      [B] float32.
    """
    main, *others = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    return criterion(main) + sum(weight * criterion(other) for other in others)
