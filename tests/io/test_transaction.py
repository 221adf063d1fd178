"""Several files are replaced together, or none of them is."""

import errno
import os
import pathlib
import stat

import numpy as np
import pytest
from PIL import Image

from fer.errors import StorageError
from fer.export import export
from fer.io import files, local_write
from fer.io.transaction import transaction
from fer.labels import CLASSES
from fer.models import export_manifest
from fer.predict import face_detection, result_files
from fer.predict.classification import Face, Result, Source


def read_tree(folder: pathlib.Path) -> dict[str, str]:
    """Returns the content of each file below a folder, by path."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_text(errors="replace") for path in found}


def fill(folder: pathlib.Path, text: str) -> None:
    """Replaces a folder and a file in one transaction."""
    with transaction() as stage:
        files.write_text(os.path.join(stage(str(folder / "model")), "deep", "weights"), text)
        files.write_text(stage(str(folder / "record.json")), text)


@pytest.fixture
def fail_rename(monkeypatch):
    """Returns a function that makes one rename fail, by its number in the transaction."""
    rename = os.rename

    def fail_at(number: int) -> None:
        count = iter(range(1000))

        def rename_or_fail(source, target):
            if next(count) == number:
                raise OSError(errno.ENOSPC, "No space left on device")
            rename(source, target)

        monkeypatch.setattr(local_write.os, "rename", rename_or_fail)

    return fail_at


@pytest.mark.parametrize("place", ["", "new/deeper"])
def test_transaction_replaces_all(tmp_path, place):
    for text in ("old", "new"):
        fill(tmp_path / place, text)
        assert read_tree(tmp_path / place) == {"model/deep/weights": text, "record.json": text}


def test_transaction_writes_nothing_before_end(tmp_path):
    with transaction() as stage:
        files.write_text(stage(str(tmp_path / "new" / "a")), "a")
        assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("place", ["", "new/deeper"])
def test_transaction_leaves_nothing_after_error(tmp_path, place):
    def fail() -> None:
        with transaction() as stage:
            files.write_text(stage(str(tmp_path / place / "a")), "a")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", range(4))
def test_transaction_keeps_old_files_when_rename_fails(tmp_path, fail_rename, number):
    fill(tmp_path, "old")
    fail_rename(number)
    with pytest.raises(StorageError, match="No space left on device"):
        fill(tmp_path, "new")
    assert read_tree(tmp_path) == {"model/deep/weights": "old", "record.json": "old"}
    assert sorted(os.listdir(tmp_path)) == ["model", "record.json"]


@pytest.mark.parametrize("number", range(3))
def test_transaction_removes_stale_files_or_keeps_all_when_rename_fails(tmp_path, fail_rename, number):
    old = {"record.json": "old", "stale.png": "old"}
    for name, text in old.items():
        (tmp_path / name).write_text(text)
    stale = [str(tmp_path / "stale.png"), str(tmp_path / "absent.png")]

    def replace() -> None:
        with transaction(stale) as stage:
            pathlib.Path(stage(str(tmp_path / "record.json"))).write_text("new")

    fail_rename(number)
    with pytest.raises(StorageError, match="No space left on device"):
        replace()
    assert read_tree(tmp_path) == old


def test_transaction_removes_stale_file_at_end(tmp_path):
    (tmp_path / "stale.png").write_text("old")
    with transaction([str(tmp_path / "stale.png")]) as stage:
        pathlib.Path(stage(str(tmp_path / "record.json"))).write_text("new")
        assert (tmp_path / "stale.png").exists()
    assert read_tree(tmp_path) == {"record.json": "new"}


def test_transaction_keeps_old_file_when_interrupted_after_rename(tmp_path, monkeypatch):
    (tmp_path / "record.json").write_text("old")
    rename, count = os.rename, iter(range(1000))

    def rename_and_interrupt(source, target):
        rename(source, target)
        if next(count) == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(local_write.os, "rename", rename_and_interrupt)
    with pytest.raises(KeyboardInterrupt), transaction() as stage:
        pathlib.Path(stage(str(tmp_path / "record.json"))).write_text("new")
    assert read_tree(tmp_path) == {"record.json": "old"}


def test_transaction_error_names_requested_path(tmp_path, monkeypatch):
    def raise_error(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", raise_error)
    expected = rf"^Cannot write {tmp_path}/record\.json: No space left"
    with pytest.raises(StorageError, match=expected), transaction() as stage:
        pathlib.Path(stage(str(tmp_path / "record.json"))).write_text("new")
    assert list(tmp_path.iterdir()) == []


def test_transaction_keeps_link_and_replaces_its_target(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    with transaction() as stage:
        files.write_text(stage(str(tmp_path / "link")), "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_transaction_writes_pipe_directly(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with transaction() as stage:
        assert stage(str(tmp_path / "pipe")) == str(tmp_path / "pipe")
    assert stat.S_ISFIFO(os.stat(tmp_path / "pipe").st_mode)


@pytest.mark.parametrize("before", [False, True])
def test_export_is_complete_or_absent_when_disk_is_full(tmp_path, monkeypatch, before):
    """The second file of the SavedModel does not fit; the manifest of the export is not checked here."""
    source, output = tmp_path / "source" / "saved_model", tmp_path / "exports"
    (source / "variables").mkdir(parents=True)
    (source / "saved_model.pb").write_text("graph")
    (source / "variables" / "variables.index").write_text("index")
    monkeypatch.setattr(export_manifest, "write", lambda path, content: files.write_json(path, content))
    if before:
        export._write(str(source.parent), str(output), ["saved_model"], lambda: {"old": 1})
    old, write = read_tree(tmp_path), files.write_bytes

    def write_or_fail(path, content):
        if path.endswith("variables.index"):
            raise StorageError(f"Cannot write {path}: No space left on device.")
        write(path, content)

    monkeypatch.setattr(files, "write_bytes", write_or_fail)
    named_path = output / "saved_model" if before else output
    with pytest.raises(StorageError, match=rf"Cannot write {named_path}/.*variables\.index: No space left"):
        export._write(str(source.parent), str(output), ["saved_model"], lambda: {"new": 1})
    assert read_tree(tmp_path) == old
    assert output.exists() == before


@pytest.mark.parametrize("before", [False, True])
def test_predict_photos_are_complete_or_absent_when_disk_is_full(tmp_path, monkeypatch, before):
    """The CSV, which is written after all photos, does not fit."""
    content = face_detection.encode(Image.new("RGB", (60, 60)), "a.png")
    output = tmp_path / "predictions.csv"

    def write_photos(label):
        face = Face("", face_detection.Box(5, 5, 40, 40), label, CLASSES[label], dict(zip(CLASSES, np.eye(7)[label])))
        with result_files.open_files(str(output), [str(tmp_path / "photos")]) as collector:
            for name in ("a.png", "b.png"):
                collector.add(Result(Source(name, name, content), [face]))

    if before:
        write_photos(0)
        assert set(read_tree(tmp_path)) == {"predictions.csv", "predictions-photos/a.png", "predictions-photos/b.png"}
    old = read_tree(tmp_path)

    def raise_disk_full(path, text):
        raise StorageError(f"Cannot write {path}: No space left on device.")

    monkeypatch.setattr(files, "write_text", raise_disk_full)
    with pytest.raises(StorageError, match=rf"Cannot write {output}: No space left"):
        write_photos(5)
    assert read_tree(tmp_path) == old
    assert sorted(os.listdir(tmp_path)) == (["predictions-photos", "predictions.csv"] if before else [])
