"""Parser of FER-2013's column `pixels`: text -> bytes, in bulk.

A face is 2,304 numbers of one to three digits. Python's number parsing would take most of the time of a conversion, so
faces are parsed in blocks: every byte of the text is treated as if a number ended there, by a few operations on whole
arrays, and the results at the actual ends are selected. A block that is not in the expected format is parsed again face
by face, by slower code that describes the fault.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fer.labels import PIXELS, SIDE

BLOCK_FACES = 24  # faces parsed at once: their text and the intermediate arrays fit into the second-level cache

_PAD = b"    "  # so that every number has three bytes before its end; an even number of bytes
_SPACE = np.uint8(32)
_ZERO = np.uint8(48)
_TEN, _HUNDRED = np.uint8(10), np.uint8(100)
_LOW_BITS = np.uint8(15)


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
        for position, field in enumerate(block, start):
            alone = parse_face(bytes(field))
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
    """Parses faces written as numbers with one space between them; returns None if any of them is not."""
    numbers = b" ".join(fields)
    text = np.frombuffer(b"".join([_PAD, numbers, b" " if len(numbers) % 2 else b" 0"]), np.uint8)  # an even length
    is_space, digits = text == _SPACE, text - _ZERO
    is_digit = digits < _TEN
    digits &= _LOW_BITS  # a space has the value 0
    # Element i is the value of a number whose last digit is byte i + 2. Operations on uint8 alone are the fastest.
    mask = np.negative(is_digit.view(np.int8)).view(np.uint8)  # 255 for a digit
    second = mask[1:] & mask[:-1]
    third = second[1:] & second[:-1]
    hundreds = digits[:-2] & second[1:]
    if (
        np.count_nonzero(is_space) + np.count_nonzero(is_digit) != len(text)  # neither digit nor space
        or (is_space[len(_PAD) :] & is_space[len(_PAD) - 1 : -1]).any()  # an empty number
        or (third[1:] & third[:-1]).max()  # four digits; `any` of uint8 is slower
        or hundreds.max() > 2
    ):
        return None
    hundreds *= _HUNDRED
    value = digits[1:-1] & mask[2:]
    value *= _TEN
    value += digits[2:]
    value += hundreds
    if (value < hundreds).any():  # above 255
        return None
    return _select_values(value, is_space, [len(field) for field in fields])


def _select_values(value: np.ndarray, is_space: np.ndarray, lengths: list[int]) -> np.ndarray | None:
    """Returns the values at the ends of the numbers of each face; None if a face has more or fewer than `PIXELS`.

    Two ends are at least two bytes apart, so that an aligned pair of bytes holds at most one. Searching the pairs takes
    half the time of searching the bytes.

    Args:
      value: uint8 [n - 2], element i for a number that ends before byte i + 3 of the text.
      is_space: bool [n], of the text.
      lengths: of the fields, in bytes.
    """
    at_end = np.negative(is_space.view(np.int8)).view(np.uint8)  # 255 for a space
    at_end[3:] &= value[:-1]
    pairs = at_end.view(np.uint16)
    ends = np.flatnonzero(is_space.view(np.uint16) != 0)[len(_PAD) // 2 :]
    lasts = np.cumsum(lengths) + np.arange(len(lengths)) + len(_PAD)
    if len(ends) != len(lengths) * PIXELS or (ends[PIXELS - 1 :: PIXELS] != lasts // 2).any():
        return None
    return (pairs | pairs >> 8).take(ends).astype(np.uint8).reshape(len(lengths), PIXELS)


def shorten(token: bytes) -> str:
    """Returns a value for a message, in quotes and shortened."""
    text = token.decode("utf-8", "backslashreplace")
    return repr(text if len(text) <= 20 else text[:20] + "...")
