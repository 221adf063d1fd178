"""Faces made worse."""

import io

import numpy as np
import pytest
from PIL import Image

from fer.evaluation.metrics import corruptions
from fer.synthetic import synthetic

SEED = 4
STRENGTHS = range(1, corruptions.STRENGTHS + 1)


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    return synthetic.generate_faces(12, seed=0)[0][..., np.newaxis]


def distances(faces: np.ndarray, kind: str) -> list:
    """Mean distance from the faces, strength by strength."""
    return [
        np.abs(corruptions.corrupt(faces, kind, strength, SEED).astype(float) - faces).mean() for strength in STRENGTHS
    ]


@pytest.mark.parametrize("kind", corruptions.KINDS)
def test_faces_stay_faces_in_form_and_are_not_changed_in_place(faces, kind):
    before = faces.copy()
    worse = corruptions.corrupt(faces, kind, 3, SEED)
    assert (worse.dtype, worse.shape) == (np.uint8, faces.shape)
    np.testing.assert_array_equal(faces, before)


@pytest.mark.parametrize("kind", corruptions.KINDS)
def test_corruption_strengths_increase(faces, kind):
    found = distances(faces, kind)
    assert found[0] > 0
    assert found == sorted(found)


@pytest.mark.parametrize("kind", corruptions.KINDS)
def test_corrupt_of_a_face_does_not_depend_on_the_faces_after_it(faces, kind):
    alone = corruptions.corrupt(faces[:3], kind, 2, SEED)
    np.testing.assert_array_equal(corruptions.corrupt(faces, kind, 2, SEED)[:3], alone)


@pytest.mark.parametrize("kind", ["noise", "brightness", "occlusion", "rotation"])
def test_corrupt_depends_on_the_seed(faces, kind):
    first = corruptions.corrupt(faces, kind, 2, SEED)
    np.testing.assert_array_equal(first, corruptions.corrupt(faces, kind, 2, SEED))
    assert (first != corruptions.corrupt(faces, kind, 2, SEED + 1)).any()


def test_brightness_and_contrast_are_the_arithmetic_they_say():
    face = np.linspace(100, 150, 48 * 48).reshape(1, 48, 48, 1).astype(np.uint8)
    changed = corruptions.corrupt(face, "brightness", 2, SEED).astype(int) - face
    assert set(np.unique(changed)) in ({40}, {-40})
    expected = face.mean() + 0.3 * (face - face.mean())
    np.testing.assert_allclose(corruptions.corrupt(face, "contrast", 3, SEED), expected, atol=0.51)


def test_noise_has_the_deviation_it_says():
    grey = np.full((50, 48, 48, 1), 128, np.uint8)
    assert corruptions.corrupt(grey, "noise", 2, SEED).astype(float).std() == pytest.approx(16, rel=0.02)


def test_occlusion_is_one_grey_square():
    black = np.zeros((20, 48, 48, 1), np.uint8)
    for hidden in corruptions.corrupt(black, "occlusion", 2, SEED)[..., 0]:
        rows, columns = np.nonzero(hidden)
        assert len(rows) == 12 * 12
        assert (np.ptp(rows), np.ptp(columns)) == (11, 11)
        assert set(np.unique(hidden)) == {0, 128}


def test_rotation_equals_pillow_rotation(faces):
    turned = corruptions.corrupt(faces, "rotation", 2, SEED)[..., 0].astype(int)
    middle = slice(16, 32)  # corners are filled up in another way
    for face, ours in zip(faces[..., 0], turned):
        theirs = [
            np.asarray(Image.fromarray(face).rotate(angle, Image.Resampling.BILINEAR)).astype(int)
            for angle in (20, -20)
        ]
        assert min(np.abs(ours - each)[middle, middle].max() for each in theirs) <= 2


def test_jpeg_is_a_file_of_that_quality(faces):
    file = io.BytesIO()
    Image.fromarray(faces[0, ..., 0]).save(file, "JPEG", quality=10)
    np.testing.assert_array_equal(corruptions.corrupt(faces, "jpeg", 4, SEED)[0, ..., 0], np.asarray(Image.open(file)))
