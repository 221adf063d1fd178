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

_PAD = b"   "  # so that every number has three bytes before its end
_SPACE = 32
_ZERO = np.uint8(48)
_TEN, _HUNDRED = np.uint8(10), np.uint8(100)


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
    text = np.frombuffer(_PAD + b" ".join(fields) + b" ", np.uint8)
    digits = text - _ZERO
    is_digit = digits < 10
    digits *= is_digit
    is_space = text == _SPACE
    # Element i is the value of a number whose last digit is byte i + 2.
    second = is_digit[1:] & is_digit[:-1]
    third = second[1:] & second[:-1]
    hundreds = digits[:-2] * third
    value = digits[1:-1] * is_digit[2:]
    value *= _TEN
    value += digits[2:]
    wrong = (third[1:] & third[:-1]).any()  # four digits
    wrong |= hundreds.max() > 2 or ((hundreds == 2) & (value > 55) & is_digit[2:]).any()  # above 255
    wrong |= np.count_nonzero(is_space) + np.count_nonzero(is_digit) != len(text)  # neither digit nor space
    wrong |= (is_space[3:] & is_space[2:-1]).any()  # an empty number
    ends = np.flatnonzero(is_space)[len(_PAD) :]
    wrong |= len(ends) != len(fields) * PIXELS
    if wrong:
        return None
    lengths = np.array([len(field) + 1 for field in fields])
    if (ends[PIXELS - 1 :: PIXELS] != len(_PAD) - 1 + np.cumsum(lengths)).any():  # a face has too many
        return None
    hundreds *= _HUNDRED
    value += hundreds
    return value.take(ends - 3).reshape(len(fields), PIXELS)


def shorten(token: bytes) -> str:
    """Returns a value for a message, in quotes and shortened."""
    text = token.decode("utf-8", "backslashreplace")
    return repr(text if len(text) <= 20 else text[:20] + "...")
