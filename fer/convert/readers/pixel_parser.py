"""Parser of FER-2013's column `pixels`: text -> bytes, in bulk.

A face is 2,304 numbers of one to three digits. Python's number parsing would take most of the time of a conversion, so
faces are parsed in blocks: every byte of the text is treated as if a number ended before it, by a few operations on
whole arrays, and the results at the actual ends are selected. A block that is not in the expected format is parsed
again face by face, first with normalized white space, then by slower code that describes the fault.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fer.labels import PIXELS, SIDE

BLOCK_FACES = 16  # faces parsed at once: their text and the arrays fit into the second-level cache

_PAD = (b"",) * 4  # joined, four spaces: every number has three bytes before its end
_SPACE = np.uint8(32)
_ZERO = np.uint8(48)
_ONE, _TEN, _HUNDRED = np.uint8(1), np.uint8(10), np.uint8(100)


def parse_pixels(fields: Sequence[bytes | memoryview]) -> tuple[np.ndarray, dict[int, str]]:
    """Parses the pixels of many faces.

    Args:
      fields: n texts, one per face.

    Returns:
      uint8 [n, 2304], and the fault of each wrong face by its position (its row of the array is undefined).
    """
    images = np.empty((len(fields), PIXELS), np.uint8)
    faults = {}
    for start in range(0, len(fields), BLOCK_FACES):
        block = fields[start : start + BLOCK_FACES]
        parsed = _parse_block(block)
        if parsed is not None:
            images[start : start + len(block)] = parsed
            continue
        for position, field in enumerate(map(bytes, block), start):
            parsed = _parse_block([b" ".join(field.split())])
            alone = parse_face(field) if parsed is None else parsed[0]
            if isinstance(alone, str):
                faults[position] = alone
            else:
                images[position] = alone
    return images, faults


def parse_face(field: bytes) -> np.ndarray | str:
    """Parses the pixels of one face, tolerating white space and leading zeros.

    Returns:
      uint8 [2304], or a description of the fault.
    """
    values = []
    for position, token in enumerate(field.split(), 1):
        if not token.isdigit():
            return f"value {position} is {shorten(token)}, not a whole number from 0 to 255"
        digits = token.lstrip(b"0") or b"0"  # Python refuses to parse thousands of digits, even zeros
        if len(digits) > 3 or int(digits) > 255:
            return f"value {position} is {shorten(token)}, above 255"
        values.append(int(digits))
    if len(values) != PIXELS:
        return f"{len(values):,} values where {SIDE} x {SIDE} = {PIXELS:,} are expected"
    return np.array(values, np.uint8)


def _parse_block(fields: Sequence[bytes | memoryview]) -> np.ndarray | None:
    """Parses faces written as numbers with one space between them; returns None if any of them is not.

    Returns:
      uint8 [n, 2304].
    """
    joined = b" ".join([*_PAD, *fields, b"0"])
    text = np.frombuffer(joined, np.uint8, len(joined) // 2 * 2)
    # Operations on uint8 alone are the fastest: bool is used as 0 and 1, `spaces - 1` as a mask of the digits.
    is_space = text == _SPACE
    spaces = is_space.view(np.uint8)
    mask = spaces - _ONE
    digits = text - _ZERO
    digits &= mask  # a space has the value 0
    if digits.max() > 9 or (is_space[len(_PAD) :] & is_space[len(_PAD) - 1 : -1]).any():  # an empty number
        return None
    # Element i belongs to a number that ends before byte i + 3 of the text.
    hundreds = digits[:-3] & mask[1:-2]
    hundreds *= spaces[3:]
    if hundreds.max() > 2:
        return None
    hundreds *= _HUNDRED
    values = np.zeros(len(text), np.uint8)
    numbers = values[3:]
    np.multiply(digits[1:-2], _TEN, out=numbers)
    numbers += digits[2:-1]
    numbers += hundreds
    values *= spaces
    selected = _select_values(values, is_space, [len(field) for field in fields])
    if selected is None:
        return None
    if _count_digits(selected) != sum(map(len, fields)) + len(fields) - selected.size:
        # Leading zeros are accepted, numbers with four digits or above 255, which overflow, are not.
        pairs = mask[1:] & mask[:-1]
        if (pairs[2:] & pairs[:-2]).any() or (numbers < hundreds).any():
            return None
    return selected


def _select_values(values: np.ndarray, is_space: np.ndarray, lengths: list[int]) -> np.ndarray | None:
    """Returns the values at the ends of the numbers of each face; None if a face has more or fewer than `PIXELS`.

    Two ends are at least two bytes apart, so that an aligned pair of bytes holds at most one. Searching the pairs takes
    half the time of searching the bytes.

    Args:
      values: uint8 [n], the value of the number that ends before each byte of the text; 0 where none ends.
      is_space: bool [n], of the text.
      lengths: of the fields, in bytes.

    Returns:
      uint8 [len(lengths), 2304].
    """
    ends = np.flatnonzero(is_space.view(np.uint16) != 0)[len(_PAD) // 2 :]
    lasts = np.cumsum(lengths) + np.arange(len(lengths)) + len(_PAD)
    if len(ends) != len(lengths) * PIXELS or (ends[PIXELS - 1 :: PIXELS] != lasts // 2).any():
        return None
    pairs = values.view(np.uint16).take(ends)
    pairs |= pairs >> np.uint16(8)
    return pairs.astype(np.uint8).reshape(len(lengths), PIXELS)


def _count_digits(values: np.ndarray) -> int:
    """Returns the number of digits of all values, uint8, without leading zeros."""
    return values.size + np.count_nonzero(values > 9) + np.count_nonzero(values > 99)


def shorten(token: bytes) -> str:
    """Returns a value for a message, in quotes and shortened."""
    text = token.decode("utf-8", "backslashreplace")
    return repr(text if len(text) <= 20 else text[:20] + "...")
