"""The index of records finds every offset, and reports damaged shards before the first batch."""

import dataclasses
import hashlib
import os

import numpy as np
import pytest

from fer.data import manifest, record_index
from fer.errors import UserError


def write_shard(folder, content: bytes, count: int, **changes) -> manifest.Manifest:
    with open(os.path.join(folder, "train.tfrecord"), "wb") as file:
        file.write(content)
    shard = manifest.Shard("train.tfrecord", count, len(content), hashlib.sha256(content).hexdigest())
    split = manifest.Split("train", count, {}, (dataclasses.replace(shard, **changes),))
    return manifest.Manifest(str(folder), "x", (), {"train": split}, {}, "", {})


def zero_records(lengths) -> bytes:
    """Returns records of given lengths, of zeros.

    Their checksums are zeros too: the index does not check them, as the SHA-256 of the shard covers them.
    """
    return b"".join(length.to_bytes(8, "little") + bytes(4 + length + 4) for length in lengths)


@pytest.mark.parametrize(
    "lengths",
    [[100] * 1000, [100, 101] * 50, [7], [2382] * 130 + [2383] * 600 + [2392] * 3, [0, 5, 5, 0]],
    ids=["alike", "in turn", "one", "longer and longer", "empty ones"],
)
@pytest.mark.parametrize("piece", [64, 1 << 23], ids=["small pieces", "one piece"])
def test_record_index_finds_offset_of_every_record(lengths, piece, tmp_path, monkeypatch):
    monkeypatch.setattr(record_index, "_READ_BYTES", max(piece, max(lengths)))
    found = record_index.find_chunks(write_shard(tmp_path, zero_records(lengths), len(lengths)), "train")
    assert found.count.max() <= record_index.CHUNK_RECORDS
    places = [
        (offset + number * (length + record_index.FRAMING_BYTES), length)
        for _, offset, length, count in zip(*found)
        for number in range(count)
    ]
    starts = np.cumsum([0, *(length + 16 for length in lengths[:-1])])
    assert places == list(zip(starts, lengths))


def test_record_index_counts_examples_of_manifest(synthetic_shards):
    found = record_index.find_chunks(synthetic_shards, "train")
    assert found.count.sum() == synthetic_shards.split("train").examples


@pytest.mark.parametrize(
    ("content", "changes", "reason"),
    [
        (zero_records([50] * 4), {"sha256": "0" * 64}, "has another SHA-256"),
        (zero_records([50] * 4)[:-1], {}, "ends within a record"),
        (zero_records([50] * 4), {"examples": 5}, "holds 4 faces where manifest.json states 5"),
        (b"\xff" * 100, {}, "has a record of"),
    ],
    ids=["changed", "cut", "another count", "no records"],
)
def test_record_index_error_names_bad_shard(content, changes, reason, tmp_path):
    with pytest.raises(UserError, match=rf"train\.tfrecord {reason}"):
        record_index.find_chunks(write_shard(tmp_path, content, 4, **changes), "train")


def test_record_index_error_names_missing_shard(tmp_path):
    damaged = write_shard(tmp_path, zero_records([5]), 1)
    os.remove(tmp_path / "train.tfrecord")
    with pytest.raises(UserError, match=r"train\.tfrecord is missing"):
        record_index.find_chunks(damaged, "train")
