"""s3:// paths, against a server of the S3 protocol on this machine."""

import os
import pathlib
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from fer.data import remote
from fer.errors import UserError
from tests.data import making


def test_what_is_remote_is_known_by_its_scheme():
    assert [remote.is_remote(path) for path in ("s3://a/b", "gs://a/b", "/a/b", "a:b")] == [True, True, False, False]


def test_without_the_extra_the_user_is_told_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_io", None)
    remote._load_s3.cache_clear()
    with pytest.raises(UserError, match="install the extra s3"):
        remote.ready("s3://bucket/faces")
    remote._load_s3.cache_clear()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """The environment in which s3:// means a fresh local server with the bucket `bucket`."""
    pytest.importorskip("tensorflow_io", reason="s3:// is tested with the extra s3 (tensorflow-io)")
    pytest.importorskip("moto.server", reason="s3:// is tested against moto's server (moto[server])")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = open(tmp_path_factory.mktemp("moto") / "log", "wb")
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log
    )
    address = f"http://127.0.0.1:{port}"
    for _ in range(600):
        try:
            urllib.request.urlopen(urllib.request.Request(f"{address}/bucket", method="PUT"))
            break
        except urllib.error.URLError:
            time.sleep(0.1)
    yield {
        **os.environ,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "S3_ENDPOINT": address,
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    server.terminate()
    server.wait()
    log.close()


def test_a_conversion_to_and_from_a_store_is_that_of_the_local_disk(store, root: pathlib.Path, tmp_path):
    source = making.write(tmp_path / "faces.csv", making.csv(making.noise(60)))
    program = """
import sys
from fer import cli, files
from fer.data import convert, manifest, remote
from fer.data.verify import verify
import tensorflow as tf
source, local = sys.argv[1:]
remote.ready("s3://")
tf.io.gfile.copy(source, "s3://bucket/in/faces.csv")
here = convert.convert(convert.Options(input=source, output=local))
there = convert.convert(convert.Options(input="s3://bucket/in/faces.csv", output="s3://bucket/out/faces"))
assert there.sha256 == here.sha256
again = convert.convert(convert.Options(input=source, output="s3://bucket/out/faces", shards=2, overwrite=True))
assert verify("s3://bucket/out/faces").sha256 == again.sha256 != here.sha256
names = sorted(name.rstrip("/") for name in tf.io.gfile.listdir("s3://bucket/out"))
assert names == ["faces"], names
shards = sorted(name for name in tf.io.gfile.listdir("s3://bucket/out/faces") if name.endswith("tfrecord"))
assert len(shards) == 6, shards
print("all agree")
"""
    done = subprocess.run(
        [sys.executable, "-c", program, source, str(tmp_path / "local")],
        env={**store, "PYTHONPATH": os.pathsep.join([str(root), store.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "all agree"


def test_a_bad_row_leaves_nothing_in_a_store(store, root: pathlib.Path, tmp_path):
    making.write(tmp_path / "bad.csv", making.csv(making.noise(3)) + "junk\n")
    command = [
        sys.executable,
        str(root / "scripts" / "convert.py"),
        "--input=bad.csv",
        "--output=s3://bucket/bad/faces",
    ]
    done = subprocess.run(command, env=store, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "bad.csv, line 5" in done.stderr
    listing = urllib.request.urlopen(f"{store['S3_ENDPOINT']}/bucket?list-type=2&prefix=bad/").read()
    assert b"<Key>" not in listing
