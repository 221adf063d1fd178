"""Geometry of a batch: each spatial change is a matrix, and a batch is warped once.

A matrix maps the pixel centres of the output to those of the input, in pixels from the image's centre, as
[B, 3, 3] float32. Changing an image by A and then by B is therefore `A @ B`, however many changes there are:
the cost is one warp, and the image is resampled once instead of once a change.
"""

from __future__ import annotations

import tensorflow as tf

from fer.augment import xla_support

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
    images: tf.Tensor,
    matrices: tf.Tensor,
    fill: float = 0.0,
    side: int | None = None,
    gathers: bool | None = None,
) -> tf.Tensor:
    """Resamples every image once, bilinearly, and rounds to whole grey levels.

    Args:
      images: [B, H, W, 1] uint8.
      matrices: [B, 3, 3] float32, affine, from output to input, about the image's centre.
      fill: the grey level of what lies outside the input, a whole number.
      side: of the square output in pixels, about the same centre; by default the output is as large as the input.
      gathers: True warps by gathers, False by the kernel of ImageProjectiveTransformV3, which XLA cannot compile. By
        default the faster: compiled gathers on a CPU, the kernel on a GPU.

    Returns:
      [B, H, W, 1] uint8, or [B, side, side, 1].
    """
    height, width = images.shape[1:3]
    size = (side, side) if side else (height, width)
    to_corner = _shift((1 - size[1]) / 2, (1 - size[0]) / 2)
    about_corner = _shift((width - 1) / 2, (height - 1) / 2) @ matrices @ to_corner
    gathers = xla_support.on_cpu() if gathers is None else gathers
    return (_by_gathers if gathers else _by_kernel)(images, about_corner, fill, size)


def _by_kernel(images: tf.Tensor, matrices: tf.Tensor, fill: float, size: tuple[int, int]) -> tf.Tensor:
    """The warp by TensorFlow's own kernel; [B, *size, 1] uint8."""
    warped = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(images, tf.float32),  # on uint8 the kernel would cut fractions off instead of rounding
        transforms=tf.reshape(matrices, [-1, 9])[:, :PARAMETERS],
        output_shape=size,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
        fill_value=fill,
    )
    return tf.cast(tf.round(warped), images.dtype)


def _by_gathers(images: tf.Tensor, matrices: tf.Tensor, fill: float, size: tuple[int, int]) -> tf.Tensor:
    """The warp by one gather of four neighbours in one number; [B, *size, 1] uint8.

    A rim of one pixel of the fill on each side stands for all that lies outside. Cells, gather and blending are
    compiled each by itself: in one loop with the gather, which goes number by number, none of it is vectorized.
    """
    # TensorFlow copies rows here; compiled by XLA, a padding is a choice for each pixel.
    rimmed = tf.pad(images[..., 0], [[0, 0], [1, 1], [1, 1]], constant_values=tf.cast(fill, images.dtype))
    shape = tuple(images.shape[1:3])
    return _blended(_found(_packed(rimmed), _cells(matrices, shape, size)), matrices, shape, size)


@xla_support.xla_on_cpu
def _packed(rimmed: tf.Tensor) -> tf.Tensor:
    """Each pixel of [B, H + 2, W + 2] uint8 with its neighbours right, below and below right as the bytes of a number.

    Returns:
      [B, H + 1, W + 1] int32.
    """
    level = tf.cast(rimmed, tf.int32)
    upper = tf.bitwise.bitwise_or(level[:, :-1, :-1], tf.bitwise.left_shift(level[:, :-1, 1:], 8))
    lower = tf.bitwise.bitwise_or(
        tf.bitwise.left_shift(level[:, 1:, :-1], 16), tf.bitwise.left_shift(level[:, 1:, 1:], 24)
    )
    return tf.bitwise.bitwise_or(upper, lower)


@xla_support.xla_on_cpu
def _cells(matrices: tf.Tensor, shape: tuple[int, int], size: tuple[int, int]) -> tf.Tensor:
    """Where among all packed numbers of the batch each pixel of the output finds its four, [B, pixels] int32."""
    (left, _), (top, _) = _neighbours(matrices, shape, size)
    width = shape[1] + 1
    return tf.range(tf.shape(matrices)[0])[:, tf.newaxis] * ((shape[0] + 1) * width) + top * width + left


@xla_support.xla_on_cpu
def _found(packed: tf.Tensor, cells: tf.Tensor) -> tf.Tensor:
    return tf.gather(tf.reshape(packed, [-1]), cells)


@xla_support.xla_on_cpu
def _blended(found: tf.Tensor, matrices: tf.Tensor, shape: tuple[int, int], size: tuple[int, int]) -> tf.Tensor:
    """Four neighbours in one number, mixed by how near each is; [B, *size, 1] uint8."""
    (_, right_share), (_, lower_share) = _neighbours(matrices, shape, size)
    one, two, three, four = (
        tf.cast(tf.bitwise.bitwise_and(tf.bitwise.right_shift(found, bits), 255), tf.float32) for bits in (0, 8, 16, 24)
    )
    upper, lower = one + (two - one) * right_share, three + (four - three) * right_share
    return tf.reshape(tf.cast(tf.round(upper + (lower - upper) * lower_share), tf.uint8), [-1, *size, 1])


def _neighbours(
    matrices: tf.Tensor, shape: tuple[int, int], size: tuple[int, int]
) -> tuple[tuple[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """Across and down the rimmed image, for each pixel of the output: the neighbour before, and the share of the next.

    Returns:
      Two pairs of [B, pixels], int32 and float32.
    """
    rows, columns = (tf.reshape(place, [1, -1]) for place in _places(size))

    def place(entry: tf.Tensor, length: int) -> tuple[tf.Tensor, tf.Tensor]:
        exact = entry[:, 0, tf.newaxis] * columns + entry[:, 1, tf.newaxis] * rows + entry[:, 2, tf.newaxis] + 1
        # A thousandth of a level's reach from the rim, whole grey levels do not tell it from the rim itself.
        exact = tf.clip_by_value(exact, 0.0, length + 0.999)
        before = tf.cast(exact, tf.int32)
        return before, exact - tf.cast(before, tf.float32)

    return place(matrices[:, 0], shape[1]), place(matrices[:, 1], shape[0])


def _places(size: tuple[int, int]) -> list[tf.Tensor]:
    """The row and the column of each pixel, each [height, width] float32."""
    return tf.meshgrid(*(tf.range(length, dtype=tf.float32) for length in size), indexing="ij")


def _matrix(rows: list[list[tf.Tensor]]) -> tf.Tensor:
    """Stacks two rows of [B] tensors over (0, 0, 1) into [B, 3, 3]."""
    last = [tf.zeros_like(rows[0][0]), tf.zeros_like(rows[0][0]), tf.ones_like(rows[0][0])]
    return tf.stack([tf.stack(row, axis=-1) for row in [*rows, last]], axis=-2)


def _shift(x: float, y: float) -> tf.Tensor:
    return tf.constant([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])
