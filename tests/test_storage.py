"""s3:// is registered only where a path uses it."""

import pathlib
import subprocess
import sys
import threading

import pytest
import tensorflow as tf

from fer import storage
from fer.errors import StorageError, UserError
from fer.io import files
from tests.scripts import run_script


def test_is_remote_depends_on_scheme():
    assert [storage.is_remote(path) for path in ("s3://a/b", "gs://a/b", "/a/b", "a:b")] == [True, True, False, False]


def test_register_filesystems_error_names_missing_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_io", None)
    storage._load_s3.cache_clear()
    with pytest.raises(UserError, match="install the extra s3"):
        storage.register_filesystems("faces.csv,s3://bucket/faces")
    storage._load_s3.cache_clear()


def test_register_filesystems_times_out_when_store_does_not_answer(monkeypatch):
    never = threading.Event()
    monkeypatch.setattr(storage, "_load_s3", lambda: None)
    monkeypatch.setattr(storage, "ANSWER_TIMEOUT_S", 0.1)
    monkeypatch.setattr(tf.io.gfile, "makedirs", lambda _: never.wait(60))
    with pytest.raises(
        StorageError, match=r"The bucket away cannot be reached \(no answer within 0 s\): see the network"
    ):
        storage.register_filesystems("s3://away/runs")
    never.set()


def test_register_filesystems_loads_nothing_for_local_paths(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_io", None)
    storage.register_filesystems("faces.csv", "/tmp/s3", "")


@pytest.mark.parametrize("path", ["s3://bucket", "s3://bucket/", "s3://"])
def test_check_within_rejects_whole_bucket(path):
    with pytest.raises(UserError, match="is a whole bucket"):
        storage.check_not_bucket(path)


@pytest.mark.parametrize("path", ["s3://bucket/a", "s3://bucket/a/", "/bucket", "bucket"])
def test_check_within_accepts_path_in_bucket(path):
    storage.check_not_bucket(path)


PROGRAM = """
import tensorflow as tf
from fer import cli
from fer.io import files
from absl import flags
PLACE = flags.DEFINE_string("place", None, "")
def main():
    files.write_json(PLACE.value + "/a.json", {"a": 1})
    files.write_json(PLACE.value + "/a.json", {"a": 2})
    assert files.read_json(PLACE.value + "/a.json", "it") == {"a": 2}
    assert tf.io.gfile.listdir(PLACE.value) == ["a.json"]
    files.write_text(PLACE.value + "/empty", "")
    assert tf.io.gfile.stat(PLACE.value + "/empty").length == 0
    print("done")
cli.run(main)
"""


def run(way: str, folder: pathlib.Path, store: dict[str, str], place: str) -> tuple[int, str, str]:
    """Returns the exit code and the outputs of `PROGRAM`, started in one of `WAYS`."""
    path = folder / "program.py"
    path.write_text(PROGRAM)
    if way == "forked":
        started = run_script.start(str(path), folder, f"--place={place}", environment=store)
        output, errors = started.communicate()
        return started.returncode, output, errors
    command = [sys.executable, str(path), f"--place={place}"]
    done = subprocess.run(command, env=store, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


WAYS = ["forked", pytest.param("as a user starts it", marks=pytest.mark.extended)]


@pytest.mark.parametrize("way", WAYS)
def test_program_reads_and_writes_s3_paths_of_flags(store, tmp_path, way):
    assert run(way, tmp_path, store, f"s3://bucket/remote {way}") == (0, "done\n", "")


@pytest.mark.parametrize("way", WAYS)
def test_program_error_names_missing_bucket(store, tmp_path, way):
    code, _, errors = run(way, tmp_path, store, "s3://nobodys/remote")
    assert code == 1
    assert "There is no bucket nobodys" in errors


def test_check_or_raise_returns_false_only_when_store_answers(monkeypatch):
    registered = []

    def raise_unreachable(path: str) -> None:
        registered.append(path)
        raise UserError("away")

    monkeypatch.setattr(storage, "register_filesystems", raise_unreachable)
    assert storage.check_or_raise("s3://bucket/a", lambda _: True)
    assert not storage.check_or_raise("/nowhere", lambda _: False)
    assert registered == []
    with pytest.raises(UserError, match="away"):
        storage.check_or_raise("s3://bucket/a", lambda _: False)
    monkeypatch.setattr(storage, "register_filesystems", registered.append)
    answers = iter([False, True])  # it was unreachable for a moment
    assert storage.check_or_raise("s3://bucket/a", lambda _: next(answers))


@pytest.mark.parametrize(
    ("function", "question"), [("exists", "exists"), ("isdir", "isdir"), ("listdir", "listdir"), ("size", "stat")]
)
def test_files_time_out_when_store_does_not_answer(function, question, monkeypatch):
    ended = threading.Event()
    monkeypatch.setattr(storage, "ANSWER_TIMEOUT_S", 0.1)
    monkeypatch.setattr(tf.io.gfile, question, lambda _: ended.wait(60))
    try:
        with pytest.raises(StorageError, match=r"^The store has not answered a question about s3://bucket/a within 0 "):
            getattr(files, function)("s3://bucket/a")
    finally:
        ended.set()


@pytest.mark.parametrize("error", [tf.errors.NotFoundError(None, None, "absent"), KeyError("a")])
def test_ask_returns_answer_and_raises_error_of_question(error):
    def fail() -> None:
        raise error

    with pytest.raises(type(error)):
        storage.ask("s3://bucket/a", fail)
    assert storage.ask("s3://bucket/a", lambda: ["b"]) == ["b"]


def test_storage_errors_translates_errors_of_store_only():
    message = r"The connection to s3://b/run broke \(reset\)\. .* run the same command again"
    with pytest.raises(UserError, match=message), storage.storage_errors("s3://b/run", "/data"):
        raise tf.errors.UnknownError(None, None, "reset\nmore")
    with pytest.raises(tf.errors.UnknownError), storage.storage_errors("/run", "/data"):
        raise tf.errors.UnknownError(None, None, "reset")


def test_storage_errors_keeps_out_of_memory_error():
    with pytest.raises(tf.errors.ResourceExhaustedError, match="OOM"), storage.storage_errors("s3://b/run", "/data"):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")


def test_storage_errors_keeps_error_of_device():
    with pytest.raises(tf.errors.InternalError, match="libdevice"), storage.storage_errors("s3://b/run", "/data"):
        raise tf.errors.InternalError(None, None, "libdevice not found")


@pytest.mark.parametrize("text", ["s3://b/runs//a", "a.csv,s3://b/a//", "{'data': 's3://b//a'}"])
def test_register_filesystems_rejects_two_slashes_in_a_row(text):
    with pytest.raises(UserError, match=r"^s3://b/\S* has two slashes in a row: write one\."):
        storage.register_filesystems(text)
