"""Predicts probabilities of faces in batches of a fixed size.

The last batch is padded with blank faces, whose results are dropped, so that one compiled program of one shape
computes all faces. No operation mixes faces, so the other faces of a batch do not change the result of a face. Its
position in the batch and the batch size may: on some CPUs they change the order of additions and thus the rounding. The
probabilities of a float32 network then differ by at most `BATCH_TOLERANCE`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from fer.labels import SIDE

BATCH = 128
BATCH_TOLERANCE = 1e-5  # of a float32 probability; the largest measured difference is 3e-6
CROP = 44  # pixels a side of the crops of tencrop

Model = Callable[..., tf.Tensor]  # called with (faces, training=False)


class Prediction(NamedTuple):
    """Result of `predict`."""

    probabilities: np.ndarray  # [n, C] float32, each row sums to 1
    images_per_second: float | None  # without the first batch, which compiles; None if there is no other


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
      models: one or more functions from uint8 [B, 48, 48, 1] to logits [B, C]: Keras models or
        `fer.models.runtimes.Network`. Their probabilities are averaged.
      images: [n, 48, 48, 1] uint8.
      batch_size: faces a call; n need not be a multiple of it. If n is smaller, the next power of two is used instead.
      tta: which views of a face are averaged (see `tta_views`).
      progress: called after each batch with the number of faces in it.
      warm_up: computes a batch of blank faces first, so that the throughput of all other batches can be measured.
        Without it, the first batch is not timed.

    Returns:
      The probabilities (softmax in float32, mean over views, then over models) and the throughput.
    """
    size = fitting_batch_size(len(images), batch_size)
    compute = make_predict_fn(models, size, tta, warm_up)
    start = time.perf_counter() if warm_up else None
    num_timed = len(images) if warm_up else len(images) - size

    def start_after_first(count: int) -> None:
        nonlocal start
        progress(count)
        if start is None:
            start = time.perf_counter()

    probabilities = compute(images, start_after_first)
    if start is None or num_timed <= 0:
        return Prediction(probabilities, None)
    return Prediction(probabilities, num_timed / (time.perf_counter() - start))


def make_predict_fn(
    models: Sequence[Model], batch_size: int = BATCH, tta: str = "none", warm_up: bool = True
) -> Callable[[np.ndarray, Callable[[int], None]], np.ndarray]:
    """Returns a function from (images, progress) to probabilities, compiled once for all calls. See `predict`."""

    def probabilities(images: tf.Tensor) -> tf.Tensor:
        views = tta_views(images, tta)
        return tf.reduce_mean([tf.reduce_mean(_predict_views(model, views), axis=0) for model in models], axis=0)

    return make_batch_fn(probabilities, batch_size, warm_up)


def make_batch_fn(
    function: Callable[[tf.Tensor], tf.Tensor], batch_size: int = BATCH, warm_up: bool = True
) -> Callable[[np.ndarray, Callable[[int], None]], np.ndarray]:
    """Compiles a function of faces for batches of one size.

    Args:
      function: maps uint8 [batch_size, 48, 48, 1] to float32 [batch_size, d].
      batch_size: faces a call of `function`.
      warm_up: computes a batch of blank faces now.

    Returns:
      A function from (images uint8 [n, 48, 48, 1], progress) to float32 [n, d]; `progress` is called after each batch
      with the number of faces in it.
    """
    shape = [batch_size, SIDE, SIDE, 1]
    compiled = _compile(function, shape)
    if warm_up:
        compiled(tf.zeros(shape, tf.uint8))

    def compute(images: np.ndarray, progress: Callable[[int], None]) -> np.ndarray:
        results = []
        for start in range(0, max(len(images), 1), batch_size):
            batch = images[start : start + batch_size]
            padded = np.zeros(shape, np.uint8)
            padded[: len(batch)] = batch
            results.append(compiled(tf.constant(padded)).numpy()[: len(batch)])
            progress(len(batch))
        return np.concatenate(results)

    return compute


def fitting_batch_size(count: int, most: int = BATCH) -> int:
    """Returns the batch size for `count` faces: the next power of two, at most `most`."""
    return min(most, 1 << max(count - 1, 0).bit_length())


def tta_views(images: tf.Tensor, tta: str) -> list[tf.Tensor]:
    """Returns the views of a batch whose probabilities are averaged.

    Args:
      images: [B, 48, 48, 1] uint8.
      tta: "none": the faces. "flip": the faces and their mirror images. "tencrop": crops of 44x44 pixels at the four
        corners and the centre, resized bilinearly to 48x48 and rounded, and their mirror images.

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
    crops = [_resize(images[:, y : y + CROP, x : x + CROP], side) for y, x in corners]
    return crops + [crop[:, :, ::-1] for crop in crops]


def _compile(function: Callable[[tf.Tensor], tf.Tensor], shape: Sequence[int]) -> Callable[[tf.Tensor], tf.Tensor]:
    return tf.function(function, [tf.TensorSpec(shape, tf.uint8)], autograph=False)


def _predict_views(model: Model, views: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns probabilities [views, B, C] float32, one view at a time: ten at once take ten times the memory."""

    def softmax(images: tf.Tensor) -> tf.Tensor:
        return tf.nn.softmax(tf.cast(model(images, training=False), tf.float32))

    if len(views) == 1:
        return softmax(views[0])[tf.newaxis]
    return tf.map_fn(softmax, tf.stack(views), parallel_iterations=1, fn_output_signature=tf.float32)


def _resize(images: tf.Tensor, side: int) -> tf.Tensor:
    return tf.cast(tf.round(tf.image.resize(images, [side, side], method="bilinear")), tf.uint8)
