"""Files are written completely or not at all."""

import hashlib
import os
import re
import resource
import signal

import pytest

from fer import storage
from fer.errors import UserError
from fer.io import files, temp_files


def test_write_bytes_replaces_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "deep" / "file.bin"
    files.write_bytes(str(path), b"one")
    files.write_bytes(str(path), b"two")
    assert path.read_bytes() == b"two"
    assert os.listdir(path.parent) == ["file.bin"]


def test_write_json_round_trips_and_rejects_nan(tmp_path):
    path = str(tmp_path / "value.json")
    files.write_json(path, {"gesichtsausdruck": "fröhlich", "n": [1, 2.5, None]})
    assert files.read_json(path, "it") == {"gesichtsausdruck": "fröhlich", "n": [1, 2.5, None]}
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(path, float("nan"))
    assert files.read_json(path, "it")["n"] == [1, 2.5, None]


def test_write_bytes_reports_full_disk_and_keeps_old_file(tmp_path):
    """Simulates a full disk by a limit on the size of files, which makes a write fail in the same way."""
    path = tmp_path / "file.bin"
    files.write_bytes(str(path), b"old")
    child = os.fork()  # the limit applies to a whole process
    if child == 0:
        status = 1
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
            files.write_bytes(str(path), bytes(2000))
        except UserError as error:
            status = 42 if str(error).startswith(f"Cannot write {path}: ") else 43
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file.bin"]


def test_write_bytes_rejects_folder(tmp_path):
    (tmp_path / "file.bin" / "inside").mkdir(parents=True)
    with pytest.raises(UserError, match="Cannot write"):
        files.write_bytes(str(tmp_path / "file.bin"), b"new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.bin"]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("folder", "it is a folder"),
        ("file/out/eval.json", "file is a file"),
        ("folder/locked/out/eval.json", "locked may not be written to"),
        ("link", "it is a link that leads back to itself"),
        ("x" * 256, "File name too long"),
        ("x/" * 3000 + "eval.json", "File name too long"),
    ],
)
def test_check_writable_error_names_path_and_reason(tmp_path, monkeypatch, path, reason):
    monkeypatch.setattr(os, "access", lambda folder, mode: not folder.endswith("locked"))  # root may write anywhere
    (tmp_path / "folder" / "locked").mkdir(parents=True)
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("link")
    with pytest.raises(UserError, match=rf"Cannot write {tmp_path}/{path[:50]}\S*: .*{reason}"):
        files.check_writable(str(tmp_path / path))


@pytest.mark.parametrize(
    "path", ["/dev/fd/9999", "/dev/fd/" + 40 * "9", "/proc/self/fd/{closed}", "/dev/fd/{read_only}"]
)
def test_check_writable_error_names_unwritable_stream(path):
    read_only, closed = os.open(os.devnull, os.O_RDONLY), os.open(os.devnull, os.O_WRONLY)
    os.close(closed)
    path = path.format(read_only=read_only, closed=closed)
    try:
        with pytest.raises(UserError, match=rf"Cannot write {path}: "):
            files.check_writable(path)
    finally:
        os.close(read_only)


def test_write_bytes_accepts_longest_file_name(tmp_path):
    for name in ("x" * 255, "\u00e9" * 127):
        files.check_writable(str(tmp_path / name))
        files.write_bytes(str(tmp_path / name), b"content")
    assert sorted(os.listdir(tmp_path)) == ["x" * 255, "\u00e9" * 127]


@pytest.mark.parametrize("path", ["file", "folder/new", "new/deeper/file", "s3://bucket/file"])
def test_check_writable_changes_nothing(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("old")
    files.check_writable(path)
    assert (sorted(os.listdir(tmp_path)), os.listdir("folder")) == (["file", "folder"], [])
    assert (tmp_path / "file").read_text() == "old"


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "is missing"), (b"{", "not valid JSON"), (b"\xff\xfe", "not valid JSON")],
    ids=["absent", "cut", "not text"],
)
def test_read_json_error_names_file_and_reason(tmp_path, content, reason):
    path = tmp_path / "value.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=reason) as caught:
        files.read_json(str(path), "the record")
    assert str(path) in str(caught.value)
    assert "the record" in str(caught.value)


def test_sha256_equals_hashlib(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"\x00\x01" * 1_000_000)
    assert files.sha256(str(path)) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_path_beside_differs_for_equal_process_ids():
    """Processes of two containers that share a disk may have equal ids."""
    names = {temp_files.path_beside("a/b.json") for _ in range(100)}
    assert len(names) == 100
    assert all(name.startswith("a/b.json.tmp-") for name in names)


def test_exists_raises_error_when_store_is_unreachable(monkeypatch):
    def raise_unreachable(_):
        raise UserError("The bucket cannot be reached.")

    monkeypatch.setattr(storage, "exists", raise_unreachable)
    assert not files.exists("a/local/file")
    with pytest.raises(UserError, match="cannot be reached"):
        files.exists("s3://bucket/file")


def test_error_message_shortens_long_reason_in_the_middle():
    """TensorFlow's messages begin with a path and end with the reason."""
    message = files.error_message(OSError(f"/data{'/deep' * 200}/state.tmp; No space left on device"))
    assert len(message) < 310
    assert re.fullmatch(r"/data/deep.*\.\.\..*deep/state\.tmp; No space left on device", message)


def test_local_folder_copies_folder_of_store_and_yields_local_one(tmp_path):
    url = f"memory://{tmp_path.name}/run"
    for name in ("a", "sub/b"):
        files.write_text(f"{url}/{name}", name)
    with files.local_folder(url) as copy:
        assert files.list_files(copy) == ["a", "sub/b"]
        assert files.read_bytes(os.path.join(copy, "sub/b"), "") == b"sub/b"
    assert not os.path.exists(copy)
    with files.local_folder(str(tmp_path)) as folder:
        assert folder == str(tmp_path)


def test_open_new_stores_object_at_the_end_and_nothing_after_error(tmp_path):
    url = f"memory://{tmp_path.name}/clip.csv"
    with pytest.raises(ValueError, match="broken"), files.open_new(url) as file:  # noqa: PT012  the error follows it
        file.write(b"part")
        raise ValueError("broken")
    assert not files.exists(url)
    with files.open_new(url) as file:
        file.write(b"whole")
        assert not files.exists(url)
    assert files.read_bytes(url, "") == b"whole"
