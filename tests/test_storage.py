"""s3:// is made ready where a path names it, and nowhere else."""

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


def test_what_is_remote_is_known_by_its_scheme():
    assert [storage.is_remote(path) for path in ("s3://a/b", "gs://a/b", "/a/b", "a:b")] == [True, True, False, False]


def test_without_the_extra_the_user_is_told_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_io", None)
    storage._load_s3.cache_clear()
    with pytest.raises(UserError, match="install the extra s3"):
        storage.register_filesystems("faces.csv,s3://bucket/faces")
    storage._load_s3.cache_clear()


def test_store_that_never_answers_is_given_up(monkeypatch):
    never = threading.Event()
    monkeypatch.setattr(storage, "_load_s3", lambda: None)
    monkeypatch.setattr(storage, "REACH", 0.1)
    monkeypatch.setattr(tf.io.gfile, "makedirs", lambda _: never.wait(60))
    with pytest.raises(
        StorageError, match=r"The bucket away cannot be reached \(no answer within 0 s\): see the network"
    ):
        storage.register_filesystems("s3://away/runs")
    never.set()


def test_nothing_is_loaded_for_local_paths(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_io", None)
    storage.register_filesystems("faces.csv", "/tmp/s3", "")


@pytest.mark.parametrize("path", ["s3://bucket", "s3://bucket/", "s3://"])
def test_a_whole_bucket_is_no_place(path):
    with pytest.raises(UserError, match="is a whole bucket"):
        storage.check_within(path)


@pytest.mark.parametrize("path", ["s3://bucket/a", "s3://bucket/a/", "/bucket", "bucket"])
def test_a_place_within_a_bucket_is_one(path):
    storage.check_within(path)


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
def test_every_program_reads_and_writes_s3_where_a_flag_names_it_and_ends_well(store, tmp_path, way):
    assert run(way, tmp_path, store, f"s3://bucket/remote {way}") == (0, "done\n", "")


@pytest.mark.parametrize("way", WAYS)
def test_a_bucket_that_is_not_there_is_a_sentence(store, tmp_path, way):
    code, _, errors = run(way, tmp_path, store, "s3://nobodys/remote")
    assert code == 1
    assert "There is no bucket nobodys" in errors


def test_a_no_of_a_store_counts_only_if_the_store_answers(monkeypatch):
    asked = []

    def unreachable(path: str) -> None:
        asked.append(path)
        raise UserError("away")

    monkeypatch.setattr(storage, "register_filesystems", unreachable)
    assert storage.check_or_raise("s3://bucket/a", lambda _: True)
    assert not storage.check_or_raise("/nowhere", lambda _: False)
    assert asked == []
    with pytest.raises(UserError, match="away"):
        storage.check_or_raise("s3://bucket/a", lambda _: False)
    monkeypatch.setattr(storage, "register_filesystems", asked.append)
    answers = iter([False, True])  # it was away for a moment
    assert storage.check_or_raise("s3://bucket/a", lambda _: next(answers))


@pytest.mark.parametrize(
    ("asked", "question"), [("exists", "exists"), ("isdir", "isdir"), ("listdir", "listdir"), ("size", "stat")]
)
def test_question_that_a_store_answers_without_end_is_given_up(asked, question, monkeypatch):
    ended = threading.Event()
    monkeypatch.setattr(storage, "REACH", 0.1)
    monkeypatch.setattr(tf.io.gfile, question, lambda _: ended.wait(60))
    try:
        with pytest.raises(StorageError, match=r"^The store has not answered a question about s3://bucket/a within 0 "):
            getattr(files, asked)("s3://bucket/a")
    finally:
        ended.set()


@pytest.mark.parametrize("error", [tf.errors.NotFoundError(None, None, "absent"), KeyError("a")])
def test_ask_raises_as_the_question_and_returns_its_answer(error):
    def fail() -> None:
        raise error

    with pytest.raises(type(error)):
        storage.ask("s3://bucket/a", fail)
    assert storage.ask("s3://bucket/a", lambda: ["b"]) == ["b"]


def test_what_breaks_in_a_store_is_a_sentence_and_what_breaks_elsewhere_is_not():
    said = r"The connection to s3://b/run broke \(reset\)\. .* run the same command again"
    with pytest.raises(UserError, match=said), storage.storage_errors("s3://b/run", "/data"):
        raise tf.errors.UnknownError(None, None, "reset\nmore")
    with pytest.raises(tf.errors.UnknownError), storage.storage_errors("/run", "/data"):
        raise tf.errors.UnknownError(None, None, "reset")


def test_a_device_that_is_out_of_memory_is_no_broken_connection():
    with pytest.raises(tf.errors.ResourceExhaustedError, match="OOM"), storage.storage_errors("s3://b/run", "/data"):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")


def test_an_error_of_the_device_is_no_broken_connection():
    with pytest.raises(tf.errors.InternalError, match="libdevice"), storage.storage_errors("s3://b/run", "/data"):
        raise tf.errors.InternalError(None, None, "libdevice not found")


@pytest.mark.parametrize("text", ["s3://b/runs//a", "a.csv,s3://b/a//", "{'data': 's3://b//a'}"])
def test_two_slashes_in_a_row_are_refused(text):
    with pytest.raises(UserError, match=r"^s3://b/\S* has two slashes in a row: write one\."):
        storage.register_filesystems(text)
