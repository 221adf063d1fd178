"""Hashes and statistics of faces, compared with SciPy and NumPy."""

import numpy as np
import pytest
import scipy.fft

from fer.convert.audit import image_hashes
from tests.convert import input_factories

IMAGES = input_factories.noise(40)


def test_digest_images_gives_equal_digests_to_identical_faces_only():
    images = np.concatenate([IMAGES, IMAGES[3:4], IMAGES[3:4]])
    images[-1, 7] ^= 1
    digests = image_hashes.digest_images(images)
    assert digests[-2] == digests[3]
    assert len(set(digests)) == len(IMAGES) + 1


def test_deviations_equal_numpy():
    np.testing.assert_allclose(image_hashes.hash_images(IMAGES).deviations(), IMAGES.std(axis=1))


@pytest.mark.parametrize("value", [0, 1, 255])
def test_deviations_of_constant_face_are_0(value):
    assert image_hashes.hash_images(np.full((1, 2304), value, np.uint8)).deviations() == [0.0]


def test_perceptual_hash_compares_low_frequencies_with_median():
    frequencies = scipy.fft.dctn(IMAGES.reshape(-1, 48, 48).astype(float), axes=(1, 2), type=2)[:, :8, :8]
    flat = frequencies.reshape(-1, 64)
    expected = flat > np.median(flat[:, 1:], axis=1, keepdims=True)
    bits = np.unpackbits(image_hashes.hash_images(IMAGES).hashes.view(np.uint8).reshape(-1, 8), axis=1)
    # The cosines are rounded, so the bit of a frequency near the median may differ.
    assert (bits != expected).mean() < 0.02


def test_perceptual_hash_is_independent_of_the_batch():
    together = image_hashes.hash_images(IMAGES).hashes
    alone = [image_hashes.hash_images(image[None]).hashes[0] for image in IMAGES]
    np.testing.assert_array_equal(together, alone)


def test_perceptual_hash_ignores_brightness_and_contrast():
    soft = IMAGES // 4
    np.testing.assert_array_equal(image_hashes.hash_images(soft * 2 + 60).hashes, image_hashes.hash_images(soft).hashes)


def test_concatenate_equals_hashes_of_one_batch():
    joined = image_hashes.concatenate([image_hashes.hash_images(IMAGES[:7]), image_hashes.hash_images(IMAGES[7:])])
    whole = image_hashes.hash_images(IMAGES)
    for name in ("hashes", "sums", "squares"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name))
