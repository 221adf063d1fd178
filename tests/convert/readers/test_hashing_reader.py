"""A source's sum, without reading it twice."""

import hashlib

import pytest

from fer.convert.readers.hashing_reader import HashingReader
from fer.io import files
from tests.convert import input_factories

CONTENT = input_factories.noise(4).tobytes()
SUM = hashlib.sha256(CONTENT).hexdigest()


def take(tally: HashingReader, path: str, start: int, stop: int) -> None:
    tally.update(path, len(CONTENT), start, memoryview(CONTENT)[start:stop])


@pytest.fixture
def path(tmp_path) -> str:
    return input_factories.write(tmp_path / "f", CONTENT)


@pytest.fixture
def unread(monkeypatch):
    """Makes reading a file for its sum an error."""
    monkeypatch.delattr(files, "sha256")


@pytest.mark.usefixtures("unread")
def test_hashing_reader_hashes_sequential_read_without_reading_again(path):
    tally = HashingReader()
    for start in range(0, len(CONTENT), 1000):
        take(tally, path, start, start + 1000)
    assert tally.sha256(path) == SUM


@pytest.mark.usefixtures("unread")
def test_hashing_reader_ignores_reads_out_of_order(path):
    tally = HashingReader()
    take(tally, path, len(CONTENT) - 22, len(CONTENT))
    take(tally, path, 0, 5000)
    take(tally, path, 0, 4)
    take(tally, path, 5000, len(CONTENT))
    assert tally.sha256(path) == SUM


@pytest.mark.parametrize("parts", [[], [(0, 100)], [(100, len(CONTENT))], [(0, 100), (200, len(CONTENT))]])
def test_hashing_reader_reads_file_again_after_partial_read(path, parts):
    tally = HashingReader()
    for part in parts:
        take(tally, path, *part)
    assert tally.sha256(path) == SUM


def test_hashing_reader_counts_repeated_bytes(path):
    counts = []
    tally = HashingReader(counts.append)
    take(tally, path, 0, 100)
    take(tally, path, 0, 50)
    assert counts == [100, 50]
