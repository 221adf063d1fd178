"""The manifest: its content, and errors for damaged or changed ones."""

import dataclasses
import hashlib
import json
import os
import shutil

import pytest

from fer.data import manifest
from fer.errors import UserError
from fer.io import files
from fer.labels import CLASSES


@pytest.fixture
def folder(synthetic_shards, tmp_path) -> str:
    return shutil.copytree(synthetic_shards.folder, str(tmp_path / "copy"))


def change_manifest(folder: str, *path, value) -> None:
    """Sets one value of the manifest in a folder, or removes it if the value is None."""
    file = os.path.join(folder, manifest.MANIFEST_FILE)
    with open(file) as text:
        raw = json.load(text)
    node = raw
    for key in path[:-1]:
        node = node[key]
    if value is None:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    files.write_json(file, raw)


def test_manifest_lists_shards_with_sizes_and_hashes(synthetic_shards):
    split = synthetic_shards.split("train")
    assert sum(split.class_counts.values()) == split.examples == sum(shard.examples for shard in split.shards)
    for shard in split.shards:
        path = os.path.join(synthetic_shards.folder, shard.file)
        assert os.path.getsize(path) == shard.bytes
        assert files.sha256(path) == shard.sha256


def test_manifest_sha256_equals_hash_of_file(synthetic_shards):
    assert synthetic_shards.sha256 == files.sha256(os.path.join(synthetic_shards.folder, "manifest.json"))


def test_manifest_contains_no_time_and_no_path(synthetic_shards):
    with open(os.path.join(synthetic_shards.folder, "manifest.json")) as file:
        text = file.read()
    assert os.path.dirname(synthetic_shards.folder) not in text
    assert set(synthetic_shards.raw) == {
        *("format_version", "name", "classes", "image", "splits", "statistics", "source", "audit", "options"),
        *("created_by", "content_sha256"),
    }


def test_split_error_lists_available_splits(synthetic_shards):
    with pytest.raises(UserError, match="no split 'dev'; it has train, validation, test"):
        synthetic_shards.split("dev")


def test_seal_test_split_prevents_opening_test(synthetic_shards):
    sealed = synthetic_shards.seal_test_split()
    assert list(sealed.splits) == ["train", "validation"]
    with pytest.raises(UserError, match="Training cannot open the test split"):
        sealed.split("test")


def test_seal_test_split_removes_test_from_raw_manifest(synthetic_shards):
    assert set(synthetic_shards.raw["splits"]) == {"train", "validation", "test"}
    assert set(synthetic_shards.seal_test_split().raw["splits"]) == {"train", "validation"}


def test_read_manifest_error_names_folder_without_manifest(tmp_path):
    with pytest.raises(UserError, match=r"has no manifest.json"):
        manifest.read_manifest(str(tmp_path))


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[]", b"{}", b"null", b'{"format_version": 1}', b"[" * 100_000]
)
def test_read_manifest_rejects_damaged_file(content, tmp_path):
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(UserError, match=r"manifest.json is (not valid JSON|not a manifest|damaged)"):
        manifest.read_manifest(str(tmp_path))


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (["format_version"], 2, "has format_version 2, and this version reads 1"),
        (["classes"], [*CLASSES[1:], CLASSES[0]], "the class_counts of train do not name its classes in their order"),
        (["classes"], [*CLASSES[:6], "happy"], "is damaged .*The class 'happy' is there twice"),
        (["classes"], ["happy"], "is damaged .*There are 1 classes; 2 to 100 are supported"),
        (["classes"], [*CLASSES[:6], 7], "is damaged .*7 is no name of a class"),
        (["classes"], "angry", "is damaged .*classes is not a list of names"),
        (["splits"], None, "is damaged: it has no splits"),
        (["splits", "train", "shards"], None, "is damaged"),
        (["splits", "train", "shards", 0, "file"], "../train.tfrecord", "contains a folder"),
        (["splits", "train", "examples"], 7, "do not add up"),
        (["splits", "train", "class_counts", "fear"], None, "is damaged"),
        (["splits"], [], "is damaged"),
        (["splits", "train", "examples"], 5.9, "is damaged .*5.9 is not a whole number of 0 or more"),
        (["splits", "train", "class_counts", "fear"], -1, "is damaged .*-1 is not a whole number of 0 or more"),
        (["splits", "train", "shards", 0, "bytes"], "9", "is damaged .*'9' is not a whole number of 0 or more"),
        (["splits", "test", "train_duplicates"], 5, "is damaged"),
        (["splits", "test", "train_duplicates"], [3, -1], "is damaged .*-1 is not a whole number of 0 or more"),
        (["statistics"], 1, "is damaged"),
        (["statistics", "mean"], "zero", "is damaged .*'zero' is not a number from 0 to 1"),
        (["image", "height"], 64, "is damaged"),
    ],
)
def test_read_manifest_error_names_wrong_value(folder, path, value, reason):
    change_manifest(folder, *path, value=value)
    with pytest.raises(UserError, match=rf"manifest.json .*{reason}"):
        manifest.read_manifest(folder)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'"rows": 400', b'"rows": 401'),
        (b'"path": "synthetic', b'"path": "Synthetic'),
        (b'"content_sha256"', b'"content_sha257"'),
        (b'"created_by": "fer', b'"created_by": "for'),
        (b",\n  ", b",\r\n  "),
        (b'"seed": 0', b'"seed":\t0'),
    ],
)
def test_read_manifest_rejects_changed_file(folder, before, after):
    path = os.path.join(folder, manifest.MANIFEST_FILE)
    with open(path, "rb") as file:
        content = file.read()
    assert before in content
    with open(path, "wb") as file:
        file.write(content.replace(before, after, 1))
    with pytest.raises(UserError, match=r"manifest.json (was changed since it was written|is damaged: it has a key)"):
        manifest.read_manifest(folder)


def test_read_manifest_rejects_every_flipped_byte(folder):
    path = os.path.join(folder, manifest.MANIFEST_FILE)
    with open(path, "rb") as file:
        content = bytearray(file.read())
    for place in range(0, len(content), 7):
        for bit in (1, 4, 32, 255):
            content[place] ^= bit
            with open(path, "wb") as file:
                file.write(content)
            with pytest.raises(UserError):
                manifest.read_manifest(folder)
            content[place] ^= bit


def test_read_manifest_reads_manifest_without_checksum(folder):
    change_manifest(folder, manifest.CHECKSUM_KEY, value=None)
    assert manifest.read_manifest(folder).splits["train"].examples == 320


def test_manifest_checksum_covers_text_without_it(folder):
    with open(os.path.join(folder, manifest.MANIFEST_FILE), encoding="utf-8") as file:
        text = file.read()
    stated = json.loads(text)[manifest.CHECKSUM_KEY]
    line = f',\n  "{manifest.CHECKSUM_KEY}": "{stated}"'
    assert text.count(line) == 1
    assert hashlib.sha256(text.replace(line, "").encode()).hexdigest() == stated


def test_check_sizes_accepts_sound_folder(folder):
    assert manifest.check_sizes(manifest.read_manifest(folder)) is None


def test_check_sizes_error_names_missing_shard(folder):
    read = manifest.read_manifest(folder)
    name = read.splits["train"].shards[-1].file
    os.remove(os.path.join(folder, name))
    with pytest.raises(UserError, match=f"{name} is missing"):
        manifest.check_sizes(read)


def test_check_sizes_error_names_truncated_shard(folder):
    read = manifest.read_manifest(folder)
    name = read.splits["validation"].shards[0].file
    os.truncate(os.path.join(folder, name), 100)
    with pytest.raises(UserError, match=f"{name} has 100 bytes"):
        manifest.check_sizes(read)


def test_table_lists_many_classes_one_below_the_other(synthetic_shards):
    classes = (*(f"class {number}" for number in range(99)), "a name of forty characters" + "." * 14)
    counts = dict(zip(classes, range(100)))
    splits = {name: manifest.Split(name, 5000, counts, ()) for name in ("train", "test")}
    table = dataclasses.replace(synthetic_shards, classes=classes, splits=splits).table()
    head, *lines = table.splitlines()
    assert head.split() == ["train", "test"]
    assert len({len(line) for line in (head, *lines)}) == 1
    assert [line.rsplit(maxsplit=2) for line in lines] == [
        *([name, str(count), str(count)] for name, count in counts.items()),
        ["unlabelled", "50", "50"],
        ["total", "5,000", "5,000"],
    ]


def test_table_lists_splits_with_totals(synthetic_shards):
    head, *lines = synthetic_shards.table().splitlines()
    assert head.split() == [*CLASSES, "unlabelled", "total"]
    for line in lines:
        split, *counts = line.split()
        assert sum(map(int, counts[:-1])) == int(counts[-1]) == synthetic_shards.splits[split].examples
