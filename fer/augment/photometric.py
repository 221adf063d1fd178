"""Photometric ops on a batch: look-up tables of grey levels, and sharpness.

A table maps the 256 grey levels of one image: [B, 256] float32, integers from 0 to 255. Ops change tables, not pixels,
and pixels are looked up once: ten ops cost about as much as one pass over 48x48 pixels. Nearly every op is one
`Curve`, whose parameters differ from image to image, so that images with different ops are one computation. An op that
depends on the image gets the image's histogram, mapped through the table so far.

The definitions are Pillow's (`ImageEnhance`, `ImageOps`), for images of one channel. Grey levels are rounded, where
Pillow truncates: they differ by at most 1.
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
    levels = tf.cast(tf.reshape(images, [-1, images.shape[1] * images.shape[2]]), tf.int32)
    if xla_support.is_under_xla():
        # Pairs of four upper and four lower bits, counted by a matrix product; its sums are exact in TF32, too.
        upper, lower = tf.bitwise.right_shift(levels, 4), tf.bitwise.bitwise_and(levels, 15)
        pairs = tf.matmul(tf.one_hot(upper, 16), tf.one_hot(lower, 16), transpose_a=True)
        return tf.reshape(pairs, [-1, LEVELS])
    return _sum_by_level(levels)


def _sum_by_level(levels: tf.Tensor, weights: tf.Tensor | None = None) -> tf.Tensor:
    """Returns the sum of `weights`, or the count, at each of the 256 levels of int32 [B, N]: [B, 256] float32."""
    # tf.math.bincount determines its size at run time, which XLA does not allow.
    no_weights = tf.zeros([0])
    return tf.raw_ops.DenseBincount(
        input=levels, size=LEVELS, weights=no_weights if weights is None else weights, binary_output=False
    )


@xla_support.xla_compiled
def apply(images: tf.Tensor, tables: tf.Tensor) -> tf.Tensor:
    """Looks up every pixel of `images` [B, H, W, 1] uint8 in its image's table; returns the same shape and dtype."""
    levels = tf.cast(tf.reshape(images, [-1, images.shape[1] * images.shape[2]]), tf.int32)
    # One gather over all tables is faster than one for each table.
    changed = tf.gather(tf.reshape(tables, [-1]), levels + _table_offsets(images)[:, tf.newaxis])
    return tf.reshape(xla_support.to_uint8(changed), [-1, *images.shape[1:]])


def _table_offsets(batch: tf.Tensor) -> tf.Tensor:
    """Returns the offset of each image's table, [B], in the concatenated tables of a batch [B, ...]."""
    return LEVELS * tf.range(tf.shape(batch)[0])


@xla_support.xla_compiled
def image_stats(tables: tf.Tensor, counts: tf.Tensor) -> ImageStats:
    """Returns statistics of images with histograms `counts` ([B, 256] float32) after `tables` are applied.

    The statistics of an image without counts are meaningless.
    """
    ends = tf.where((counts > 0)[:, tf.newaxis], tf.stack([MAX_LEVEL - tables, tables], axis=1), 0.0)
    below_white, highest = tf.unstack(tf.reduce_max(ends, axis=2), axis=1)  # both ends of the range in one reduction
    return ImageStats(
        mean=tf.math.divide_no_nan(tf.reduce_sum(tables * counts, axis=1), tf.reduce_sum(counts, axis=1)),
        lowest=MAX_LEVEL - below_white,
        highest=highest,
    )


@xla_support.xla_compiled
def apply_curve(tables: tf.Tensor, curve: Curve) -> tf.Tensor:
    """Applies each image's curve to its table; returns tables [B, 256]."""
    threshold, step, slope, offset = (values[:, tf.newaxis] for values in curve)
    solarized = tf.where(tables >= threshold, MAX_LEVEL - tables, tables)
    posterized = tf.floor(solarized / step) * step
    return _round_levels(xla_support.rounded(slope * posterized) + offset)


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
    exponent = tf.cast(8.0 - bits, tf.int32) + 127  # powers of two by their bits: exact everywhere, unlike tf.pow
    return curve._replace(step=tf.bitcast(tf.bitwise.left_shift(exponent, 23), tf.float32))


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
    below = _count_below(tables, counts)
    below_highest = tf.reduce_max(tf.where(counts > 0, below, 0.0), axis=1, keepdims=True)
    # Half a pixel more changes no result, but compilers multiply by the inverse, and n * 255 / 255 may be below n.
    step = tf.floor((below_highest + 0.5) / MAX_LEVEL)
    spread = _round_levels(tf.floor((tf.floor(step / 2) + below) / tf.maximum(step, 1.0)))
    return tf.where(step > 0, spread, tables)


def _count_below(tables: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
    """Returns the number of pixels below each level of a table: [B, 256] float32."""
    if xla_support.is_under_xla():
        is_below = tables[:, tf.newaxis] < tables[:, :, tf.newaxis]
        return tf.reduce_sum(tf.where(is_below, counts[:, tf.newaxis], 0.0), axis=2)
    levels = tf.cast(tables, tf.int32)
    below = tf.cumsum(_sum_by_level(levels, counts), axis=1, exclusive=True)
    return tf.gather(tf.reshape(below, [-1]), levels + _table_offsets(tables)[:, tf.newaxis])


def adjust_sharpness(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Computes smooth + factor (image - smooth), a 3x3 kernel for each image.

    Args:
      images: [B, H, W, 1] uint8. Pixels at the border stay unchanged, as in Pillow.
      factor: [B] float32: 0 smooths by SMOOTH / 13, below 1 blurs, 1 changes nothing, above 1 sharpens.

    Returns:
      [B, H, W, 1] uint8.
    """
    height, width = images.shape[1:3]
    pixels = tf.reshape(images, [-1, height * width])
    inner = _adjust_sharpness(pixels, factor, width)
    changed = tf.concat([pixels[:, : width + 1], inner, pixels[:, -width - 1 :]], axis=1)
    return tf.reshape(changed, [-1, height, width, 1])


@xla_support.xla_compiled
def _adjust_sharpness(pixels: tf.Tensor, factor: tf.Tensor, width: int) -> tf.Tensor:
    """Changes [B, N] pixels of rows of `width`; returns all but the first and last `width` + 1 of an image."""
    margin = width + 1
    count = pixels.shape[1] - 2 * margin
    levels = tf.cast(pixels, tf.float32)

    def row(offset: int) -> tf.Tensor:
        before, middle, after = (
            levels[:, first : first + count] for first in range(margin + offset - 1, margin + offset + 2)
        )
        return before + middle + after

    inner = levels[:, margin : margin + count]
    total = row(-width) + row(0) + row(width) + (SMOOTH_CENTRE - 1) * inner
    smooth = xla_support.rounded(total / SMOOTH_SUM)
    change = xla_support.rounded((smooth - inner) * (1 - factor)[:, tf.newaxis])
    columns = tf.range(margin, margin + count) % width
    at_border = (columns == 0) | (columns == width - 1)
    return xla_support.to_uint8(tf.where(at_border, inner, tf.clip_by_value(inner + change, 0.0, MAX_LEVEL)))


def _round_levels(values: tf.Tensor) -> tf.Tensor:
    """Rounds to integers and clips to 0..255."""
    return tf.round(tf.clip_by_value(values, 0.0, MAX_LEVEL))
