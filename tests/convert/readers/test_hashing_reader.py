"""Hashes of inputs, computed while they are read."""

import hashlib

import pytest

from fer.convert.readers.hashing_reader import HashingReader
from fer.io import files
from tests.convert import input_factories

CONTENT = input_factories.noise(4).tobytes()
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def update(reader: HashingReader, path: str, start: int, stop: int) -> None:
    reader.update(path, len(CONTENT), start, memoryview(CONTENT)[start:stop])


@pytest.fixture
def path(tmp_path) -> str:
    return input_factories.write_file(tmp_path / "f", CONTENT)


@pytest.fixture
def forbid_rehash(monkeypatch):
    """Makes reading a file again for its hash an error."""
    monkeypatch.delattr(files, "sha256")


@pytest.mark.usefixtures("forbid_rehash")
def test_hashing_reader_hashes_sequential_read_without_reading_again(path):
    reader = HashingReader()
    for start in range(0, len(CONTENT), 1000):
        update(reader, path, start, start + 1000)
    assert reader.sha256(path) == SHA256


@pytest.mark.usefixtures("forbid_rehash")
def test_hashing_reader_ignores_reads_out_of_order(path):
    reader = HashingReader()
    update(reader, path, len(CONTENT) - 22, len(CONTENT))
    update(reader, path, 0, 5000)
    update(reader, path, 0, 4)
    update(reader, path, 5000, len(CONTENT))
    assert reader.sha256(path) == SHA256


@pytest.mark.parametrize("parts", [[], [(0, 100)], [(100, len(CONTENT))], [(0, 100), (200, len(CONTENT))]])
def test_hashing_reader_reads_file_again_after_partial_read(path, parts):
    reader = HashingReader()
    for part in parts:
        update(reader, path, *part)
    assert reader.sha256(path) == SHA256


def test_hashing_reader_counts_repeated_bytes(path):
    counts = []
    reader = HashingReader(counts.append)
    update(reader, path, 0, 100)
    update(reader, path, 0, 50)
    assert counts == [100, 50]
