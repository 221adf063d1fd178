"""The networks of fer as a Keras model for float images, without the layers that fer adds for uint8 input."""

from __future__ import annotations

import runner
import tensorflow as tf

from fer.models import registry


def build(name: str) -> tf.keras.Model:
    """Builds and compiles a classifier from float32 [B, 48, 48, 1] in [0, 1] to probabilities [B, 7]."""
    backbone = registry.backbone_spec(name).build(runner.SIDE, 1)
    pooled = tf.keras.layers.GlobalAveragePooling2D()(backbone.output)
    network = tf.keras.Model(backbone.input, tf.keras.layers.Dense(runner.CLASSES, activation="softmax")(pooled))
    network.compile(tf.keras.optimizers.Adam(runner.LEARNING_RATE), "categorical_crossentropy", metrics=["accuracy"])
    return network


def save_best(path: str) -> tf.keras.callbacks.Callback:
    """Returns the callback that saves the weights of the best epoch on the validation split to `path`.h5."""
    return tf.keras.callbacks.ModelCheckpoint(
        f"{path}.h5", monitor="val_accuracy", save_best_only=True, save_weights_only=True
    )
