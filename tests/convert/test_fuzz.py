"""Fuzz tests: the parsers return exactly the rows of mutated input, or name its fault.

`make fuzz` (`pytest -m slow tests/convert/test_fuzz.py`) runs 100,000 mutants. Its findings are recorded in
`CASES`. Most mutants have faces of 4x4 pixels: the code is the same, and a thousand mutants take a second.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import random
import tarfile
import zipfile

import numpy as np
import pytest

from fer.convert.readers import csv_reader, formats, image_folder, pixel_parser
from fer.convert.readers.hashing_reader import HashingReader
from fer.convert.readers.image_folder import Picture
from fer.errors import UserError
from tests.convert import input_factories

SMALL = 16  # pixels of a face
TOKENS = [b",", b'"', b'""', b"\n", b"\r", b"\r\n", b"\0", b" ", b"\t", b"\x0b", b"\x1c", b"\xa0", b"\xef\xbb\xbf"]
TOKENS += [b"0", b"255", b"256", b"999", b"1000", b"0000000255", b"-1", b"1.0", b"1e2", b"+3", b"\xd9\xa3", b"x"]
TOKENS += [b"emotion", b"pixels", b"Usage", b" pixels ", b"Training", b"PUBLICTEST", b"Test", b'"Training"', b"7", b"#"]

# Findings of earlier runs, and similar cases that are easily handled wrongly.
CASES = {
    "a carriage return within quotes": b'emotion,pixels\n3,"0\r"\n',
    "a quote that opens in one line and closes in the next": b'emotion,pixels\n3,"1 2\n3",4\n',
    "quotes after a blank": b'emotion,pixels\n3, "1 2"\n',
    "a quoted header alone": b'"pixels"',
    "a line of one quote": b'pixels\n"\n',
    "a line of two quotes": b'pixels\n""\n',
    "a NUL in a quoted row": b'emotion,pixels\n3,"\0"\n',
    "a NUL in a row": b"emotion,pixels\n3,\0\n",
    "white space that only text has": b"pixels\n\x1c\n\xa0\n\x85\n",
    "a mark within": b"emotion,pixels\n\xef\xbb\xbf3,1\n",
    "no line but the header": b"emotion,pixels\n",
    "nothing": b"",
    "a line's end alone": b"\n",
    "two columns of one name": b"pixels,PIXELS\n1,2\n",
    "a quoted header with spaces": b'"emotion", "pixels"\n3, "1 2"\n',
    "a header of quotes": b'"""pixels"\n1\n',
}


def valid_tables(count: int) -> list[bytes]:
    """Returns valid tables in all forms, of faces with `count` pixels."""
    faces = [input_factories.pixel_text(image[:count]) for image in input_factories.noise(3)]
    rows = list(zip([0, 6, 3], faces, input_factories.USAGES))
    made = [
        "emotion,pixels,Usage\n" + "".join(f"{label},{text},{usage}\n" for label, text, usage in rows),
        "emotion, Usage, pixels\n" + "".join(f"{label},{usage},{text}\n" for label, text, usage in rows),
        "emotion,pixels\n" + "".join(f'{label},"{text}"\n' for label, text, _ in rows),
        "pixels\n" + "".join(f"{text}\n" for _, text, _ in rows),
        'id,"emotion",note,pixels,Usage\n' + "".join(f'9,{a},"a ""b"", c",{b},{c}\n' for a, b, c in rows),
    ]
    return [text.replace("\n", end).encode() for text in made for end in ("\n", "\r\n")] + [
        b"\xef\xbb\xbf" + made[0].encode()
    ]


def mutate(content: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """Returns the content with one to six random changes."""
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        start = rng.randrange(len(content) + 1)
        stop = min(len(content), start + rng.choice((0, 1, 1, 2, 4, 16)))
        kind = rng.randrange(6)
        if kind == 0:
            put = rng.choice(TOKENS)
        elif kind == 1:
            put = bytes(rng.randrange(256) for _ in range(rng.randrange(4)))
        elif kind == 2:
            put = content[start:stop] * 2
        elif kind == 3:
            other = rng.choice(others)
            at = rng.randrange(len(other))
            put = other[at : at + rng.randrange(64)]
        elif kind == 4 and start < len(content):
            put, stop = bytes([content[start] ^ 1 << rng.randrange(8)]), start + 1
        else:
            put, stop = b"", rng.randrange(start, len(content) + 1) if rng.randrange(9) == 0 else stop
        content = content[:start] + put + content[stop:]
    return content


def parse_reference(content: bytes, count: int) -> tuple[list[tuple], list[tuple[int, str]], int] | None:
    """Parses a table in plain Python.

    Returns:
      Faces, faults (line, column) and the number of blank lines; None if the table has no valid header.
    """
    first, *lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    try:
        text = first.removesuffix(b"\r").decode("utf-8", "backslashreplace")
        names = next(csv.reader([text], strict=True, skipinitialspace=True), [])
    except csv.Error:
        names = first.removesuffix(b"\r").decode("utf-8", "backslashreplace").split(",")
    names = [name.strip().lower() for name in names]
    stated = [names.count(name) for name in ("emotion", "pixels", "usage")]
    if max(stated) > 1 or not stated[1] or (stated[2] and not stated[0]):
        return None
    if lines[-1:] == [b""]:
        lines.pop()
    faces, faults, blank = [], [], 0
    for number, line in enumerate(lines, 2):
        line = line.removesuffix(b"\r")
        if not line.strip():
            blank += 1
            continue
        try:
            text = line.replace(b"\r", b" ").decode("latin-1")
            fields = next(csv.reader([text], strict=True, skipinitialspace=True))
        except csv.Error:
            faults.append((number, ""))
            continue
        face = parse_fields(dict(zip(names, [field.encode("latin-1") for field in fields])), count)
        if len(fields) != len(names):
            faults.append((number, ""))
        elif isinstance(face, str):
            faults.append((number, face))
        else:
            faces.append(face)
    return faces, faults, blank


def parse_fields(row: dict[str, bytes], count: int) -> tuple | str:
    """Returns label, split and values of a row, or the name of the wrong column."""
    label, split = -1, 2
    if "emotion" in row:
        if row["emotion"].strip() not in (b"0", b"1", b"2", b"3", b"4", b"5", b"6"):
            return "emotion"
        label, split = int(row["emotion"]), -1
    if "usage" in row:
        usages = [b"training", b"publictest", b"privatetest"]
        if row["usage"].strip().lower() not in usages:
            return "Usage"
        split = usages.index(row["usage"].strip().lower())
    values = row.get("pixels", b"").split()
    if len(values) != count or not all(value.isdigit() and int(value) < 256 for value in values):
        return "pixels"
    return label, split, [int(value) for value in values]


def check(content: bytes, count: int, size: int) -> None:
    """Reads a table in chunks of `size` bytes and compares the result with `parse_reference`."""
    expected, refused = parse_reference(content, count), ""
    try:
        chunks = (content[start : start + size] for start in range(0, len(content), size))
        blocks = [csv_reader.parse_lines(piece) for piece in csv_reader.iter_chunks("f.csv", chunks)]
    except UserError as error:
        refused = str(error)
    assert bool(refused) == (expected is None), refused
    if refused:
        assert refused.startswith("f.csv, line 1"), refused
        return
    found = [
        (int(label), int(split), image.tolist())
        for block in blocks
        for label, split, image in zip(block.labels, block.splits, block.images)
    ]
    faults = [(reject.line, reject.column) for block in blocks for reject in block.rejects]
    blank = sum(block.blank for block in blocks)
    assert (found, faults, blank) == expected
    assert sum(block.count for block in blocks) == len(found) + len(faults)


def fuzz_tables(rounds: int, count: int, seed: int) -> None:
    sound = valid_tables(count)
    for number in range(rounds):
        rng = random.Random(f"{seed}/{number}")
        content = mutate(rng.choice(sound), sound, rng)
        try:
            check(content, count, rng.choice((1 << 20, 1 << 20, 100, 7)))
        except BaseException as error:
            raise AssertionError(f"mutant {seed}/{number} of {count} pixels: {content[:2000]!r}") from error


@pytest.fixture
def small_faces(monkeypatch):
    monkeypatch.setattr(pixel_parser, "PIXELS", SMALL)
    monkeypatch.setattr(pixel_parser, "SIDE", 4)


@pytest.mark.parametrize("size", [1 << 20, 5])
@pytest.mark.parametrize("case", CASES)
def test_csv_reader_handles_known_cases(case, size, small_faces):
    check(CASES[case], SMALL, size)


def test_csv_reader_reads_sound_tables_completely(small_faces):
    for content in valid_tables(SMALL):
        faces, faults, blank = parse_reference(content, SMALL)
        assert (len(faces), faults, blank) == (3, [], 0)
        check(content, SMALL, 1 << 20)


def test_csv_reader_returns_rows_or_names_fault_of_1000_mutants(small_faces):
    fuzz_tables(1_000, SMALL, seed=1)


@pytest.mark.slow
def test_csv_reader_returns_rows_or_names_fault_of_100000_mutants(small_faces):
    fuzz_tables(100_000, SMALL, seed=2)


@pytest.mark.slow
def test_csv_reader_returns_rows_or_names_fault_of_full_size_mutants():
    fuzz_tables(5_000, 2304, seed=3)


def archives_of_a_table() -> list[bytes]:
    """Returns a valid table in every archive format."""
    content, tar, zipped = valid_tables(2304)[0], io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        entry = tarfile.TarInfo("a/f.csv")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("f.csv", content)
    plain = [tar.getvalue(), zipped.getvalue()]
    return [
        *plain,
        *(pack(inner) for pack in (gzip.compress, lzma.compress, bz2.compress) for inner in (content, plain[0])),
    ]


def fuzz_archives(path, rounds: int, seed: int) -> None:
    sound = archives_of_a_table()
    for number in range(rounds):
        rng = random.Random(f"{seed}/{number}")
        content = mutate(rng.choice(sound), sound, rng)
        path.write_bytes(content)
        refused = ""
        try:
            for piece in formats.iter_chunks(str(path), HashingReader()):
                csv_reader.parse_lines(piece) if isinstance(piece, csv_reader.Lines) else image_folder.parse_pictures(
                    piece.pictures
                )
        except UserError as error:
            refused = str(error)
        except BaseException as error:
            raise AssertionError(f"mutant {seed}/{number}: {content[:2000]!r}") from error
        assert not refused or path.name in refused


def fuzz_pictures(rounds: int, seed: int) -> None:
    image = input_factories.noise(1)[0]
    sound = [
        input_factories.encode_image(image, *how)
        for how in (("PNG",), ("JPEG",), ("PNG", 60, "RGB"), ("JPEG", 60, "CMYK"))
    ]
    sound += [input_factories.encode_image(image, "PNG", 20, mode) for mode in ("P", "LA", "1", "I;16", "RGBA")]
    sound += [input_factories.encode_image(image, kind, 20, "RGB") for kind in ("WEBP", "BMP", "GIF", "TIFF", "PPM")]
    for number in range(rounds):
        rng = random.Random(f"{seed}/{number}")
        content = mutate(rng.choice(sound), sound, rng)
        try:
            block = image_folder.parse_pictures([Picture("f/angry/a", "angry/a", content)])
        except BaseException as error:
            raise AssertionError(f"mutant {seed}/{number}: {content[:3000]!r}") from error
        assert len(block.images) + len(block.rejects) == block.count == 1
        assert block.images.dtype == np.uint8


def test_formats_read_or_reject_200_mutated_archives(tmp_path):
    fuzz_archives(tmp_path / "faces", 200, seed=4)


def test_image_folder_reads_or_rejects_300_mutated_images():
    fuzz_pictures(300, seed=5)


@pytest.mark.slow
def test_formats_read_or_reject_20000_mutated_archives(tmp_path):
    fuzz_archives(tmp_path / "faces", 20_000, seed=6)


@pytest.mark.slow
def test_image_folder_reads_or_rejects_20000_mutated_images():
    fuzz_pictures(20_000, seed=7)
