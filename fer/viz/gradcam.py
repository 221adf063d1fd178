"""Grad-CAM heatmaps: how much each part of a face contributes to a class, computed and drawn.

Source: Selvaraju et al. 2017 (arXiv:1610.02391), equations 1 and 2, on the last feature map before pooling. Each
channel is weighted by the mean over the map of the gradient of the class logit; positive contributions are kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import matplotlib
import numpy as np
import tensorflow as tf

from fer.labels import SIDE
from fer.viz import rendering

BATCH = 64
MAX_CLASSES, MAX_COLUMNS = 20, 10  # classes in a plot: the first ones; and classes beside each other
COLOUR_MAP = "inferno"  # its lightness rises evenly, so that colour-blind readers get the same order
HEAT_OPACITY = 0.6
CELL_WIDTH = 1.8  # of a face and the gap beside it in a plot, in inches

Examples = Sequence[tuple[int | None, int | None]]  # of each class: a correct and a misclassified face, or None


def heatmaps(model: tf.keras.Model, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Computes Grad-CAM heatmaps.

    Args:
      model: built by `fer.models.classifier.build`.
      images: [n, 48, 48, 1] uint8.
      classes: [n] integers in 0..C-1, the class that each heatmap explains.

    Returns:
      [n, 48, 48] float32 in [0, 1]. The largest value of each map is 1, or the map is all 0 if nothing contributes to
      the class. Computed in float32 from the feature map on, whatever the precision of the network.
    """
    return make_heatmap_fn(model)(images, classes)


def make_heatmap_fn(model: tf.keras.Model) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Returns a function from (images, classes) to `heatmaps`; the model is split once for all calls."""
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
    """Returns the mean of the `heatmaps` of several networks, for an ensemble."""
    return np.mean([heatmaps(model, images, classes) for model in models], axis=0)


def pick_examples(labels: np.ndarray, probabilities: np.ndarray) -> Examples:
    """Chooses, for each of the first `MAX_CLASSES` classes, the most confident correct and misclassified face.

    Args:
      labels: [n] integers in 0..C-1.
      probabilities: [n, C].

    Returns:
      Pairs of positions; None if no face of the class was classified correctly, or none was misclassified.
    """
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)

    def most_confident(mask: np.ndarray) -> int | None:
        positions = np.flatnonzero(mask)
        return int(positions[confidence[positions].argmax()]) if len(positions) else None

    return [
        (
            most_confident((labels == index) & (predicted == index)),
            most_confident((labels == index) & (predicted != index)),
        )
        for index in range(min(MAX_CLASSES, probabilities.shape[1]))
    ]


def plot_examples(
    examples: Examples,
    images: np.ndarray,
    maps: dict[int, np.ndarray],
    probabilities: np.ndarray,
    classes: Sequence[str],
    title: str,
) -> bytes:
    """Draws two faces of each class, one correct and one misclassified, each above its heatmap.

    Args:
      examples: as `pick_examples` returns them.
      images: [n, 48, 48, 1] uint8.
      maps: heatmap [48, 48] in [0, 1] of the predicted class, by position in `images`.
      probabilities: [n, C].
      classes: the C names.
      title: first line of the figure.

    Returns:
      A PNG. It shows faces of the data: publish it only where the data may be published.
    """
    columns, names = min(MAX_COLUMNS, len(examples)), rendering.shorten_names(classes)
    rows = 2 * math.ceil(len(examples) / columns)
    pictures = np.full((rows * columns, 2 * SIDE + rendering.FACE_GAP, SIDE, 3), 255, np.uint8)
    texts = [""] * len(pictures)
    for place, (name, pair) in enumerate(zip(names, examples)):
        block, column = divmod(place, columns)
        for kind, position in enumerate(pair):
            cell = (2 * block + kind) * columns + column
            if position is None:
                texts[cell] = f"{name}\nnone {('correct', 'misclassified')[kind]}"
                continue
            predicted, confidence = names[probabilities[position].argmax()], probabilities[position].max()
            result = "correct" if kind == 0 else f"predicted {predicted}"
            texts[cell] = f"{name}\n{result} ({100 * confidence:.0f} %)"
            pictures[cell, :SIDE] = images[position]
            pictures[cell, -SIDE:] = _overlay(images[position], maps[position])
    heading = f"{title}: evidence for the predicted class (Grad-CAM; brighter: more)"
    size = 10 if max(map(len, names)) <= 8 else 7.5
    figure = rendering.plot_face_sheet(pictures, texts, (rows, columns), heading, CELL_WIDTH, size)
    return rendering.render_png(figure)


def _overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Colours a face [48, 48, 1] uint8 by its heatmap [48, 48]; returns [48, 48, 3] uint8."""
    colours = 255 * matplotlib.colormaps[COLOUR_MAP](heat)[..., :3]
    return (image + HEAT_OPACITY * (colours - image)).round().astype(np.uint8)


def _split(model: tf.keras.Model) -> tuple[tf.keras.Model, tf.keras.Model]:
    """Splits a model into faces -> last feature map, and feature map -> logits in float32; both share its weights."""
    network = next(layer for layer in model.layers if isinstance(layer, tf.keras.Model))
    features = tf.nest.flatten(network.get_output_at(-1))[0]  # node 0 is the backbone alone, outside the classifier
    logits = tf.nest.flatten(model.output)[0]
    head = tf.keras.models.clone_model(
        tf.keras.Model(features, logits),
        input_tensors=tf.keras.Input(features.shape[1:], dtype="float32"),
        clone_function=lambda layer: layer,
    )
    return tf.keras.Model(model.input, features), head


def _heat(features: tf.Tensor, head: tf.keras.Model, classes: tf.Tensor) -> tf.Tensor:
    """Returns unscaled heatmaps [B, h, w] of features [B, h, w, C], both float32."""
    with tf.GradientTape() as tape:
        tape.watch(features)
        logits = tf.gather(head(features, training=False), classes, batch_dims=1)
    weights = tf.reduce_mean(tape.gradient(logits, features), axis=[1, 2], keepdims=True)
    return tf.nn.relu(tf.reduce_sum(weights * features, axis=-1))
