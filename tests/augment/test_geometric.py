"""Geometric ops against NumPy and Pillow."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from fer.augment import geometric
from fer.benchmark.augment import warp_with_kernel


@pytest.fixture
def faces() -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (4, 12, 12, 1), dtype=np.uint8)
    return np.kron(noise, np.ones((1, 4, 4, 1), np.uint8))  # [4, 48, 48, 1]


def affine(angle=0.0, scale=1.0, shear_x=0.0, shift_x=0.0, shift_y=0.0) -> tf.Tensor:
    return geometric.affine(*(tf.fill([4], value) for value in (angle, scale, shear_x, shift_x, shift_y)))


def test_warp_keeps_images_when_matrices_are_identity(faces):
    np.testing.assert_array_equal(geometric.warp(faces, affine()), faces)


def test_affine_rotates_counter_clockwise(faces):
    np.testing.assert_array_equal(geometric.warp(faces, affine(angle=np.pi / 2)), np.rot90(faces, axes=(1, 2)))


def test_affine_shifts_right_and_down_and_fills(faces):
    moved = geometric.warp(faces, affine(shift_x=3.0, shift_y=5.0), fill=7.0).numpy()
    np.testing.assert_array_equal(moved[:, 5:, 3:], faces[:, :-5, :-3])
    assert (moved[:, :5] == 7).all()
    assert (moved[:, :, :3] == 7).all()


def test_affine_enlarges_the_centre_when_scale_is_2(faces):
    enlarged = geometric.warp(faces, affine(scale=2.0)).numpy()[..., 0]
    middle = [Image.fromarray(face[12:36, 12:36, 0]).resize((48, 48), Image.Resampling.BILINEAR) for face in faces]
    inside = np.s_[:, 2:-2, 2:-2]  # at the border Pillow has less than the whole image
    assert np.abs(enlarged.astype(int) - np.stack(middle).astype(int))[inside].max() <= 1


def test_affine_shears_lower_rows_to_the_right(faces):
    sheared = geometric.warp(faces, affine(shear_x=1.0)).numpy()
    for row in (10, 23, 30):
        # a multiple of 1/2: the centre lies between the rows 23 and 24
        by = row - 23.5
        left, right = int(np.floor(by)), int(np.ceil(by))
        expected = (np.roll(faces[:, row], left, axis=1).astype(float) + np.roll(faces[:, row], right, axis=1)) / 2
        np.testing.assert_allclose(sheared[:, row, 15:33], expected[:, 15:33], atol=0.51)


def test_mirror_flips_only_the_chosen_images(faces):
    flipped = geometric.warp(faces, geometric.mirror(tf.constant([True, False, True, False]))).numpy()
    np.testing.assert_array_equal(flipped[::2], faces[::2, :, ::-1])
    np.testing.assert_array_equal(flipped[1::2], faces[1::2])


def test_warp_by_two_matrices_equals_two_warps(faces):
    turn, move = affine(angle=np.pi / 2), affine(shift_x=4.0)
    in_turn = geometric.warp(geometric.warp(faces, turn), move).numpy()
    at_once = geometric.warp(faces, turn, move).numpy()
    np.testing.assert_array_equal(at_once[:, :, 4:], in_turn[:, :, 4:])


def test_affine_rotates_as_pillow_does(faces):
    ours = geometric.warp(faces, affine(angle=float(np.deg2rad(15)))).numpy()[..., 0]
    theirs = [Image.fromarray(face[..., 0]).rotate(15, Image.Resampling.BILINEAR) for face in faces]
    inside = np.s_[:, 10:38, 10:38]  # the resamplers treat the outside differently
    assert np.abs(ours.astype(int) - np.stack(theirs).astype(int))[inside].max() <= 1


@pytest.mark.parametrize("jit_compile", [False, True])
def test_warp_agrees_with_tensorflows_kernel(faces, jit_compile):
    matrices = affine(angle=0.3, scale=1.2, shear_x=0.1, shift_x=2.3, shift_y=-1.7)
    by_kernel = warp_with_kernel(faces, matrices, fill=9.0).numpy().astype(int)
    ours = tf.function(geometric.warp, jit_compile=jit_compile, autograph=False)(faces, matrices, fill=9.0)
    assert np.abs(ours.numpy().astype(int) - by_kernel).max() <= 1


def test_affine_shear_y_is_shear_x_of_the_transposed_image(faces):
    sideways = geometric.warp(np.swapaxes(faces, 1, 2), affine(shear_x=0.3)).numpy()
    zero = tf.zeros(4)
    upright = geometric.warp(faces, geometric.affine(zero, zero + 1, zero, zero, zero, shear_y=zero + 0.3)).numpy()
    assert np.abs(upright.astype(int) - np.swapaxes(sideways, 1, 2)).max() <= 1


def test_warp_rounds_grey_levels_instead_of_truncating():
    half = np.full([1, 48, 48, 1], 200, np.uint8)
    half[:, :, ::2] = 201
    moved = geometric.warp(half, geometric.affine(*(tf.constant([v]) for v in (0.0, 1.0, 0.0, 0.25, 0.0)))).numpy()
    assert set(np.unique(moved[:, :, 2:-2])) == {200, 201}  # 200.25 and 200.75


def test_warp_ignores_other_images_of_the_batch(faces):
    angles, still = tf.constant([0.1, -0.3, 0.5, 0.0]), tf.zeros(4)
    matrices = geometric.affine(angles, still + 1.0, still, still, still)
    together = geometric.warp(faces, matrices)
    for i in range(4):
        own = geometric.Matrices(*(entry[i : i + 1] for entry in matrices))
        np.testing.assert_array_equal(together[i], geometric.warp(faces[i : i + 1], own)[0])
