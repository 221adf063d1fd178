"""Property tests: for any table, the reader returns exactly its rows or names the fault."""

import csv
import io

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fer.convert.readers import csv_reader, pixel_parser
from fer.errors import UserError
from tests.convert import input_factories

IMAGES = input_factories.noise(5)
TEXTS = [input_factories.pixel_text(image) for image in IMAGES]
SETTINGS = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))

labels = st.integers(-2, 9).map(str) | st.sampled_from(["", " 3 ", "happy", "3.0", "\u0663", "00"])
usages = st.sampled_from([*input_factories.USAGES, " Training ", "training", "", "Test", "Train,ing"])
damaged = st.builds(
    lambda text, at, value: " ".join([*text.split(" ")[:at], *value, *text.split(" ")[at + 1 :]]),
    st.sampled_from(TEXTS),
    st.integers(0, 2303),
    st.lists(st.sampled_from(["256", "-1", "", "007", "x", "1.5", "255", "0"]), max_size=2),
)
rows = st.tuples(labels, st.sampled_from(TEXTS) | damaged, usages)


def parse_row(label: str, text: str, usage: str) -> tuple[int, int, list[int]] | None:
    """Parses a row in plain Python. Returns label, split and pixels, or None if the row is invalid."""
    values = text.split()
    if label.strip() not in set("0123456") or usage.strip().lower() not in ("training", "publictest", "privatetest"):
        return None
    if len(values) != 2304 or not all(value.isdecimal() and int(value) < 256 for value in values):
        return None
    split = ("training", "publictest", "privatetest").index(usage.strip().lower())
    return int(label), split, [int(value) for value in values]


@SETTINGS
@given(st.lists(rows, max_size=4), st.sampled_from(["\n", "\r\n"]), st.sampled_from([0, 1]), st.integers(1, 20_000))
def test_csv_reader_returns_good_rows_and_names_others_of_generated_table(given_rows, ending, quoting, size):
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=ending, quoting=quoting)
    writer.writerow(["emotion", "pixels", "Usage"])
    writer.writerows(given_rows)
    content = text.getvalue().encode()
    pieces = csv_reader.iter_chunks("f.csv", (content[start : start + size] for start in range(0, len(content), size)))
    blocks = [csv_reader.parse_lines(piece) for piece in pieces]
    expected = [parse_row(*row) for row in given_rows]
    found = [
        (int(label), int(split), image.tolist())
        for block in blocks
        for label, split, image in zip(block.labels, block.splits, block.images)
    ]
    assert found == [row for row in expected if row is not None]
    wrong = [number for number, row in enumerate(expected, 2) if row is None]
    assert [reject.line for block in blocks for reject in block.rejects] == wrong


@SETTINGS
@given(st.binary(max_size=300), st.booleans())
def test_csv_reader_reads_or_rejects_any_bytes(content, headed):
    content = b"emotion,pixels,Usage\n" + content if headed else content
    refused = ""
    try:
        blocks = [csv_reader.parse_lines(piece) for piece in csv_reader.iter_chunks("f.csv", iter([content]))]
    except UserError as error:
        refused = str(error)
    if refused:
        assert refused.startswith("f.csv, line 1")
    else:
        lines = content.split(b"\n")[1:]
        assert sum(block.count + block.blank for block in blocks) == len(lines) - (lines[-1:] == [b""])


@SETTINGS
@given(st.lists(st.sampled_from(TEXTS) | damaged, min_size=1, max_size=5))
def test_pixel_parser_parses_faces_alike_together_and_alone(texts):
    images, faults = pixel_parser.parse_pixels([text.encode() for text in texts])
    for position, text in enumerate(texts):
        alone = pixel_parser.parse_face(text.encode())
        if isinstance(alone, str):
            assert faults[position] == alone
        else:
            assert position not in faults
            np.testing.assert_array_equal(images[position], alone)
