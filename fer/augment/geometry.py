"""Geometry of a batch: each spatial change is a matrix, and a batch is warped once.

A matrix maps the pixel centres of the output to those of the input, in pixels from the image's centre, as
[B, 3, 3] float32. Changing an image by A and then by B is therefore `A @ B`, however many changes there are:
the cost is one warp, and the image is resampled once instead of once a change.
"""

from __future__ import annotations

import tensorflow as tf

PARAMETERS = 8  # of a projective transform, as ImageProjectiveTransformV3 takes them


def affine(
    angle: tf.Tensor,
    scale: tf.Tensor,
    shear_x: tf.Tensor,
    shift_x: tf.Tensor,
    shift_y: tf.Tensor,
    shear_y: tf.Tensor | float = 0.0,
) -> tf.Tensor:
    """Rotates, zooms, shears and moves, in that order.

    Args:
      angle: [B] float32, radians, counter-clockwise as seen.
      scale: [B] float32, above 1 enlarges what is seen.
      shear_x: [B] float32, columns moved for each row further from the centre.
      shift_x, shift_y: [B] float32, pixels to the right and down.
      shear_y: [B] float32, rows moved for each column further from the centre, after `shear_x`.

    Returns:
      [B, 3, 3] float32 matrices from output to input.
    """
    cos, sin = tf.cos(angle) / scale, tf.sin(angle) / scale
    zero, one = tf.zeros_like(angle), tf.ones_like(angle)
    turn = _matrix([[cos, -sin, zero], [sin, cos, zero]])
    lean_x = _matrix([[one, -shear_x, zero], [zero, one, zero]])
    lean_y = _matrix([[one, zero, zero], [zero - shear_y, one, zero]])
    move = _matrix([[one, zero, -shift_x], [zero, one, -shift_y]])
    return turn @ lean_x @ lean_y @ move


def mirror(flipped: tf.Tensor) -> tf.Tensor:
    """Swaps left and right where `flipped` ([B] bool) holds. Returns [B, 3, 3] float32."""
    sign = tf.where(flipped, -1.0, 1.0)
    zero, one = tf.zeros_like(sign), tf.ones_like(sign)
    return _matrix([[sign, zero, zero], [zero, one, zero]])


def warp(
    images: tf.Tensor, matrices: tf.Tensor, fill: float = 0.0, side: int | None = None, gathers: bool = False
) -> tf.Tensor:
    """Resamples every image once, bilinearly, and rounds to whole grey levels.

    Args:
      images: [B, H, W, 1] uint8.
      matrices: [B, 3, 3] float32, affine, from output to input, about the image's centre.
      fill: the grey level of what lies outside the input.
      side: of the square output in pixels, about the same centre; by default the output is as large as the input.
      gathers: uses gathers alone, which XLA can compile; the kernel of ImageProjectiveTransformV3 it cannot.

    Returns:
      [B, H, W, 1] uint8, or [B, side, side, 1].
    """
    height, width = images.shape[1:3]
    size = (side, side) if side else (height, width)
    to_corner = _shift((1 - size[1]) / 2, (1 - size[0]) / 2)
    about_corner = _shift((width - 1) / 2, (height - 1) / 2) @ matrices @ to_corner
    warped = (_by_gathers if gathers else _by_kernel)(images, about_corner, fill, size)
    return tf.cast(tf.round(warped), images.dtype)


def _by_kernel(images: tf.Tensor, matrices: tf.Tensor, fill: float, size: tuple[int, int]) -> tf.Tensor:
    """The warp by TensorFlow's own kernel; [B, *size, 1] float32."""
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(images, tf.float32),  # on uint8 the kernel would cut fractions off instead of rounding
        transforms=tf.reshape(matrices, [-1, 9])[:, :PARAMETERS],
        output_shape=size,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
        fill_value=fill,
    )


def _by_gathers(images: tf.Tensor, matrices: tf.Tensor, fill: float, size: tuple[int, int]) -> tf.Tensor:
    """The warp by four gathers of neighbours; [B, *size, 1] float32."""
    height, width = images.shape[1:3]
    rows, columns = tf.meshgrid(*(tf.range(length, dtype=tf.float32) for length in size), indexing="ij")
    entry = matrices[:, :, :, tf.newaxis, tf.newaxis]
    x = entry[:, 0, 0] * columns + entry[:, 0, 1] * rows + entry[:, 0, 2]
    y = entry[:, 1, 0] * columns + entry[:, 1, 1] * rows + entry[:, 1, 2]
    left, top = tf.floor(x), tf.floor(y)
    right_share, lower_share = x - left, y - top
    flat = tf.reshape(images, [-1])
    first = (height * width * tf.range(tf.shape(images)[0]))[:, tf.newaxis, tf.newaxis]

    def neighbour(row: tf.Tensor, column: tf.Tensor) -> tf.Tensor:
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        place = tf.cast(tf.where(inside, row * width + column, 0.0), tf.int32) + first
        return tf.where(inside, tf.cast(tf.gather(flat, place), tf.float32), fill)

    upper = neighbour(top, left) * (1 - right_share) + neighbour(top, left + 1) * right_share
    lower = neighbour(top + 1, left) * (1 - right_share) + neighbour(top + 1, left + 1) * right_share
    return (upper * (1 - lower_share) + lower * lower_share)[..., tf.newaxis]


def _matrix(rows: list[list[tf.Tensor]]) -> tf.Tensor:
    """Stacks two rows of [B] tensors over (0, 0, 1) into [B, 3, 3]."""
    last = [tf.zeros_like(rows[0][0]), tf.zeros_like(rows[0][0]), tf.ones_like(rows[0][0])]
    return tf.stack([tf.stack(row, axis=-1) for row in [*rows, last]], axis=-2)


def _shift(x: float, y: float) -> tf.Tensor:
    return tf.constant([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])
