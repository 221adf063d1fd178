"""Verification finds every difference between a folder and its manifest."""

import functools
import os
import shutil

import pytest

from fer.convert.verify import verify
from fer.data import example_codec, manifest
from fer.errors import UserError
from fer.io import files


@pytest.fixture
def folder(synthetic_shards, tmp_path) -> str:
    return shutil.copytree(synthetic_shards.folder, str(tmp_path / "copy"))


def test_verify_accepts_sound_folder(folder, synthetic_shards):
    assert verify(folder).sha256 == synthetic_shards.sha256


def test_verify_error_names_every_difference(folder, synthetic_shards):
    train, validation = (synthetic_shards.splits[name].shards[0].file for name in ("train", "validation"))
    os.remove(os.path.join(folder, train))
    os.truncate(os.path.join(folder, validation), 50)
    shutil.copy(os.path.join(synthetic_shards.folder, train), os.path.join(folder, "train-00009-of-00010.tfrecord"))
    with pytest.raises(UserError) as caught:
        verify(folder)
    assert f"{train} is missing" in str(caught.value)
    assert f"{validation} has 50 bytes" in str(caught.value)
    assert "train-00009-of-00010.tfrecord is a shard that manifest.json does not name" in str(caught.value)


@pytest.mark.parametrize("place", [0.0, 0.3, 0.999])
def test_verify_finds_flipped_bit_anywhere(folder, synthetic_shards, place):
    name = synthetic_shards.splits["test"].shards[0].file
    path = os.path.join(folder, name)
    with open(path, "r+b") as file:
        file.seek(int(place * os.path.getsize(path)))
        [byte] = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 16]))
    with pytest.raises(UserError, match=f"{name} has another SHA-256"):
        verify(folder)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (("statistics", "mean"), "The pixels of split train do not have the mean and standard deviation"),
        (("statistics", "std"), "The pixels of split train do not have the mean and standard deviation"),
        (
            ("splits", "validation", "class_counts", "fear"),
            "The labels of split validation do not have the class counts",
        ),
    ],
)
def test_verify_recomputes_statistics_and_class_counts(folder, keys, message):
    path = os.path.join(folder, "manifest.json")
    content = files.read_json(path, "the manifest")
    *outer, last = keys
    place = functools.reduce(dict.get, outer, content)
    place[last] = place[last] + 1 if isinstance(place[last], int) else place[last] / 2
    manifest.write_manifest(folder, content)
    with pytest.raises(UserError, match=message):
        verify(folder)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_verify_recomputes_train_duplicates(folder, synthetic_shards, split):
    content = files.read_json(os.path.join(folder, "manifest.json"), "the manifest")
    row = int(example_codec.read_split(synthetic_shards, split).rows[3])
    assert row not in content["splits"][split]["train_duplicates"]
    content["splits"][split]["train_duplicates"].append(row)
    manifest.write_manifest(folder, content)
    with pytest.raises(UserError, match=f"The images of split {split} do not have the train_duplicates of manifest"):
        verify(folder)


def test_verify_reports_damaged_train_shard_alone(folder, synthetic_shards):
    shard = synthetic_shards.splits["train"].shards[0].file
    os.remove(os.path.join(folder, shard))
    content = files.read_json(os.path.join(folder, "manifest.json"), "the manifest")
    content["splits"]["validation"]["train_duplicates"] = [1]
    manifest.write_manifest(folder, content)
    with pytest.raises(UserError) as caught:
        verify(folder)
    assert f"{shard} is missing" in str(caught.value)
    assert "train_duplicates" not in str(caught.value)


def test_verify_error_names_folder_without_manifest(tmp_path):
    with pytest.raises(UserError, match=r"has no manifest.json"):
        verify(str(tmp_path))
