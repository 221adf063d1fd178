"""Temporary storage of faces and of whole pictures."""

import os
import tracemalloc

import numpy as np
import pytest

from fer.errors import UserError
from fer.io import temp_store
from fer.io.temp_store import TempStore
from tests.convert import input_factories

IMAGES = input_factories.noise(50)


@pytest.fixture
def face_store(tmp_path) -> TempStore:
    store = TempStore(str(tmp_path))
    for start in range(0, 50, 7):
        store.append_faces(IMAGES[start : start + 7])
    yield store
    store.close()


@pytest.mark.parametrize("positions", [[], [0], [49], [0, 1, 2], [3, 5, 6, 8], [3, 5, 6, 7, 20, 49], range(50)])
def test_temp_store_returns_the_requested_faces(face_store, positions):
    np.testing.assert_array_equal(face_store.read_faces(np.array(positions, np.int64)), IMAGES[list(positions)])


def test_temp_store_leaves_no_file(face_store, tmp_path):
    assert os.listdir(tmp_path) == []


def test_temp_store_error_names_folder_when_missing(tmp_path):
    with pytest.raises(UserError, match=r"Cannot write .* to a temporary file in .*nowhere"):
        TempStore(str(tmp_path / "nowhere")).append_faces(IMAGES)


def test_temp_store_returns_bytes_in_any_order():
    store, contents = TempStore(), [b"abc", b"", b"\0" * 9]
    offsets = [store.append(content) for content in contents]
    found = [store.read(offset, len(content)) for offset, content in zip(reversed(offsets), reversed(contents))]
    assert found == contents[::-1]
    late = store.append(b"late")
    assert (store.read(late, 4), store.read(offsets[0], 3)) == (b"late", b"abc")


def test_temp_store_read_rejects_bytes_that_were_not_appended():
    store = TempStore()
    with pytest.raises(ValueError, match="of a store of 0 bytes"):
        store.read(0, 1)
    store.append(b"abc")
    with pytest.raises(ValueError, match="bytes 1 to 4 of a store of 3 bytes"):
        store.read(1, 3)


def test_temp_store_memory_does_not_grow_with_content():
    store = TempStore()
    tracemalloc.start()
    try:
        offsets = [store.append(bytes(1 << 20)) for _ in range(16)]
        assert tracemalloc.get_traced_memory()[0] < 1 << 20
    finally:
        tracemalloc.stop()
    assert len(store.read(offsets[-1], 1 << 20)) == 1 << 20


def test_temp_store_error_names_content_and_tmpdir_when_disk_is_full(monkeypatch):
    store = TempStore()
    monkeypatch.setattr(store, "_file", open("/dev/full", "wb", buffering=0))
    with pytest.raises(UserError, match=r"Cannot write in/a\.png to a temporary file: No space left on device.*TMPDIR"):
        store.append(b"abc", "in/a.png")


def test_temp_store_error_names_content_when_there_is_no_temporary_folder(monkeypatch):
    def raise_not_found(dir):
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(temp_store.tempfile, "TemporaryFile", raise_not_found)
    store = TempStore()  # tables need no file
    with pytest.raises(UserError, match=r"Cannot write a\.png to a temporary file: No usable temporary directory"):
        store.append(b"abc", "a.png")
