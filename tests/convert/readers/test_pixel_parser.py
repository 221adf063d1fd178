"""The pixel parser, compared with Python's own parsing of integers."""

import random

import numpy as np
import pytest

from fer.convert.readers import pixel_parser
from tests.convert import input_factories


def replace_value(position: int, token: str) -> bytes:
    """Returns the pixels of a face with the value at `position` replaced."""
    tokens = input_factories.pixel_text(input_factories.noise(1)[0]).split(" ")
    tokens[position] = token
    return " ".join(tokens).encode()


def test_pixel_parser_reads_every_value_of_a_block():
    images = input_factories.noise(3 * pixel_parser.BLOCK_FACES + 5)
    parsed, faults = pixel_parser.parse_pixels([input_factories.pixel_text(image).encode() for image in images])
    np.testing.assert_array_equal(parsed, images)
    assert not faults


def test_pixel_parser_returns_no_images_without_faces():
    parsed, faults = pixel_parser.parse_pixels([])
    assert parsed.shape == (0, 2304)
    assert not faults


def test_pixel_parser_reads_values_of_one_and_three_digits_together():
    images = np.array([[0] * 2304, [255] * 2304, [9, 10] * 1152, [99, 100] * 1152], np.uint8)
    parsed, faults = pixel_parser.parse_pixels([input_factories.pixel_text(image).encode() for image in images])
    np.testing.assert_array_equal(parsed, images)
    assert not faults


@pytest.mark.parametrize("value", [256, 257, 299, 300, 511, 999, 1000, 2550, 10**12])
@pytest.mark.parametrize("position", [0, 1, 2303])
def test_pixel_parser_error_names_value_above_255(value, position):
    _, faults = pixel_parser.parse_pixels([replace_value(position, str(value))])
    assert f"value {position + 1} is '{value}'" in faults[0]
    assert "above 255" in faults[0]


@pytest.mark.parametrize("token", ["-1", "1.0", "x", "0x1", "1e2", "+1", "٣", "[70", "1,", "\0"])
def test_pixel_parser_error_names_value_that_is_no_integer(token):
    _, faults = pixel_parser.parse_pixels([replace_value(7, token)])
    assert "value 8 is" in faults[0]
    assert "not a whole number" in faults[0]


@pytest.mark.parametrize("count", [0, 1, 2303, 2305, 4608])
def test_pixel_parser_error_counts_values(count):
    _, faults = pixel_parser.parse_pixels([b" ".join([b"7"] * count)])
    assert faults[0].startswith(f"{count:,} values")


def test_pixel_parser_does_not_move_values_between_faces():
    images = input_factories.noise(4)
    fields = [input_factories.pixel_text(image).encode() for image in images]
    fields[1] = b" ".join(fields[1].split(b" ")[:-1])
    fields[2] += b" 7"
    parsed, faults = pixel_parser.parse_pixels(fields)
    assert sorted(faults) == [1, 2]
    np.testing.assert_array_equal(parsed[[0, 3]], images[[0, 3]])


def test_pixel_parser_counts_no_value_between_two_spaces():
    tokens = input_factories.pixel_text(input_factories.noise(1)[0]).split(" ")
    _, faults = pixel_parser.parse_pixels([" ".join([*tokens[:100], "", *tokens[101:]]).encode()])
    assert "2,303 values" in faults[0]


@pytest.mark.parametrize("form", ["  {}", "{}  ", "\t{}"])
def test_pixel_parser_accepts_white_space_around_pixels(form):
    image = input_factories.noise(1)
    parsed, faults = pixel_parser.parse_pixels([form.format(input_factories.pixel_text(image[0])).encode()])
    np.testing.assert_array_equal(parsed, image)
    assert not faults


def test_pixel_parser_accepts_leading_zeros_and_double_spaces():
    image = input_factories.noise(1)
    parsed, faults = pixel_parser.parse_pixels(["  ".join(f"{value:03d}" for value in image[0]).encode()])
    np.testing.assert_array_equal(parsed, image)
    assert not faults


def test_pixel_parser_accepts_5000_leading_zeros():
    image = input_factories.noise(1)
    _, *others = input_factories.pixel_text(image[0]).split(" ")
    for zeros, value in ((b"0" * 5000, 0), (b"0" * 5000 + b"7", 7)):
        parsed, faults = pixel_parser.parse_pixels([zeros + b" " + " ".join(others).encode()])
        assert (parsed[0, 0], parsed[0, 1:].tolist(), faults) == (value, image[0, 1:].tolist(), {})


def test_pixel_parser_keeps_other_faces_of_block_with_bad_face():
    images = input_factories.noise(pixel_parser.BLOCK_FACES)
    fields = [input_factories.pixel_text(image).encode() for image in images]
    fields[5] = replace_value(3, "256")
    parsed, faults = pixel_parser.parse_pixels(fields)
    assert list(faults) == [5]
    others = np.arange(pixel_parser.BLOCK_FACES) != 5
    np.testing.assert_array_equal(parsed[others], images[others])


def edit_text(text: str, draw: random.Random) -> str:
    """Returns a text with one character inserted, removed or replaced at a random position, or with other ends."""
    at, character = draw.randrange(len(text)), draw.choice(" 0123456789x,\t\x00")
    return draw.choice(
        [
            text,
            text[:at] + character + text[at:],
            text[:at] + text[at + 1 :],
            text[:at] + character + text[at + 1 :],
            text + character,
            character + text,
            "",
        ]
    )


@pytest.mark.parametrize("seed", range(40))
def test_pixel_parser_parses_blocks_as_single_faces_when_texts_are_edited(seed):
    draw = random.Random(seed)
    fields = []
    for image in input_factories.noise(6, seed):
        width = draw.choice([1, 1, 3])  # of the numbers, with leading zeros
        fields.append(edit_text(" ".join(f"{value:0{width}d}" for value in image), draw).encode())
    parsed, faults = pixel_parser.parse_pixels(fields)
    for position, field in enumerate(fields):
        alone = pixel_parser.parse_face(field)
        if isinstance(alone, str):
            assert faults[position] == alone
        else:
            assert position not in faults
            np.testing.assert_array_equal(parsed[position], alone)
