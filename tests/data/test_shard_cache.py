"""Local copies of shards in a store."""

import errno
import os
import pathlib
import shutil

import pytest

from fer import storage
from fer.config import Data
from fer.data import example_codec, manifest, pipeline, shard_cache
from fer.errors import UserError
from fer.io import files


@pytest.fixture
def cache(tmp_path, monkeypatch) -> pathlib.Path:
    """Chooses an empty folder for the copies."""
    monkeypatch.setenv(storage.CACHE_DIR_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache" / "shards"


@pytest.fixture
def remote(synthetic_shards, tmp_path, cache) -> manifest.Manifest:
    """Uploads the shards to a store."""
    url = f"memory://{tmp_path.name}/shards"
    for name in os.listdir(synthetic_shards.folder):
        storage.upload(os.path.join(synthetic_shards.folder, name), f"{url}/{name}")
    return manifest.read_manifest(url)


def copies(cache: pathlib.Path) -> list[pathlib.Path]:
    return sorted(cache.glob("*.tfrecord"))


@pytest.mark.parametrize("mode", ["in_memory", "stream"])
def test_split_in_store_equals_local_split(mode, remote, synthetic_shards):
    settings = Data(mode=mode)
    batches = [
        [batch.images.numpy().tobytes() for batch in pipeline.evaluation_batches(source, 8)]
        for source in (pipeline.open_split(each, "validation", settings) for each in (remote, synthetic_shards))
    ]
    assert batches[0] == batches[1]


def test_shards_are_downloaded_once_and_only_of_the_split(remote, cache, monkeypatch):
    downloads = []
    download = storage.download
    monkeypatch.setattr(storage, "download", lambda *paths: (downloads.append(paths[0]), download(*paths)))
    for _ in range(2):
        example_codec.read_split(remote, "test")
    assert downloads == [f"{remote.folder}/{shard.file}" for shard in remote.split("test").shards]
    assert [path.stem for path in copies(cache)] == sorted(shard.sha256 for shard in remote.split("test").shards)


def test_copies_are_hashed_once_by_a_process(remote, monkeypatch):
    shard_cache.local_paths(remote, "test")
    hashed = []
    sha256 = files.sha256
    monkeypatch.setattr(files, "sha256", lambda path: (hashed.append(path), sha256(path))[1])
    for _ in range(3):
        paths = shard_cache.local_paths(remote, "test")
    assert hashed == paths


def test_damaged_copy_is_downloaded_again(remote, cache):
    before = example_codec.read_split(remote, "test")
    path = copies(cache)[0]
    path.write_bytes(b"x" * path.stat().st_size)
    assert (example_codec.read_split(remote, "test").images == before.images).all()


def test_shard_that_differs_from_manifest_raises_user_error(remote, cache):
    shard = remote.split("test").shards[0]
    storage.write_bytes(f"{remote.folder}/{shard.file}", b"other")
    with pytest.raises(UserError, match=f"{shard.file} has another SHA-256 than manifest.json states"):
        example_codec.read_split(remote, "test")
    assert copies(cache) == []


def test_missing_shard_raises_user_error(remote):
    shard = remote.split("test").shards[0]
    storage.remove(f"{remote.folder}/{shard.file}")
    with pytest.raises(UserError, match=f"{shard.file} is missing"):
        example_codec.read_split(remote, "test")


def test_full_disk_raises_user_error_before_the_first_download(remote, cache, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(UserError, match=r"The shards need 0\.0 GiB in .*, where 0\.0 GiB are free: .* --cache_dir"):
        shard_cache.local_paths(remote, "train")
    assert copies(cache) == []


def test_local_shards_are_not_copied(synthetic_shards, cache):
    paths = shard_cache.local_paths(synthetic_shards, "test")
    assert [os.path.dirname(path) for path in paths] == [synthetic_shards.folder]
    assert not cache.exists()


def test_shards_are_downloaded_where_the_cache_has_no_locks(remote, cache, monkeypatch):
    def fail(*_arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(shard_cache.fcntl, "flock", fail)
    assert len(shard_cache.local_paths(remote, "train")) == len(copies(cache))
