"""Paths in stores: the same behaviour in memory, on a disk and in S3, and errors that name the cause."""

import http.server
import pathlib
import socket
import subprocess
import sys
import threading

import pytest

from fer import storage
from fer.errors import StoreUnavailableError, UserError
from fer.io import files
from tests.scripts import run_script

NAMES = ("a b.json", "sub/[1].bin", "sub/é", "empty")


@pytest.fixture
def s3(store, monkeypatch):
    """Uses the S3 server in this process. Returns a function that chooses another address of the server."""
    s3fs = pytest.importorskip("s3fs", reason="s3:// is tested with the extra s3 (s3fs)")

    def connect(address: str) -> None:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
            monkeypatch.setenv(name, store[name])
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        s3fs.S3FileSystem.clear_instance_cache()
        storage._open_filesystem.cache_clear()

    connect(store["AWS_ENDPOINT_URL"])
    yield connect
    s3fs.S3FileSystem.clear_instance_cache()
    storage._open_filesystem.cache_clear()


@pytest.fixture(params=["memory", "file", "s3"])
def folder(request, tmp_path):
    """Returns the URL of an empty folder."""
    if request.param == "s3":
        request.getfixturevalue("s3")
        url = f"s3://bucket/{tmp_path.name}/run"
    else:
        url = {"memory": f"memory://{tmp_path.name}/run", "file": f"file://{tmp_path}/run"}[request.param]
    yield url
    storage.remove_tree(url)


def write_all(folder: str) -> None:
    for name in NAMES:
        storage.write_bytes(f"{folder}/{name}", b"" if name == "empty" else name.encode())
    storage.write_bytes(f"{folder}-2/other", b"other")  # a folder whose name begins with the name of this one


def test_is_remote_depends_on_scheme():
    assert [storage.is_remote(path) for path in ("s3://a/b", "gs://a/b", "/a/b", "a:b")] == [True, True, False, False]


def test_storage_reads_what_it_writes(folder, tmp_path):
    write_all(folder)
    assert files.read_bytes(f"{folder}/sub/[1].bin", "") == b"sub/[1].bin"
    assert storage.size(f"{folder}/empty") == 0
    storage.write_bytes(f"{folder}/empty", b"again")
    storage.download(f"{folder}/empty", str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == b"again"
    storage.upload(str(tmp_path / "copy"), f"{folder}/sub/what?")
    assert files.read_bytes(f"{folder}/sub/what?", "") == b"again"


def test_storage_lists_its_folder_alone(folder):
    write_all(folder)
    assert storage.listdir(folder) == sorted({name.split("/")[0] for name in NAMES})
    assert storage.walk_files(f"{folder}/") == sorted(NAMES)
    assert storage.isdir(folder)
    assert not storage.isdir(f"{folder}/empty")
    assert not storage.exists(folder[:-1])


def test_storage_removes_its_folder_alone(folder):
    write_all(folder)
    storage.remove(f"{folder}/empty")
    assert not storage.exists(f"{folder}/empty")
    storage.remove_tree(folder)
    assert storage.walk_files(folder) == []
    assert storage.walk_files(f"{folder}-2") == ["other"]
    storage.remove_tree(f"{folder}-2")


def test_storage_raises_file_not_found_for_missing_object(folder, tmp_path):
    storage.write_bytes(f"{folder}/a", b"a")
    for call in (storage.size, files.open_file, lambda path: storage.download(path, str(tmp_path / "copy"))):
        with pytest.raises(FileNotFoundError):
            call(f"{folder}/missing")
    assert not storage.exists(f"{folder}/missing")
    assert storage.walk_files(f"{folder}/missing") == []


class Answer(http.server.BaseHTTPRequestHandler):
    """A server that answers every request with an error of S3."""

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        code, status = self.server.code, self.server.status  # type: ignore[attr-defined]
        body = b"" if self.command == "HEAD" else f"<Error><Code>{code}</Code><Message>m</Message></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer  # noqa: N815  the library's names

    def log_message(self, *_) -> None:
        """Suppresses the log."""


@pytest.mark.parametrize(
    ("code", "status", "message"),
    [
        ("AccessDenied", 403, r"Access to the bucket bucket is denied \(s3://bucket/a\)"),
        ("ExpiredToken", 400, r"The bucket bucket rejects the credentials \(ExpiredToken\): renew them"),
        ("InvalidAccessKeyId", 403, r"The bucket bucket rejects the credentials \(InvalidAccessKeyId\)"),
        ("AuthorizationHeaderMalformed", 400, r"The bucket bucket is in another region than AWS_REGION states"),
        ("NoSuchBucket", 404, r"There is no bucket bucket: check the name, and the region in AWS_REGION"),
    ],
)
def test_storage_error_names_cause(code, status, message, s3):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.code, server.status = code, status
    threading.Thread(target=server.serve_forever, daemon=True).start()
    s3(f"http://127.0.0.1:{server.server_port}")
    with pytest.raises(UserError, match=message) as raised:
        storage.listdir("s3://bucket/a")
    assert raised.value.exit_code == 1
    server.shutdown()


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_REGION"])
def test_storage_error_names_missing_setting(name, s3, store, monkeypatch, tmp_path):
    s3(store["AWS_ENDPOINT_URL"])
    monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    if name == "AWS_REGION":
        assert storage.listdir("s3://bucket") is not None  # the client has a default, and the bucket decides
        return
    with pytest.raises(UserError, match="There are no credentials for the bucket bucket"):
        storage.listdir("s3://bucket/a")


def test_storage_reports_store_that_refuses_or_hangs(s3, monkeypatch):
    monkeypatch.setattr(storage, "ANSWER_TIMEOUT_S", 1.0)
    with socket.socket() as closed, socket.create_server(("127.0.0.1", 0)) as silent:
        closed.bind(("127.0.0.1", 0))  # without listening
        for address in (closed.getsockname(), silent.getsockname()):
            s3(f"http://127.0.0.1:{address[1]}")
            with pytest.raises(StoreUnavailableError, match=r"The bucket bucket cannot be reached .* again") as raised:
                storage.exists("s3://bucket/a")
            assert raised.value.exit_code == 75


def test_storage_reports_connection_that_is_cut_in_mid_transfer(s3, tmp_path):
    def cut(listener: socket.socket) -> None:
        """Answers each request for content with the beginning of it."""
        while True:
            client, _ = listener.accept()
            request = client.recv(1 << 16)
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            client.sendall(b"" if request.startswith(b"HEAD") else b"x" * 10)
            client.close()

    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=cut, args=(listener,), daemon=True).start()
    s3(f"http://127.0.0.1:{listener.getsockname()[1]}")
    with pytest.raises(StoreUnavailableError, match="cannot be reached"):
        files.open_file("s3://bucket/a")


def test_check_stores_error_names_missing_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    storage._open_filesystem.cache_clear()
    with pytest.raises(UserError, match="s3:// paths need the extra s3: "):
        storage.check_stores("faces.csv,s3://bucket/faces")
    storage._open_filesystem.cache_clear()


def test_check_stores_loads_nothing_for_local_paths(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    storage.check_stores("faces.csv", "/tmp/s3", "", "http://a//b")


@pytest.mark.parametrize("text", ["s3://b/runs//a", "a.csv,s3://b/a//", "{'data': 's3://b//a'}"])
def test_check_stores_rejects_two_slashes_in_a_row(text):
    with pytest.raises(UserError, match=r"^s3://b/\S* has two slashes in a row: write one\."):
        storage.check_stores(text)


@pytest.mark.parametrize("path", ["s3://bucket", "s3://bucket/", "s3://"])
def test_check_not_bucket_rejects_whole_bucket(path):
    with pytest.raises(UserError, match="is a whole bucket"):
        storage.check_not_bucket(path)


@pytest.mark.parametrize("path", ["s3://bucket/a", "s3://bucket/a/", "/bucket", "bucket"])
def test_check_not_bucket_accepts_path_in_bucket(path):
    storage.check_not_bucket(path)


def test_unknown_scheme_raises_user_error():
    with pytest.raises(UserError, match="nowhere:// is no kind of path that fsspec knows"):
        storage.exists("nowhere://a/b")


PROGRAM = """
from fer import cli
from fer.io import files
from absl import flags
PLACE = flags.DEFINE_string("place", None, "")
def main():
    files.write_json(PLACE.value + "/a.json", {"a": 1})
    files.write_json(PLACE.value + "/a.json", {"a": 2})
    assert files.read_json(PLACE.value + "/a.json", "it") == {"a": 2}
    assert files.listdir(PLACE.value) == ["a.json"]
    files.write_text(PLACE.value + "/empty", "")
    assert files.size(PLACE.value + "/empty") == 0
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
