"""Where a network looked: Grad-CAM.

Source: Selvaraju et al. 2017 (arXiv:1610.02391), equations 1 and 2, on the last feature map before the pooling: each
channel is weighted by the mean of the class logit's gradient over the map, and what speaks for the class is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable

import numpy as np
import tensorflow as tf

from fer.labels import CLASSES

BATCH = 64


def heatmaps(model: tf.keras.Model, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """How much each place of a face speaks for a class.

    Args:
      model: built by `fer.models.classifier.build`.
      images: [n, 48, 48, 1] uint8.
      classes: [n] integers in 0..6, the class that is asked about, face by face.

    Returns:
      [n, 48, 48] float32 in [0, 1], each map's largest value 1, or all 0 where nothing speaks for the class. Computed
      in float32 from the feature map on, whatever the network's precision.
    """
    return mapper(model)(images, classes)


def mapper(model: tf.keras.Model) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """The function from (images, classes) to maps, made once for all its calls; as for `heatmaps`."""
    backbone, head = _split(model)

    def compute(images: np.ndarray, classes: np.ndarray) -> np.ndarray:
        maps = np.empty(images.shape[:3], np.float32)
        for start in range(0, len(images), BATCH):
            part = slice(start, start + BATCH)
            features = tf.cast(backbone(tf.constant(images[part]), training=False), tf.float32)
            heat = _heat(features, head, tf.constant(classes[part]))
            maps[part] = tf.image.resize(heat[..., tf.newaxis], images.shape[1:3], method="bilinear")[..., 0].numpy()
        return maps / np.maximum(maps.max(axis=(1, 2), keepdims=True), np.finfo(np.float32).tiny)

    return compute


def mean_heatmaps(models: Sequence[tf.keras.Model], images: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The mean of several networks' maps, as `heatmaps` gives them: what an ensemble looked at."""
    return np.mean([heatmaps(model, images, classes) for model in models], axis=0)


def pick_examples(labels: np.ndarray, probabilities: np.ndarray) -> list[tuple[int | None, int | None]]:
    """For each class the faces of it that were recognised, and mistaken, with the greatest confidence.

    Args:
      labels: [n] integers in 0..6.
      probabilities: [n, 7].

    Returns:
      Seven pairs of positions; None where no face of the class was recognised, or none was mistaken.
    """
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)

    def surest(among: np.ndarray) -> int | None:
        positions = np.flatnonzero(among)
        return int(positions[confidence[positions].argmax()]) if len(positions) else None

    return [
        (surest((labels == index) & (predicted == index)), surest((labels == index) & (predicted != index)))
        for index in range(len(CLASSES))
    ]


def _split(model: tf.keras.Model) -> tuple[tf.keras.Model, tf.keras.Model]:
    """Faces to the last feature map, and from that, in float32, to logits; they share the model's weights."""
    network = next(layer for layer in model.layers if isinstance(layer, tf.keras.Model))
    features = tf.nest.flatten(network.get_output_at(-1))[0]  # at 0 it stands alone, outside the classifier
    logits = tf.nest.flatten(model.output)[0]
    head = tf.keras.models.clone_model(
        tf.keras.Model(features, logits),
        input_tensors=tf.keras.Input(features.shape[1:], dtype="float32"),
        clone_function=lambda layer: layer,
    )
    return tf.keras.Model(model.input, features), head


def _heat(features: tf.Tensor, head: tf.keras.Model, classes: tf.Tensor) -> tf.Tensor:
    """[B, h, w] from features [B, h, w, C], both float32."""
    with tf.GradientTape() as tape:
        tape.watch(features)
        asked = tf.gather(head(features, training=False), classes, batch_dims=1)
    weights = tf.reduce_mean(tape.gradient(asked, features), axis=[1, 2], keepdims=True)
    return tf.nn.relu(tf.reduce_sum(weights * features, axis=-1))
