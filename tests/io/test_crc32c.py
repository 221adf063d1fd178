"""CRC-32C against published values and a computation bit by bit."""

import numpy as np
import pytest

from fer.io import crc32c


def crc32c_bitwise(content: bytes) -> int:
    state = 0xFFFFFFFF
    for byte in content:
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
    return state ^ 0xFFFFFFFF


@pytest.mark.parametrize(
    ("content", "expected"),
    [  # RFC 3720, B.4, and the check value of the algorithm
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"123456789", 0xE3069283),
    ],
)
def test_crc32c_returns_published_values(content, expected):
    assert crc32c.crc32c(np.frombuffer(content, np.uint8)[np.newaxis]).tolist() == [expected]


@pytest.mark.parametrize("length", [4, 5, 8, 63, 64, 65, 128, 700])
def test_crc32c_equals_bitwise_computation_for_every_length(length):
    strings = np.random.default_rng(length).integers(0, 256, (3, length), dtype=np.uint8)
    assert crc32c.crc32c(strings).tolist() == [crc32c_bitwise(row.tobytes()) for row in strings]


def test_crc32c_computes_more_strings_than_a_block_as_single_ones():
    strings = np.random.default_rng(0).integers(0, 256, (1100, 20), dtype=np.uint8)
    found = crc32c.crc32c(strings)
    np.testing.assert_array_equal(found, [crc32c.crc32c(row[np.newaxis])[0] for row in strings])


def test_crc32c_returns_nothing_without_strings():
    assert crc32c.crc32c(np.empty((0, 20), np.uint8)).shape == (0,)


def test_mask_equals_the_definition_of_tfrecord():
    checksums = [0, 1, 0xE3069283, 0xFFFFFFFF]
    expected = [(((crc >> 15 | crc << 17) & 0xFFFFFFFF) + 0xA282EAD8) % 2**32 for crc in checksums]
    assert crc32c.mask(np.array(checksums, np.uint32)).tolist() == expected
