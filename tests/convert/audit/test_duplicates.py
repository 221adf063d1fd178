"""Duplicate search, compared with an exhaustive search of all pairs."""

import numpy as np
import pytest

from fer.convert.audit import duplicates, image_hashes
from tests.convert import input_factories


def hamming_distances(hashes: np.ndarray) -> np.ndarray:
    """Returns the number of differing bits of each pair of hashes, [N, N]."""
    bits = np.unpackbits(hashes.view(np.uint8).reshape(-1, 8), axis=1).astype(int)
    return (bits[:, None] != bits[None]).sum(axis=2)


@pytest.fixture(scope="module")
def hashes() -> np.ndarray:
    """Returns random hashes, and copies of some of them with 0 to 7 bits changed."""
    random = np.random.default_rng(0)
    centres = random.integers(0, 2**64, 60, dtype=np.uint64)
    changes = [sum(1 << int(bit) for bit in random.permutation(64)[: i % 8]) for i in range(300)]
    return np.concatenate([centres, centres[np.arange(300) % 60] ^ np.array(changes, np.uint64)])


@pytest.mark.parametrize("most", [0, 1, 2, 3, 4])
def test_close_pairs_equals_exhaustive_search(hashes, most):
    first, second = np.nonzero(np.triu(hamming_distances(hashes) <= most, 1))
    np.testing.assert_array_equal(duplicates.close_pairs(hashes, most), np.stack([first, second], axis=1))


def test_close_pairs_of_no_hashes_is_empty():
    assert duplicates.close_pairs(np.empty(0, np.uint64), 4).shape == (0, 2)


def test_close_pairs_rejects_more_than_4_bits(hashes):
    with pytest.raises(ValueError, match="at most 4 bits"):
        duplicates.close_pairs(hashes, 5)


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    """Returns 16 faces: 0 to 9 differ; 10 and 11 equal 3; 12 is a brighter 4; 13 and 14 are blank, 15 nearly blank."""
    smooth = np.kron(input_factories.noise(10).reshape(10, 48, 48)[:, :8, :8], np.ones((6, 6), np.uint8)).reshape(
        10, 2304
    )
    smooth = smooth // 2
    blank = np.zeros((3, 2304), np.uint8)
    blank[2, 5] = 100
    return np.concatenate([smooth, smooth[[3, 3]], smooth[[4]] + 9, blank])


def test_find_groups_identical_faces_in_order_of_appearance(faces):
    found = duplicates.find_duplicates(image_hashes.hash_images(faces), faces.__getitem__)
    assert found.exact.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 3, 3, 10, 11, 11, 12]


def test_find_groups_near_duplicates_but_blank_faces_only_if_identical(faces):
    found = duplicates.find_duplicates(image_hashes.hash_images(faces), faces.__getitem__)
    assert found.near.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 3, 3, 4, 10, 10, 11]
    assert found.pairs.tolist() == [[4, 12]]


def test_find_groups_near_duplicates_transitively():
    chain = np.array([0, 0b1111, 0b11111111, 1 << 63 | 0xFFFFFFFF << 20], np.uint64)
    images = input_factories.noise(4)
    prints = image_hashes.hash_images(images)
    hashes = image_hashes.ImageHashes(chain, prints.sums, prints.squares)
    found = duplicates.find_duplicates(hashes, images.__getitem__)
    assert found.near.tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("seed", range(5))
def test_find_groups_identical_faces_as_comparison_of_all_pixels(seed, monkeypatch):
    """Some different faces have the same hash and sums: swapping two pixels of noise rarely changes the hash."""
    monkeypatch.setattr(duplicates, "_BATCH_SIZE", 7)
    random = np.random.default_rng(seed)
    images = input_factories.noise(12, seed)
    swapped = images.copy()
    swapped[:, [20, 21]] = images[:, [21, 20]]
    images = np.concatenate([images, swapped])[random.integers(0, 24, 60)]
    hashes = image_hashes.hash_images(images)
    found = duplicates.find_duplicates(hashes, images.__getitem__)
    numbers: dict[bytes, int] = {}
    assert found.exact.tolist() == [numbers.setdefault(image.tobytes(), len(numbers)) for image in images]
    alike = {(*key,) for key in zip(hashes.hashes, hashes.sums, hashes.squares)}
    assert len(alike) < len(numbers)  # the hashes alone would not do


def test_find_reads_no_face_when_all_hashes_differ():
    images = input_factories.noise(20)
    found = duplicates.find_duplicates(image_hashes.hash_images(images), lambda _: pytest.fail("a face was read"))
    assert found.exact.tolist() == list(range(20))


def test_find_groups_of_no_faces_are_empty():
    images = input_factories.noise(1)[:0]
    found = duplicates.find_duplicates(image_hashes.hash_images(images), images.__getitem__)
    assert (len(found.exact), len(found.near), found.pairs.shape) == (0, 0, (0, 2))
