"""Tone of a batch: each change of grey levels is a table, and a batch is looked up once.

A table says what becomes of each of the 256 grey levels, [B, 256] float32 of whole numbers from 0 to 255: one for
each image. Operations change tables, not pixels: ten of them cost about as much as one pass over 48x48 pixels.
Nearly all are one `Curve` each, whose numbers differ from image to image, so that images with different operations
still are one computation. What depends on an image sees its histogram pushed through the table so far.

The definitions are Pillow's (`ImageEnhance`, `ImageOps`), for images of one channel.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from fer.augment import xla_support

LEVELS = 256
TOP = 255.0
# Pillow's ImageFilter.SMOOTH, which its ImageEnhance.Sharpness uses: ones around this centre, divided by the sum.
SMOOTH_CENTRE, SMOOTH_SUM = 5, 13


class Curve(NamedTuple):
    """v -> solarized at `threshold`, cut down to multiples of `step`, then slope v + offset; each [B] float32."""

    threshold: tf.Tensor  # levels from here on are inverted; 256 inverts none
    step: tf.Tensor  # 1 keeps all levels
    slope: tf.Tensor
    offset: tf.Tensor


class ImageStats(NamedTuple):
    """What some operations must know of the images as they are so far; each [B] float32."""

    mean: tf.Tensor
    lowest: tf.Tensor
    highest: tf.Tensor


def identity(batch: tf.Tensor) -> tf.Tensor:
    """The tables of `batch` (int32 scalar) images that change nothing, [B, 256] float32."""
    return tf.tile(tf.range(LEVELS, dtype=tf.float32)[tf.newaxis], [batch, 1])


def histogram(images: tf.Tensor) -> tf.Tensor:
    """How many pixels of each image, [B, H, W, 1] uint8, have each grey level: [B, 256] float32."""
    pixels = images.shape[1] * images.shape[2]
    levels = tf.cast(tf.reshape(images, [-1, pixels]), tf.int32)
    return _summed(levels)


def _summed(levels: tf.Tensor, weights: tf.Tensor | None = None) -> tf.Tensor:
    """The sum of `weights`, or the number, at each of the 256 levels of int32 [B, N]: [B, 256] float32."""
    if xla_support.on_cpu():
        # tf.math.bincount would find its size at run time, which XLA does not allow.
        given = tf.zeros([0]) if weights is None else weights
        return tf.raw_ops.DenseBincount(input=levels, size=LEVELS, weights=given, binary_output=False)
    # On a GPU, TensorFlow's Bincount is refused where a run is to be the same each time (`train.deterministic`).
    return histogram_by_sorting(levels) if weights is None else sum_by_comparing(levels, weights)


def histogram_by_sorting(levels: tf.Tensor) -> tf.Tensor:
    """How often each of the 256 levels occurs in each row of int32 [B, N]: [B, 256] float32."""
    ordered = tf.sort(tf.cast(levels, tf.float32), axis=1)
    every = tf.tile(tf.range(LEVELS, dtype=tf.float32)[tf.newaxis], [tf.shape(levels)[0], 1])
    up_to = tf.cast(tf.searchsorted(ordered, every, side="right", out_type=xla_support.index_type()), tf.float32)
    return up_to - tf.pad(up_to[:, :-1], [[0, 0], [1, 0]])


def sum_by_comparing(levels: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """The sum of `weights` (float32 [B, N]) at each of the 256 levels of int32 [B, N]: [B, 256]."""
    return tf.reduce_sum(weights[:, :, tf.newaxis] * tf.one_hot(levels, LEVELS), axis=1)


@xla_support.xla_on_cpu
def apply(images: tf.Tensor, tables: tf.Tensor) -> tf.Tensor:
    """Looks every pixel up in its image's table. Images [B, H, W, 1] uint8; returns the same shape and dtype."""
    offsets = _offsets(images)[:, tf.newaxis, tf.newaxis, tf.newaxis]
    levels = tf.cast(tables, tf.uint8) if xla_support.on_cpu() else tables  # TensorFlow gathers no uint8 on a GPU
    # One gather over all tables is faster than one a table.
    changed = tf.gather(tf.reshape(levels, [-1]), tf.cast(images, offsets.dtype) + offsets)
    return tf.cast(changed, images.dtype)


def _offsets(batch: tf.Tensor) -> tf.Tensor:
    """Where the table of each image of a batch ([B, ...]) begins if tables lie one after the other, [B]."""
    return tf.cast(LEVELS * tf.range(tf.shape(batch)[0]), xla_support.index_type())


def image_stats(tables: tf.Tensor, counts: tf.Tensor) -> ImageStats:
    """Of images with the histograms `counts` ([B, 256] float32), seen through `tables`; no sense without pixels."""
    there = counts > 0
    return ImageStats(
        mean=tf.math.divide_no_nan(tf.reduce_sum(tables * counts, axis=1), tf.reduce_sum(counts, axis=1)),
        lowest=tf.reduce_min(tf.where(there, tables, TOP), axis=1),
        highest=tf.reduce_max(tf.where(there, tables, 0.0), axis=1),
    )


def apply_curve(tables: tf.Tensor, curve: Curve) -> tf.Tensor:
    """The tables [B, 256], each changed by its image's curve."""
    threshold, step, slope, offset = (values[:, tf.newaxis] for values in curve)
    solarized = tf.where(tables >= threshold, TOP - tables, tables)
    cut = tf.floor(solarized / step) * step
    return _whole(slope * cut + offset)


def identity_curve(batch: tf.Tensor) -> Curve:
    """The curve that changes nothing."""
    one = tf.ones([batch])
    return Curve(threshold=one * LEVELS, step=one, slope=one, offset=one * 0)


def brightness(curve: Curve, factor: tf.Tensor) -> Curve:
    """Multiplies by `factor` ([B] float32): 0 is black, 1 changes nothing."""
    return curve._replace(slope=factor)


def contrast(curve: Curve, factor: tf.Tensor, seen: ImageStats) -> Curve:
    """Moves grey levels away from the image's mean by `factor` ([B] float32): 0 is flat, 1 changes nothing."""
    return curve._replace(slope=factor, offset=tf.floor(seen.mean + 0.5) * (1 - factor))


def invert(curve: Curve) -> Curve:
    """Black for white."""
    return curve._replace(threshold=tf.zeros_like(curve.threshold))


def solarize(curve: Curve, threshold: tf.Tensor) -> Curve:
    """Inverts the levels from `threshold` ([B] float32, 0 to 256) on."""
    return curve._replace(threshold=threshold)


def posterize(curve: Curve, bits: tf.Tensor) -> Curve:
    """Keeps the upper `bits` ([B] float32 of whole numbers, 1 to 8) of each level."""
    return curve._replace(step=tf.pow(2.0, 8.0 - bits))


def autocontrast(curve: Curve, seen: ImageStats) -> Curve:
    """Stretches the levels that occur to the whole range, 0 to 255; an image of one level stays as it is."""
    several = seen.highest > seen.lowest
    slope = tf.where(several, TOP / tf.maximum(seen.highest - seen.lowest, 1.0), 1.0)
    return curve._replace(slope=slope, offset=tf.where(several, -seen.lowest * slope, 0.0))


def where(chosen: tf.Tensor, curve: Curve, otherwise: Curve) -> Curve:
    """For each image the one or the other curve, as `chosen` ([B] bool) says."""
    return Curve(*(tf.where(chosen, one, other) for one, other in zip(curve, otherwise)))


def gamma(tables: tf.Tensor, exponent: tf.Tensor) -> tf.Tensor:
    """255 (v / 255) ** exponent ([B] float32, above 0): below 1 lightens the shadows."""
    return _whole(TOP * tf.pow(tables / TOP, exponent[:, tf.newaxis]))


def equalize(tables: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
    """Spreads the levels so that they occur about equally often.

    As in Pillow: level v becomes (step // 2 + pixels below v) // step, where step is the number of pixels that are
    not of the highest level, divided by 255; an image with a step of 0 stays as it is.
    """
    pushed = _summed(tf.cast(tables, tf.int32), counts)
    below = tf.cumsum(pushed, axis=1, exclusive=True)
    highest = tf.reduce_max(tf.where(counts > 0, tables, 0.0), axis=1, keepdims=True)
    step = tf.floor(tf.gather(below, tf.cast(highest, tf.int32), batch_dims=1) / TOP)
    spread = _whole(tf.floor((tf.floor(step / 2) + below) / tf.maximum(step, 1.0)))
    offsets = _offsets(tables)[:, tf.newaxis]
    cells = tf.cast(tables, offsets.dtype) + offsets
    return tf.where(step > 0, tf.gather(tf.reshape(spread, [-1]), cells), tables)


def adjust_sharpness(images: tf.Tensor, factor: tf.Tensor, xla: bool = False) -> tf.Tensor:
    """Computes smooth + factor (image - smooth), a 3x3 kernel for each image.

    Args:
      images: [B, H, W, 1] uint8. Pixels at the border stay unchanged, as in Pillow.
      factor: [B] float32: 0 smooths by SMOOTH / 13, below 1 blurs, 1 changes nothing, above 1 sharpens.
      xla: see `fer.augment.xla_support`.

    Returns:
      [B, H, W, 1] uint8.
    """
    return xla_support.apply_where(tf.not_equal(factor, 1.0), images, _adjust_sharpness, images, factor, xla=xla)


def _adjust_sharpness(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    pixels = tf.cast(images, tf.float32)
    rows = pixels[:, :-2] + pixels[:, 1:-1] + pixels[:, 2:]
    box = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    inner = pixels[:, 1:-1, 1:-1]
    change = (box + (SMOOTH_CENTRE - 1) * inner) / SMOOTH_SUM - inner
    change = tf.pad(change, [[0, 0], [1, 1], [1, 1], [0, 0]]) * (1 - factor)[:, tf.newaxis, tf.newaxis, tf.newaxis]
    return tf.cast(tf.round(tf.clip_by_value(pixels + change, 0.0, 255.0)), images.dtype)


def _whole(values: tf.Tensor) -> tf.Tensor:
    """Whole grey levels, cut to 0..255."""
    return tf.round(tf.clip_by_value(values, 0.0, TOP))
