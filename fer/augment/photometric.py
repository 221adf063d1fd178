"""Photometric ops on a batch: look-up tables of grey levels, and sharpness.

A table maps the 256 grey levels of one image: [B, 256] float32, integers from 0 to 255. Ops change tables, not pixels,
and pixels are looked up once: ten ops cost about as much as one pass over 48x48 pixels. Nearly every op is one
`Curve`, whose parameters differ from image to image, so that images with different ops are one computation. An op that
depends on the image gets the image's histogram, mapped through the table so far.

The definitions are Pillow's (`ImageEnhance`, `ImageOps`), for images of one channel.
"""

from __future__ import annotations

from typing import NamedTuple

from fer.augment import xla_support
from fer.lazy_modules import tf

LEVELS = 256
MAX_LEVEL = 255.0
# Pillow's ImageFilter.SMOOTH, which its ImageEnhance.Sharpness uses: ones around this centre, divided by the sum.
SMOOTH_CENTRE, SMOOTH_SUM = 5, 13


class Curve(NamedTuple):
    """Solarizes at `threshold`, rounds down to multiples of `step`, then maps v to slope v + offset; [B] float32."""

    threshold: tf.Tensor  # inverts levels from this one on; 256 inverts none
    step: tf.Tensor  # 1 keeps all levels
    slope: tf.Tensor
    offset: tf.Tensor


class ImageStats(NamedTuple):
    """Statistics of the images after the ops so far, for ops that depend on them; each [B] float32."""

    mean: tf.Tensor
    lowest: tf.Tensor
    highest: tf.Tensor


def identity(batch: tf.Tensor) -> tf.Tensor:
    """Returns tables that change nothing, [B, 256] float32, for `batch` (int32 scalar) images."""
    return tf.tile(tf.range(LEVELS, dtype=tf.float32)[tf.newaxis], [batch, 1])


def histogram(images: tf.Tensor) -> tf.Tensor:
    """Counts the pixels of each grey level in each image, [B, H, W, 1] uint8; returns [B, 256] float32."""
    pixels = images.shape[1] * images.shape[2]
    levels = tf.cast(tf.reshape(images, [-1, pixels]), tf.int32)
    return _sum_by_level(levels)


def _sum_by_level(levels: tf.Tensor, weights: tf.Tensor | None = None) -> tf.Tensor:
    """Returns the sum of `weights`, or the count, at each of the 256 levels of int32 [B, N]: [B, 256] float32."""
    if xla_support.on_cpu():
        # tf.math.bincount determines its size at run time, which XLA does not allow.
        no_weights = tf.zeros([0])
        return tf.raw_ops.DenseBincount(
            input=levels, size=LEVELS, weights=no_weights if weights is None else weights, binary_output=False
        )
    # On a GPU, TensorFlow's Bincount raises under deterministic ops (`train.deterministic`).
    return histogram_by_sorting(levels) if weights is None else sum_by_comparing(levels, weights)


def histogram_by_sorting(levels: tf.Tensor) -> tf.Tensor:
    """Counts each of the 256 levels in each row of int32 [B, N]; returns [B, 256] float32."""
    ordered = tf.sort(tf.cast(levels, tf.float32), axis=1)
    every = tf.tile(tf.range(LEVELS, dtype=tf.float32)[tf.newaxis], [tf.shape(levels)[0], 1])
    up_to = tf.cast(tf.searchsorted(ordered, every, side="right", out_type=xla_support.index_type()), tf.float32)
    return up_to - tf.pad(up_to[:, :-1], [[0, 0], [1, 0]])


def sum_by_comparing(levels: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Returns the sum of `weights` (float32 [B, N]) at each of the 256 levels of int32 [B, N]: [B, 256]."""
    return tf.reduce_sum(weights[:, :, tf.newaxis] * tf.one_hot(levels, LEVELS), axis=1)


@xla_support.xla_on_cpu
def apply(images: tf.Tensor, tables: tf.Tensor) -> tf.Tensor:
    """Looks up every pixel of `images` [B, H, W, 1] uint8 in its image's table; returns the same shape and dtype."""
    offsets = _table_offsets(images)[:, tf.newaxis, tf.newaxis, tf.newaxis]
    levels = tf.cast(tables, tf.uint8) if xla_support.on_cpu() else tables  # TensorFlow has no uint8 gather on a GPU
    # One gather over all tables is faster than one for each table.
    changed = tf.gather(tf.reshape(levels, [-1]), tf.cast(images, offsets.dtype) + offsets)
    return tf.cast(changed, images.dtype)


def _table_offsets(batch: tf.Tensor) -> tf.Tensor:
    """Returns the offset of each image's table, [B], in the concatenated tables of a batch [B, ...]."""
    return tf.cast(LEVELS * tf.range(tf.shape(batch)[0]), xla_support.index_type())


def image_stats(tables: tf.Tensor, counts: tf.Tensor) -> ImageStats:
    """Returns statistics of images with histograms `counts` ([B, 256] float32) after `tables` are applied.

    The statistics of an image without counts are meaningless.
    """
    occurs = counts > 0
    return ImageStats(
        mean=tf.math.divide_no_nan(tf.reduce_sum(tables * counts, axis=1), tf.reduce_sum(counts, axis=1)),
        lowest=tf.reduce_min(tf.where(occurs, tables, MAX_LEVEL), axis=1),
        highest=tf.reduce_max(tf.where(occurs, tables, 0.0), axis=1),
    )


def apply_curve(tables: tf.Tensor, curve: Curve) -> tf.Tensor:
    """Applies each image's curve to its table; returns tables [B, 256]."""
    threshold, step, slope, offset = (values[:, tf.newaxis] for values in curve)
    solarized = tf.where(tables >= threshold, MAX_LEVEL - tables, tables)
    posterized = tf.floor(solarized / step) * step
    return _round_levels(slope * posterized + offset)


def identity_curve(batch: tf.Tensor) -> Curve:
    """Returns the curve that changes nothing."""
    one = tf.ones([batch])
    return Curve(threshold=one * LEVELS, step=one, slope=one, offset=one * 0)


def brightness(curve: Curve, factor: tf.Tensor) -> Curve:
    """Multiplies by `factor` ([B] float32): 0 is black, 1 changes nothing."""
    return curve._replace(slope=factor)


def contrast(curve: Curve, factor: tf.Tensor, stats: ImageStats) -> Curve:
    """Scales distances from the image's mean by `factor` ([B] float32): 0 is flat, 1 changes nothing."""
    return curve._replace(slope=factor, offset=tf.floor(stats.mean + 0.5) * (1 - factor))


def invert(curve: Curve) -> Curve:
    """Inverts all levels."""
    return curve._replace(threshold=tf.zeros_like(curve.threshold))


def solarize(curve: Curve, threshold: tf.Tensor) -> Curve:
    """Inverts the levels from `threshold` ([B] float32, 0 to 256) on."""
    return curve._replace(threshold=threshold)


def posterize(curve: Curve, bits: tf.Tensor) -> Curve:
    """Keeps the upper `bits` ([B] float32 of whole numbers, 1 to 8) of each level."""
    return curve._replace(step=tf.pow(2.0, 8.0 - bits))


def autocontrast(curve: Curve, stats: ImageStats) -> Curve:
    """Stretches the levels that occur to the whole range, 0 to 255; an image of one level stays as it is."""
    has_range = stats.highest > stats.lowest
    slope = tf.where(has_range, MAX_LEVEL / tf.maximum(stats.highest - stats.lowest, 1.0), 1.0)
    return curve._replace(slope=slope, offset=tf.where(has_range, -stats.lowest * slope, 0.0))


def where(chosen: tf.Tensor, curve: Curve, otherwise: Curve) -> Curve:
    """Returns `curve` for the images that are `chosen` ([B] bool), `otherwise` for the others."""
    return Curve(*(tf.where(chosen, one, other) for one, other in zip(curve, otherwise)))


def gamma(tables: tf.Tensor, exponent: tf.Tensor) -> tf.Tensor:
    """Maps v to 255 (v / 255) ** exponent ([B] float32, above 0): below 1 brightens dark levels."""
    return _round_levels(MAX_LEVEL * tf.pow(tables / MAX_LEVEL, exponent[:, tf.newaxis]))


def equalize(tables: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
    """Equalizes the histograms: all levels occur about equally often.

    As in Pillow: level v becomes (step // 2 + pixels below v) // step, where step is the number of pixels below the
    highest level, divided by 255 and rounded down. An image with a step of 0 stays unchanged.
    """
    mapped = _sum_by_level(tf.cast(tables, tf.int32), counts)
    below = tf.cumsum(mapped, axis=1, exclusive=True)
    highest = tf.reduce_max(tf.where(counts > 0, tables, 0.0), axis=1, keepdims=True)
    step = tf.floor(tf.gather(below, tf.cast(highest, tf.int32), batch_dims=1) / MAX_LEVEL)
    spread = _round_levels(tf.floor((tf.floor(step / 2) + below) / tf.maximum(step, 1.0)))
    offsets = _table_offsets(tables)[:, tf.newaxis]
    cells = tf.cast(tables, offsets.dtype) + offsets
    return tf.where(step > 0, tf.gather(tf.reshape(spread, [-1]), cells), tables)


def adjust_sharpness(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Computes smooth + factor (image - smooth), a 3x3 kernel for each image.

    Args:
      images: [B, H, W, 1] uint8. Pixels at the border stay unchanged, as in Pillow.
      factor: [B] float32: 0 smooths by SMOOTH / 13, below 1 blurs, 1 changes nothing, above 1 sharpens.

    Returns:
      [B, H, W, 1] uint8.
    """
    return xla_support.apply_where(tf.not_equal(factor, 1.0), images, _adjust_sharpness, images, factor)


def _adjust_sharpness(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    pixels = tf.cast(images, tf.float32)
    rows = pixels[:, :-2] + pixels[:, 1:-1] + pixels[:, 2:]
    box = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    inner = pixels[:, 1:-1, 1:-1]
    change = (box + (SMOOTH_CENTRE - 1) * inner) / SMOOTH_SUM - inner
    change = tf.pad(change, [[0, 0], [1, 1], [1, 1], [0, 0]]) * (1 - factor)[:, tf.newaxis, tf.newaxis, tf.newaxis]
    return tf.cast(tf.round(tf.clip_by_value(pixels + change, 0.0, 255.0)), images.dtype)


def _round_levels(values: tf.Tensor) -> tf.Tensor:
    """Rounds to integers and clips to 0..255."""
    return tf.round(tf.clip_by_value(values, 0.0, MAX_LEVEL))
