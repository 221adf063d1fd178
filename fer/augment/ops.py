"""Ops that return a `LazyOp`: each draws its random numbers and does not touch pixels.

`apply` combines consecutive ops into one warp, one smoothing and one look-up table an image, however many ops there
are.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from fer.augment import geometric, photometric, randaugment, xla_support
from fer.augment.registry import register_op
from fer.errors import UserError
from fer.lazy_modules import tf
from fer.rng import BatchRng


class LazyOp(NamedTuple):
    """Pending change of each image of a batch; None for a kind of change that the op does not make."""

    matrices: geometric.Matrices | None = None
    side: int | None = None  # of the images after the op, in pixels
    sharpness: tf.Tensor | None = None  # [B] float32, see `photometric.adjust_sharpness`
    tables: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None = None  # (tables, histograms) -> tables: `photometric`
    needs_histogram: tf.Tensor | bool = False  # `tables` depends on the histogram of all images, or of some ([B] bool)


def apply(images: tf.Tensor, changes: Sequence[LazyOp]) -> tf.Tensor:
    """Makes the geometric changes in one pass, then each change of sharpness, then the changes of tone in one pass.

    Args:
      images: [B, H, W, 1] uint8.
      changes: the ops, in this order of their passes.

    Returns:
      [B, H, W, 1] uint8, smaller after a crop.
    """
    matrices = [change.matrices for change in changes if change.matrices is not None]
    factors = [change.sharpness for change in changes if change.sharpness is not None]
    tables = [change.tables for change in changes if change.tables is not None]
    if matrices:
        side = next((change.side for change in reversed(changes) if change.side), None)
        images = geometric.warp(images, *matrices, side=side)
    for factor in factors:
        images = photometric.adjust_sharpness(images, factor)
    if tables:
        counts, combined = _compute_histograms(images, changes), photometric.identity(tf.shape(images)[0])
        for change in tables:
            combined = change(combined, counts)
        images = photometric.apply(images, combined)
    return images


def _compute_histograms(images: tf.Tensor, changes: Sequence[LazyOp]) -> tf.Tensor:
    """Returns the histograms, [B, 256] float32, of the images for which an op needs them; zeros for the others."""
    if any(change.needs_histogram is True for change in changes):
        return photometric.histogram(images)
    none = tf.zeros([tf.shape(images)[0], photometric.LEVELS])
    some = [change.needs_histogram for change in changes if change.needs_histogram is not False]
    if not some:
        return none
    return xla_support.apply_where(functools.reduce(tf.logical_or, some), none, photometric.histogram, images)


@register_op("flip", kind="geometric", p=(0, 1))
def flip(rng: BatchRng, side: int, p: float = 0.5) -> LazyOp:
    """Mirrors left and right with probability `p`. A vertical flip would give no upright face."""
    return LazyOp(matrices=geometric.mirror(_draw_chosen(rng, p)))


@register_op("affine", kind="geometric", rotate=(0, 180), scale=(0, 0.9), shift=(0, 1), shear=(0, 1))
def affine(
    rng: BatchRng, side: int, rotate: float = 0.0, scale: float = 0.0, shift: float = 0.0, shear: float = 0.0
) -> LazyOp:
    """Rotates, scales, shears and shifts, each by an amount of its own, uniform in plus or minus the strength.

    Args:
      rotate: degrees.
      scale: fraction of the size: 0.1 scales by 0.9 to 1.1.
      shift: fraction of the side: 0.08 shifts by up to 3.84 of 48 pixels, right or left and up or down.
      shear: columns shifted for each row further from the centre.
    """
    angle, zoom, skew, right, down = tf.unstack(2 * rng.uniform(5) - 1, axis=-1)
    return LazyOp(
        matrices=geometric.affine(
            angle=angle * (rotate * math.pi / 180),
            scale=1 + zoom * scale,
            shear_x=skew * shear,
            shift_x=right * (shift * side),
            shift_y=down * (shift * side),
        )
    )


@register_op("crop", kind="geometric", to=(24, 48))
def crop(rng: BatchRng, side: int, to: int = 40) -> LazyOp:
    """Crops a random square of `to` pixels a side.

    A network that is convolutional up to its pooling takes the crop unresized: it trains in (to / side) squared of the
    time, and gets whole faces at inference. For other networks the crop is resized to their input size.

    Raises:
      UserError: the images are smaller than the crop.
    """
    if to > side:
        raise UserError(f"The policy's crop({to}) is larger than the images, which have {side} pixels a side.")
    spare = side - to
    left, top = tf.unstack(tf.floor(rng.uniform(2) * (spare + 1)), axis=-1)  # whole pixels: resampling blurs nothing
    zero = tf.zeros_like(left)
    moved = geometric.affine(zero, zero + 1, zero, spare / 2 - left, spare / 2 - top)
    return LazyOp(matrices=moved, side=to)


@register_op("brightness", kind="photometric", strength=(0, 1))
def brightness(rng: BatchRng, side: int, strength: float = 0.3) -> LazyOp:
    """Multiplies by a factor, uniform in 1 plus or minus `strength`."""
    factor = _draw_factor(rng, strength)
    return _curve_op(lambda curve, _: photometric.brightness(curve, factor))


@register_op("contrast", kind="photometric", strength=(0, 1))
def contrast(rng: BatchRng, side: int, strength: float = 0.3) -> LazyOp:
    """Scales the distance of levels from the mean by a factor, uniform in 1 plus or minus `strength`."""
    factor = _draw_factor(rng, strength)
    return _curve_op(lambda curve, stats: photometric.contrast(curve, factor, stats), needs_histogram=True)


@register_op("gamma", kind="photometric", strength=(0, 1))
def gamma(rng: BatchRng, side: int, strength: float = 0.3) -> LazyOp:
    """Raises levels to an exponent, log-uniform: strength 0.3 means 1 / 1.3 to 1.3."""
    exponent = tf.exp((2 * rng.uniform(1)[:, 0] - 1) * math.log1p(strength))
    return LazyOp(tables=lambda tables, *_: photometric.gamma(tables, exponent))


@register_op("solarize", kind="photometric", threshold=(0, 256), p=(0, 1))
def solarize(rng: BatchRng, side: int, threshold: float = 128.0, p: float = 0.5) -> LazyOp:
    """Inverts the levels from `threshold` on, with probability `p`."""
    level = tf.where(_draw_chosen(rng, p), threshold, photometric.LEVELS)
    return _curve_op(lambda curve, _: photometric.solarize(curve, level))


@register_op("posterize", kind="photometric", bits=(1, 8), p=(0, 1))
def posterize(rng: BatchRng, side: int, bits: int = 4, p: float = 0.5) -> LazyOp:
    """Keeps the upper `bits` of each level, with probability `p`."""
    num_bits = tf.where(_draw_chosen(rng, p), float(bits), 8.0)
    return _curve_op(lambda curve, _: photometric.posterize(curve, num_bits))


@register_op("invert", kind="photometric", p=(0, 1))
def invert(rng: BatchRng, side: int, p: float = 0.5) -> LazyOp:
    """Inverts the levels with probability `p`."""
    chosen = _draw_chosen(rng, p)
    return _curve_op(lambda curve, _: photometric.where(chosen, photometric.invert(curve), curve))


@register_op("autocontrast", kind="photometric", p=(0, 1))
def autocontrast(rng: BatchRng, side: int, p: float = 0.5) -> LazyOp:
    """Stretches the levels to the range 0 to 255 with probability `p`."""
    chosen = _draw_chosen(rng, p)
    return _curve_op(
        lambda curve, stats: photometric.where(chosen, photometric.autocontrast(curve, stats), curve),
        needs_histogram=chosen,
    )


@register_op("equalize", kind="photometric", p=(0, 1))
def equalize(rng: BatchRng, side: int, p: float = 0.5) -> LazyOp:
    """Makes the levels occur about equally often, with probability `p`."""
    chosen = _draw_chosen(rng, p)

    def tables(before: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
        return xla_support.apply_where(chosen, before, photometric.equalize, before, counts)

    return LazyOp(tables=tables, needs_histogram=chosen)


@register_op("sharpen", kind="filter", strength=(0, 1))
def sharpen(rng: BatchRng, side: int, strength: float = 0.5) -> LazyOp:
    """Sharpens or blurs by a factor, uniform in 1 plus or minus `strength`."""
    return LazyOp(sharpness=_draw_factor(rng, strength))


@register_op("blur", kind="filter", p=(0, 1))
def blur(rng: BatchRng, side: int, p: float = 0.5) -> LazyOp:
    """Smooths with the 3x3 kernel of `photometric.adjust_sharpness`, with probability `p`."""
    return LazyOp(sharpness=tf.where(_draw_chosen(rng, p), 0.0, 1.0))


@register_op(
    "randaugment",
    kind="composite",
    layers=(1, 8),
    magnitude=(0, randaugment.MAX_MAGNITUDE),
    preset=tuple(randaugment.PRESETS),
)
def apply_randaugment(
    rng: BatchRng, side: int, layers: int = 2, magnitude: float = 9.0, preset: str = "paper"
) -> LazyOp:
    """Draws RandAugment (see `randaugment`).

    Args:
      layers: ops an image, one after the other.
      magnitude: 0 to 10.
      preset: a key of `randaugment.PRESETS`.
    """
    space = randaugment.PRESETS[preset]
    drawn = [randaugment.draw_layer(rng.fold_in(layer), space, magnitude) for layer in range(layers)]
    return compose(drawn, space, side)._replace(
        sharpness=math.prod(randaugment.sharpness(each, space) for each in drawn)
    )


def compose(layers: Sequence[randaugment.Layer], space: randaugment.AugmentSpace, side: int) -> LazyOp:
    """Combines layers of RandAugment, applied one after the other, into one geometric and one tone change."""

    def tables(before: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
        for layer in layers:
            before = randaugment.tables(layer, space, before, counts)
        return before

    return LazyOp(
        matrices=geometric.product(*(randaugment.matrices(layer, space, side) for layer in layers)),
        tables=tables,
        needs_histogram=functools.reduce(tf.logical_or, [randaugment.needs_histogram(layer) for layer in layers]),
    )


def _draw_factor(rng: BatchRng, strength: float) -> tf.Tensor:
    return 1 + (2 * rng.uniform(1)[:, 0] - 1) * strength


def _draw_chosen(rng: BatchRng, p: float) -> tf.Tensor:
    return rng.uniform(1)[:, 0] < p


def _curve_op(
    change: Callable[[photometric.Curve, photometric.ImageStats], photometric.Curve],
    needs_histogram: tf.Tensor | bool = False,
) -> LazyOp:
    """Returns a change of tone that is one curve; `needs_histogram` as in `LazyOp`."""

    def tables(before: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
        curve = change(photometric.identity_curve(tf.shape(before)[0]), photometric.image_stats(before, counts))
        return photometric.apply_curve(before, curve)

    return LazyOp(tables=tables, needs_histogram=needs_histogram)
