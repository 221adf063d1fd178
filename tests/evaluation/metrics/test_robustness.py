"""Tests of `fer.evaluation.metrics.robustness`."""

import io

import numpy as np
import pytest
from PIL import Image

from fer.evaluation.metrics import robustness
from fer.synthetic import synthetic

SEED = 4
STRENGTHS = range(1, robustness.STRENGTHS + 1)


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    return synthetic.generate_faces(12, seed=0)[0][..., np.newaxis]


def distances(faces: np.ndarray, kind: str) -> list:
    """Returns the mean absolute change of the faces at each strength."""
    return [
        np.abs(robustness.corrupt(faces, kind, strength, SEED).astype(float) - faces).mean() for strength in STRENGTHS
    ]


@pytest.mark.parametrize("kind", robustness.KINDS)
def test_corrupt_preserves_shape_dtype_and_input(faces, kind):
    before = faces.copy()
    changed = robustness.corrupt(faces, kind, 3, SEED)
    assert (changed.dtype, changed.shape) == (np.uint8, faces.shape)
    np.testing.assert_array_equal(faces, before)


@pytest.mark.parametrize("kind", robustness.KINDS)
def test_corrupt_returns_no_faces_for_none(faces, kind):
    changed = robustness.corrupt(faces[:0], kind, 3, SEED)
    assert (changed.dtype, changed.shape) == (np.uint8, (0, 48, 48, 1))


@pytest.mark.parametrize("kind", robustness.KINDS)
def test_corrupt_changes_faces_more_with_strength(faces, kind):
    changes = distances(faces, kind)
    assert changes[0] > 0
    assert changes == sorted(changes)


@pytest.mark.parametrize("kind", robustness.KINDS)
def test_corrupt_does_not_depend_on_following_faces(faces, kind):
    alone = robustness.corrupt(faces[:3], kind, 2, SEED)
    np.testing.assert_array_equal(robustness.corrupt(faces, kind, 2, SEED)[:3], alone)


@pytest.mark.parametrize("kind", ["noise", "brightness", "occlusion", "rotation", "shift", "scale"])
def test_corrupt_is_a_function_of_the_seed(faces, kind):
    first = robustness.corrupt(faces, kind, 2, SEED)
    np.testing.assert_array_equal(first, robustness.corrupt(faces, kind, 2, SEED))
    assert (first != robustness.corrupt(faces, kind, 2, SEED + 1)).any()


def test_corrupt_brightness_and_contrast_follow_their_formulas():
    face = np.linspace(100, 150, 48 * 48).reshape(1, 48, 48, 1).astype(np.uint8)
    changed = robustness.corrupt(face, "brightness", 2, SEED).astype(int) - face
    assert set(np.unique(changed)) in ({40}, {-40})
    expected = face.mean() + 0.3 * (face - face.mean())
    np.testing.assert_allclose(robustness.corrupt(face, "contrast", 3, SEED), expected, atol=0.51)


def test_corrupt_noise_has_its_standard_deviation():
    grey = np.full((50, 48, 48, 1), 128, np.uint8)
    assert robustness.corrupt(grey, "noise", 2, SEED).astype(float).std() == pytest.approx(16, rel=0.02)


def test_corrupt_occlusion_is_one_grey_square_of_its_side():
    black = np.zeros((20, 48, 48, 1), np.uint8)
    for hidden in robustness.corrupt(black, "occlusion", 2, SEED)[..., 0]:
        rows, columns = np.nonzero(hidden)
        assert len(rows) == 12 * 12
        assert (np.ptp(rows), np.ptp(columns)) == (11, 11)
        assert set(np.unique(hidden)) == {0, 128}


def test_corrupt_rotation_equals_pillow(faces):
    rotated = robustness.corrupt(faces, "rotation", 2, SEED)[..., 0].astype(int)
    middle = slice(16, 32)  # corners are filled differently
    for face, ours in zip(faces[..., 0], rotated):
        theirs = [
            np.asarray(Image.fromarray(face).rotate(angle, Image.Resampling.BILINEAR)).astype(int)
            for angle in (20, -20)
        ]
        assert min(np.abs(ours - each)[middle, middle].max() for each in theirs) <= 2


def test_corrupt_shift_moves_faces_by_its_distance():
    spots = np.zeros((20, 48, 48, 1), np.uint8)
    spots[:, 20:28, 20:28] = 200
    places = np.arange(48)
    moved = robustness.corrupt(spots, "shift", 2, SEED)[..., 0].astype(float)
    mass = moved.sum(axis=(1, 2))
    centres = np.stack([(moved.sum(axis=axis) @ places) / mass for axis in (2, 1)])
    np.testing.assert_allclose(np.hypot(*(centres - 23.5)), 4.8, atol=0.1)
    assert np.ptp(centres, axis=1).min() > 4.8  # in several directions


def test_corrupt_scale_multiplies_distances_by_its_factor():
    squares = np.zeros((20, 48, 48, 1), np.uint8)
    squares[:, 14:34, 14:34] = 200
    changed = robustness.corrupt(squares, "scale", 4, SEED)[..., 0].astype(float)
    sides = np.sqrt(changed.sum(axis=(1, 2)) / 200)
    enlarged = sides > 20
    assert 0 < enlarged.sum() < 20
    np.testing.assert_allclose(sides, np.where(enlarged, 20 * 1.5, 20 / 1.5), rtol=0.03)


def test_corrupt_jpeg_equals_file_of_its_quality(faces):
    file = io.BytesIO()
    Image.fromarray(faces[0, ..., 0]).save(file, "JPEG", quality=10)
    np.testing.assert_array_equal(robustness.corrupt(faces, "jpeg", 4, SEED)[0, ..., 0], np.asarray(Image.open(file)))
