"""CRC-32C (Castagnoli) of many byte strings of one length at once, in NumPy: the checksum of TFRecords.

TensorFlow's own implementation is only reachable by importing TensorFlow, which takes longer than a conversion. The
algorithm is "slicing" (Kounavis and Berry 2008) with two tables of 65,536 entries. CRC without its initial value
and final inversion is linear, so each string is split into segments that are computed side by side and then combined.
"""

from __future__ import annotations

import functools

import numpy as np

POLYNOMIAL = 0x82F63B78  # reflected
MASK_DELTA = 0xA282EAD8  # of TFRecord: tensorflow/core/lib/hash/crc32c.h
_SEGMENTS = 16  # of each string, so that NumPy's operations are long enough to run beside those of other threads
_WORD = 4  # bytes per step
_BLOCK = 512  # strings per pass; larger arrays would be allocated anew each time
_UINT32 = "<u4"


def crc32c(strings: np.ndarray) -> np.ndarray:
    """Returns the CRC-32C of each row.

    Args:
      strings: uint8 [n, L], with L at least 4.

    Returns:
      uint32 [n].
    """
    blocks = range(0, max(len(strings), 1), _BLOCK)
    return np.concatenate([_crc32c(strings[start : start + _BLOCK]) for start in blocks])


def _crc32c(strings: np.ndarray) -> np.ndarray:
    count, length = strings.shape
    segment = -(-length // (_SEGMENTS * _WORD))  # in words
    padded = np.zeros((count, segment * _SEGMENTS * _WORD), np.uint8)
    padded[:, -length:] = strings
    padded[:, -length : -length + 4 or None] ^= 0xFF  # the initial value, after which zeros in front change nothing
    words = padded.view(_UINT32).reshape(count * _SEGMENTS, segment)
    state = np.zeros(count * _SEGMENTS, _UINT32)
    for column in np.ascontiguousarray(words.T):
        state ^= column
        _advance(state, *_word_tables())
    of_segments = state.reshape(count, _SEGMENTS).T
    total = of_segments[0].copy()
    for next_segment in of_segments[1:]:
        _advance(total, *_segment_tables(segment))
        total ^= next_segment
    return ~total


def mask(checksums: np.ndarray) -> np.ndarray:
    """Returns the masked checksums that TFRecords store, uint32 [n]."""
    return (checksums >> 15 | checksums << 17) + np.uint32(MASK_DELTA)


def _advance(state: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
    """Replaces each state by the value of a linear function, given by its tables."""
    # Indices of the native type and a mode without exceptions make np.take three times as fast.
    lower, upper = state.view("<u2").reshape(-1, 2).T.astype(np.intp, order="C")
    np.take(low, lower, mode="wrap", out=state)
    state ^= np.take(high, upper, mode="wrap")


@functools.cache
def _word_tables() -> tuple[np.ndarray, np.ndarray]:
    """Returns the tables that advance a state by the bits of one word, for its low and its high half."""
    state = (np.uint32(1) << np.arange(32, dtype=np.uint32)).astype(_UINT32)
    for _ in range(8 * _WORD):
        state = (state >> 1 ^ np.where(state & 1, np.uint32(POLYNOMIAL), np.uint32(0))).astype(_UINT32)
    return _linear_tables(state)


@functools.cache
def _segment_tables(words: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the tables that advance a state by a segment of zeros of this many words."""
    state = (np.uint32(1) << np.arange(32, dtype=np.uint32)).astype(_UINT32)
    for _ in range(words):
        _advance(state, *_word_tables())
    return _linear_tables(state)


def _linear_tables(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the tables, uint32 [65536] each, of a linear function of the low and the high 16 bits.

    Args:
      images: uint32 [32], the function's value for each bit alone.
    """
    tables = []
    for half in (images[:16], images[16:]):
        table = np.zeros(1, _UINT32)
        for image in half:
            table = np.concatenate([table, table ^ image]).astype(_UINT32)
        tables.append(table)
    return tables[0], tables[1]
