"""Photos wait on disk, not in memory."""

import tracemalloc

import pytest

from fer.convert.readers.image_folder import Picture
from fer.errors import UserError
from fer.predict import photo_store
from fer.predict.photo_store import PhotoStore


def test_pictures_come_back_as_they_were_in_any_order():
    spool = PhotoStore()
    pictures = [Picture("in/a.png", "a.png", b"abc"), Picture("in/b.jpg", "b.jpg", b""), Picture("c", "c", b"\0" * 9)]
    spooled = [spool.add(picture) for picture in pictures]
    assert [each.read() for each in reversed(spooled)] == pictures[::-1]
    late = Picture("d", "d", b"late")
    assert (spool.add(late).read(), spooled[0].read()) == (late, pictures[0])


def test_memory_does_not_grow_with_their_number():
    spool = PhotoStore()
    tracemalloc.start()
    try:
        kept = [spool.add(Picture("n", "p", bytes(1 << 20))) for _ in range(16)]
        assert tracemalloc.get_traced_memory()[0] < 1 << 20
    finally:
        tracemalloc.stop()
    assert len(kept[-1].read().content) == 1 << 20


def test_a_full_disk_is_told_with_the_picture_and_the_folder(monkeypatch):
    spool = PhotoStore()
    full = open("/dev/full", "wb", buffering=0)
    monkeypatch.setattr(spool, "_file", full)
    with pytest.raises(UserError, match=r"Cannot keep in/a\.png in a temporary file: No space left on device.*TMPDIR"):
        spool.add(Picture("in/a.png", "a.png", b"abc"))


def test_without_a_place_for_temporary_files_that_is_told(monkeypatch):
    def nowhere():
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(photo_store.tempfile, "TemporaryFile", nowhere)
    spool = PhotoStore()  # tables need none
    with pytest.raises(UserError, match=r"Cannot keep a\.png in a temporary file: No usable temporary directory"):
        spool.add(Picture("a.png", "a.png", b"abc"))
