"""The operations of a policy that change images one by one: each draws numbers, and says what they mean.

An operation does not touch pixels. It returns a `LazyOp`, and however many of them follow each other, `apply` makes
of them one warp, one smoothing and one table an image.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from fer.augment import geometric, photometric, randaugment, xla_support
from fer.rng import BatchRng


class LazyOp(NamedTuple):
    """What becomes of each image of a batch; None where nothing does."""

    matrices: tf.Tensor | None = None  # [B, 3, 3] float32, see `geometry`
    side: int | None = None  # of the images from here on, in pixels
    sharpness: tf.Tensor | None = None  # [B] float32, see `photometric.adjust_sharpness`
    tables: Callable[[tf.Tensor, tf.Tensor, bool], tf.Tensor] | None = (
        None  # (tables, histograms, xla) -> tables: `tone`
    )
    needs_histogram: tf.Tensor | bool = (
        False  # whether `tables` goes by the histogram, of all images or of some ([B] bool)
    )


PASSES = ("matrices", "sharpness", "tables")  # geometry, sharpness, tone


def apply(images: tf.Tensor, changes: Sequence[LazyOp], xla: bool = False) -> tf.Tensor:
    """Changes images in the order of `changes`, in as few passes as it allows; within one change it is `PASSES`.

    Args:
      images: [B, H, W, 1] uint8.
      changes: what becomes of them.
      xla: see `device`.

    Returns:
      [B, H, W, 1] uint8, smaller where there was a crop.
    """
    together: list[LazyOp] = []
    reached = 0
    for change in changes:
        passes = [place for place, name in enumerate(PASSES) if getattr(change, name) is not None] or [reached]
        if passes[0] < reached:
            images, together = _apply_together(images, together, xla), []
        together.append(change)
        reached = passes[-1]
    return _apply_together(images, together, xla)


def _apply_together(images: tf.Tensor, changes: Sequence[LazyOp], xla: bool) -> tf.Tensor:
    """One pass of each kind, in the order of `PASSES`; but one for each sharpness: two of them are no third."""
    matrices = [change.matrices for change in changes if change.matrices is not None]
    factors = [change.sharpness for change in changes if change.sharpness is not None]
    tables = [change.tables for change in changes if change.tables is not None]
    if matrices:
        side = next((change.side for change in reversed(changes) if change.side), None)
        images = geometric.warp(images, _product(matrices), side=side, gathers=xla or None)
    for factor in factors:
        images = photometric.adjust_sharpness(images, factor, xla)
    if tables:
        counts, drawn = _histograms(images, changes, xla), photometric.identity(tf.shape(images)[0])
        for change in tables:
            drawn = change(drawn, counts, xla)
        images = photometric.apply(images, drawn)
    return images


def _histograms(images: tf.Tensor, changes: Sequence[LazyOp], xla: bool) -> tf.Tensor:
    """[B, 256] float32: the histograms of those images that some change goes by, zeros for the others."""
    if any(change.needs_histogram is True for change in changes):
        return photometric.histogram(images)
    none = tf.zeros([tf.shape(images)[0], photometric.LEVELS])
    some = [change.needs_histogram for change in changes if change.needs_histogram is not False]
    return (
        xla_support.apply_where(functools.reduce(tf.logical_or, some), none, photometric.histogram, images, xla=xla)
        if some
        else none
    )


def flip(rng: BatchRng, side: int, p: float = 0.5) -> LazyOp:
    """Mirrors left and right with probability `p`. Faces have no other flip."""
    return LazyOp(matrices=geometric.mirror(rng.uniform(1)[:, 0] < p))


def affine(
    rng: BatchRng, side: int, rotate: float = 0.0, scale: float = 0.0, shift: float = 0.0, shear: float = 0.0
) -> LazyOp:
    """Turns, zooms, leans and moves, each by its own amount, uniform in plus or minus the strength.

    Args:
      rng: see `BatchRng`.
      side: of the image, in pixels.
      rotate: degrees.
      scale: of the size: 0.1 draws from 0.9 to 1.1 times.
      shift: of the side: 0.08 moves up to 3.84 of 48 pixels, right or left and up or down.
      shear: columns moved for each row further from the centre.
    """
    angle, zoom, lean, right, down = tf.unstack(2 * rng.uniform(5) - 1, axis=-1)
    return LazyOp(
        matrices=geometric.affine(
            angle=angle * (rotate * math.pi / 180),
            scale=1 + zoom * scale,
            shear_x=lean * shear,
            shift_x=right * (shift * side),
            shift_y=down * (shift * side),
        )
    )


def crop(rng: BatchRng, side: int, to: float = 40) -> LazyOp:
    """Cuts a square of `to` pixels a side out at random.

    A network that is convolutions up to its pooling takes it as it is: it trains in (to / side) squared of the time,
    and sees whole faces at inference. Others see it resized to their own size.
    """
    spare = side - int(to)
    left, top = tf.unstack(tf.floor(rng.uniform(2) * (spare + 1)), axis=-1)  # whole pixels: nothing is blurred
    zero = tf.zeros_like(left)
    moved = geometric.affine(zero, zero + 1, zero, spare / 2 - left, spare / 2 - top)
    return LazyOp(matrices=moved, side=int(to))


def brightness(rng: BatchRng, side: int, strength: float = 0.3) -> LazyOp:
    """Multiplies by a factor, uniform in 1 plus or minus `strength`."""
    factor = _around_one(rng, strength)
    return _curve(lambda curve, _: photometric.brightness(curve, factor))


def contrast(rng: BatchRng, side: int, strength: float = 0.3) -> LazyOp:
    """Moves levels away from the mean by a factor, uniform in 1 plus or minus `strength`."""
    factor = _around_one(rng, strength)
    return _curve(lambda curve, seen: photometric.contrast(curve, factor, seen), needs_histogram=True)


def gamma(rng: BatchRng, side: int, strength: float = 0.3) -> LazyOp:
    """Raises levels to an exponent, uniform in its logarithm: strength 0.3 draws from 1 / 1.3 to 1.3."""
    exponent = tf.exp((2 * rng.uniform(1)[:, 0] - 1) * math.log1p(strength))
    return LazyOp(tables=lambda tables, *_: photometric.gamma(tables, exponent))


def solarize(rng: BatchRng, side: int, threshold: float = 128.0, p: float = 0.5) -> LazyOp:
    """Inverts the levels from `threshold` on, with probability `p`."""
    level = tf.where(_chosen(rng, p), threshold, photometric.LEVELS)
    return _curve(lambda curve, _: photometric.solarize(curve, level))


def posterize(rng: BatchRng, side: int, bits: float = 4.0, p: float = 0.5) -> LazyOp:
    """Keeps the upper `bits` of each level, with probability `p`."""
    kept = tf.where(_chosen(rng, p), float(round(bits)), 8.0)
    return _curve(lambda curve, _: photometric.posterize(curve, kept))


def invert(rng: BatchRng, side: int, p: float = 0.5) -> LazyOp:
    """Black for white, with probability `p`."""
    chosen = _chosen(rng, p)
    return _curve(lambda curve, _: photometric.where(chosen, photometric.invert(curve), curve))


def autocontrast(rng: BatchRng, side: int, p: float = 0.5) -> LazyOp:
    """Stretches the levels to the whole range, with probability `p`."""
    chosen = _chosen(rng, p)
    return _curve(
        lambda curve, seen: photometric.where(chosen, photometric.autocontrast(curve, seen), curve),
        needs_histogram=chosen,
    )


def equalize(rng: BatchRng, side: int, p: float = 0.5) -> LazyOp:
    """Makes the levels occur about equally often, with probability `p`."""
    chosen = _chosen(rng, p)

    def tables(before: tf.Tensor, counts: tf.Tensor, xla: bool) -> tf.Tensor:
        return xla_support.apply_where(chosen, before, photometric.equalize, before, counts, xla=xla)

    return LazyOp(tables=tables, needs_histogram=chosen)


def sharpen(rng: BatchRng, side: int, strength: float = 0.5) -> LazyOp:
    """Sharpens or blurs by a factor, uniform in 1 plus or minus `strength`."""
    return LazyOp(sharpness=_around_one(rng, strength))


def blur(rng: BatchRng, side: int, p: float = 0.5) -> LazyOp:
    """Smooths with the 3x3 kernel of `photometric.adjust_sharpness`, with probability `p`."""
    return LazyOp(sharpness=tf.where(_chosen(rng, p), 0.0, 1.0))


def apply_randaugment(
    rng: BatchRng, side: int, layers: float = 2, magnitude: float = 9.0, preset: str = "paper"
) -> LazyOp:
    """RandAugment: see `randaugment`.

    Args:
      rng: see `BatchRng`.
      side: of the image, in pixels.
      layers: operations an image, one after the other.
      magnitude: 0 to 10.
      preset: a key of `randaugment.SETS`.
    """
    reach = randaugment.SETS[preset]
    drawn = [randaugment.draw(rng.fold_in(layer), reach, magnitude) for layer in range(int(layers))]
    return compose(drawn, reach, side)._replace(
        sharpness=math.prod(randaugment.sharpness(each, reach) for each in drawn)
    )


def compose(layers: Sequence[randaugment.Layer], reach: randaugment.AugmentSpace, side: int) -> LazyOp:
    """Layers of RandAugment one after the other, as one change of places and of tone."""

    def tables(before: tf.Tensor, counts: tf.Tensor, xla: bool) -> tf.Tensor:
        for layer in layers:
            before = randaugment.tables(layer, reach, before, counts, xla)
        return before

    return LazyOp(
        matrices=_product([randaugment.matrices(layer, reach, side) for layer in layers]),
        tables=tables,
        needs_histogram=functools.reduce(tf.logical_or, [randaugment.needs_histogram(layer) for layer in layers]),
    )


def _product(matrices: Sequence[tf.Tensor]) -> tf.Tensor:
    product = matrices[0]
    for matrix in matrices[1:]:
        product = product @ matrix
    return product


def _around_one(rng: BatchRng, strength: float) -> tf.Tensor:
    return 1 + (2 * rng.uniform(1)[:, 0] - 1) * strength


def _chosen(rng: BatchRng, p: float) -> tf.Tensor:
    return rng.uniform(1)[:, 0] < p


def _curve(
    change: Callable[[photometric.Curve, photometric.ImageStats], photometric.Curve],
    needs_histogram: tf.Tensor | bool = False,
) -> LazyOp:
    """A change of tone that is one curve; `needs_histogram` as in `LazyOp`."""

    def tables(before: tf.Tensor, counts: tf.Tensor, _: bool) -> tf.Tensor:
        curve = change(photometric.identity_curve(tf.shape(before)[0]), photometric.image_stats(before, counts))
        return photometric.apply_curve(before, curve)

    return LazyOp(tables=tables, needs_histogram=needs_histogram)
