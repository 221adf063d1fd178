"""Tests of `fer.convert.audit.photo_matching` on crops of drawn faces."""

import numpy as np
import pytest
from scipy import ndimage

from fer.convert.audit import photo_matching
from fer.synthetic import synthetic

COUNT, SHARED = 60, 20  # photographs, and those of which there is a second crop


@pytest.fixture(scope="module")
def photos() -> np.ndarray:
    """Returns 80 drawn faces with texture, [80, 48, 48]; enlarging them gives photographs to crop."""
    faces = synthetic.generate_faces(COUNT + SHARED, seed=0)[0].astype(np.float32)
    texture = ndimage.gaussian_filter(np.random.default_rng(0).normal(0, 120, faces.shape), (0, 2, 2))
    return np.clip(faces + texture, 0, 255)


def crop(photos: np.ndarray, scale: float = 1.0, angle: float = 0.0, shift: tuple[float, float] = (0, 0)) -> np.ndarray:
    """Cuts faces of 48x48 pixels, [n, 48, 48] uint8, out of photographs of that size.

    Args:
      photos: [n, 48, 48] float32.
      scale: side of the crop, as a share of that of the photograph; beyond its edge, the edge is repeated.
      angle: in radians.
      shift: of the centre, down and right, in pixels.
    """
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    start = 23.5 + np.array(shift) - turn @ [23.5, 23.5]
    cut = [ndimage.affine_transform(photo, turn, start, order=1, mode="nearest") for photo in photos]
    return np.clip(np.round(cut), 0, 255).astype(np.uint8)


CROPS = {
    "identical": lambda photos: crop(photos),
    "shifted": lambda photos: crop(photos, shift=(4, -5)),
    "closer": lambda photos: crop(photos, scale=0.85),
    "farther": lambda photos: crop(photos, scale=1.2),
    "rotated": lambda photos: crop(photos, angle=0.1),
    "darker": lambda photos: (crop(photos, shift=(1, 2)) * 0.6).astype(np.uint8),
    "mirrored": lambda photos: crop(photos, scale=0.95, shift=(2, 1))[:, :, ::-1],
}


@pytest.mark.parametrize("kind", CROPS)
def test_find_matches_finds_other_crops_of_a_photograph(photos, kind):
    queries = CROPS[kind](photos[:SHARED])
    found = photo_matching.find_matches(queries, crop(photos[:COUNT]))
    right = found.positions == np.arange(SHARED)
    assert right.mean() >= 0.75
    assert (found.correlations[right] >= photo_matching.THRESHOLD).all(), found.correlations
    assert (found.correlations[~right] < photo_matching.THRESHOLD).all(), found.correlations
    assert (found.correlations <= 1.0001).all()


def test_find_matches_separates_other_photographs(photos):
    found = photo_matching.find_matches(crop(photos[COUNT:], scale=0.95), crop(photos[:COUNT]))
    assert (found.correlations < photo_matching.THRESHOLD - 0.1).all(), found.correlations.max()


def test_find_matches_of_an_overprinted_photograph(photos):
    queries = crop(photos[:SHARED], scale=0.95)
    text = np.where(np.random.default_rng(1).random((6, 40)) < 0.4, 50, 0)
    queries[:, 30:36, 4:44] = np.minimum(queries[:, 30:36, 4:44].astype(int) + text, 255)
    found = photo_matching.find_matches(queries, crop(photos[:COUNT]))
    assert (found.positions == np.arange(SHARED)).mean() >= 0.75


def test_find_matches_does_not_depend_on_the_batch(photos, monkeypatch):
    queries, reference = crop(photos[:SHARED], scale=0.9), crop(photos[:COUNT])
    counts: list[int] = []
    expected = photo_matching.find_matches(queries, reference, counts.append)
    monkeypatch.setattr(photo_matching, "_PAIRS_AT_ONCE", 7 * COUNT)
    found = photo_matching.find_matches(queries, reference, counts.append)
    monkeypatch.undo()
    monkeypatch.setattr(photo_matching, "_MAX_BATCH", 10)
    by_tens = photo_matching.find_matches(queries, reference, counts.append)
    assert counts == [SHARED, 7, 7, 6, 10, 10]
    np.testing.assert_array_equal(by_tens.positions, expected.positions)
    np.testing.assert_array_equal(found.positions, expected.positions)
    np.testing.assert_allclose(found.correlations, expected.correlations, atol=1e-4)


@pytest.mark.parametrize("count", [1, 2])
def test_find_matches_accepts_few_reference_faces(photos, count):
    found = photo_matching.find_matches(crop(photos[:3]), crop(photos[:count]))
    assert found.positions[0] == 0
    assert found.correlations[0] == pytest.approx(1, abs=0.01)


def test_find_matches_of_no_faces_is_empty(photos):
    assert len(photo_matching.find_matches(crop(photos[:0]).reshape(0, 48, 48), crop(photos[:2])).positions) == 0


def test_find_matches_gives_flat_faces_a_low_correlation(photos):
    flat = np.full((2, 48, 48), 99, np.uint8)
    assert (photo_matching.find_matches(flat, np.concatenate([crop(photos[:5]), flat])).correlations < 0.1).all()
