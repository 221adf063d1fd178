"""From faces to probabilities, in batches of one fixed size.

The last batch is filled up with blank faces, which are cut off again: every face is computed by the same compiled
program at the same shape. No operation mixes faces, so the other faces of a batch do not change a face's result. The
position in the batch and the batch size may: on some CPUs they change the order of additions, and so the rounding. A
float32 network then gives the same face probabilities that differ by at most `BATCH_TOLERANCE`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Callable, NamedTuple

import numpy as np
import tensorflow as tf

from fer.labels import CLASSES, SIDE

BATCH = 128
BATCH_TOLERANCE = 1e-5  # of a probability in float32; the largest difference measured was 3e-6
CROP = 44  # pixels a side of a crop of tencrop

Model = Callable[..., tf.Tensor]  # called with (faces, training=False)


class Prediction(NamedTuple):
    """What `predict` returns."""

    probabilities: np.ndarray  # [n, 7] float32, each row sums to 1
    images_per_second: float | None  # after a first batch that is not counted: it compiles; None if there is no other


def predict(
    models: Sequence[Model],
    images: np.ndarray,
    batch_size: int = BATCH,
    tta: str = "none",
    progress: Callable[[int], None] = lambda count: None,
    warm_up: bool = True,
) -> Prediction:
    """Computes the probabilities of each face.

    Args:
      models: one or more, each from uint8 [B, 48, 48, 1] to logits [B, 7], Keras models or
        `fer.models.runtimes.Network`; their probabilities are averaged.
      images: [n, 48, 48, 1] uint8.
      batch_size: faces a call; n need not be a multiple of it. Of fewer faces, the next power of two is taken.
      tta: which views of a face are averaged (see `views`).
      progress: called after each batch with the number of faces done in it.
      warm_up: computes a batch of blank faces first, so that the speed of all others can be measured. Without it, the
        first batch is the one that is not counted.

    Returns:
      The probabilities: softmax in float32, the mean over views, then over models.
    """
    size = min(batch_size, 1 << max(len(images) - 1, 0).bit_length())
    compute = predictor(models, size, tta, warm_up)
    started = time.perf_counter() if warm_up else None
    counted = len(images) if warm_up else len(images) - size

    def timed(count: int) -> None:
        nonlocal started
        progress(count)
        if started is None:
            started = time.perf_counter()

    probabilities = compute(images, timed)
    if started is None or counted <= 0:
        return Prediction(probabilities, None)
    return Prediction(probabilities, counted / (time.perf_counter() - started))


def predictor(
    models: Sequence[Model], batch_size: int = BATCH, tta: str = "none", warm_up: bool = True
) -> Callable[[np.ndarray, Callable[[int], None]], np.ndarray]:
    """The function from (images, progress) to probabilities, compiled once for all its calls; as for `predict`."""
    shape = [batch_size, SIDE, SIDE, 1]
    compiled = _compile(models, tta, shape)
    if warm_up:
        compiled(tf.zeros(shape, tf.uint8))

    def compute(images: np.ndarray, progress: Callable[[int], None]) -> np.ndarray:
        probabilities = np.empty([len(images), len(CLASSES)], np.float32)
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            padded = np.zeros(shape, np.uint8)
            padded[: len(batch)] = batch
            probabilities[start : start + len(batch)] = compiled(tf.constant(padded)).numpy()[: len(batch)]
            progress(len(batch))
        return probabilities

    return compute


def tta_views(images: tf.Tensor, tta: str) -> list[tf.Tensor]:
    """The versions of a batch whose probabilities are averaged.

    Args:
      images: [B, 48, 48, 1] uint8.
      tta: "none": the faces; "flip": the faces and their mirror images; "tencrop": the four corners and the centre,
        44x44 pixels, resized to 48x48 bilinearly and rounded, and the mirror images of these.

    Returns:
      1, 2 or 10 tensors of the images' shape and dtype.
    """
    if tta == "none":
        return [images]
    if tta == "flip":
        return [images, images[:, :, ::-1]]
    side = images.shape[1]
    edge, middle = side - CROP, (side - CROP) // 2
    corners = [(0, 0), (0, edge), (edge, 0), (edge, edge), (middle, middle)]
    crops = [_resized(images[:, y : y + CROP, x : x + CROP], side) for y, x in corners]
    return crops + [crop[:, :, ::-1] for crop in crops]


def _compile(models: Sequence[Model], tta: str, shape: Sequence[int]) -> Callable[[tf.Tensor], tf.Tensor]:
    @tf.function(autograph=False, input_signature=[tf.TensorSpec(shape, tf.uint8)])
    def probabilities(images: tf.Tensor) -> tf.Tensor:
        seen = tta_views(images, tta)
        return tf.reduce_mean([tf.reduce_mean(_over_views(model, seen), axis=0) for model in models], axis=0)

    return probabilities


def _over_views(model: Model, seen: Sequence[tf.Tensor]) -> tf.Tensor:
    """[views, B, 7] float32. One view after the other: ten at once would need ten times the memory and the tracing."""

    def softmax(images: tf.Tensor) -> tf.Tensor:
        return tf.nn.softmax(tf.cast(model(images, training=False), tf.float32))

    if len(seen) == 1:
        return softmax(seen[0])[tf.newaxis]
    return tf.map_fn(softmax, tf.stack(seen), parallel_iterations=1, fn_output_signature=tf.float32)


def _resized(images: tf.Tensor, side: int) -> tf.Tensor:
    return tf.cast(tf.round(tf.image.resize(images, [side, side], method="bilinear")), tf.uint8)
