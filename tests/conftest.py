"""Fixtures of all tests."""

import os

from fer import log_suppression  # before TensorFlow: fer chooses Keras 2

log_suppression.enable_onednn()  # as the programs do
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # before TensorFlow loads; tests assert an empty standard error

import dataclasses
import importlib.util
import io
import json
import pathlib
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
import tensorflow as tf
from PIL import Image
from tensorflow.python.framework import config as framework_config

from fer.convert import convert
from fer.data import manifest
from tests import browser
from tests.demo import photo
from tests.evaluation.factories import exports
from tests.scripts import run_script
from tests.shared import shared_folder
from tests.train import factories

CONFIG = """import json

from fer.config import from_dict


def get_config():
    return from_dict(json.loads({json!r}))
"""

# Two logical devices, for the tests of two replicas; they must be configured before TensorFlow starts.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


@pytest.hookimpl(tryfirst=True)  # before pytest selects tests by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts all tests in a browser into the extended tier."""
    for item in items:
        if "chromium" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.extended)


@pytest.fixture(autouse=True)
def disable_determinism_afterwards():
    """Disables deterministic ops, which a run enables for the whole process, after each test."""
    yield
    framework_config.disable_op_determinism()


@pytest.fixture(scope="session")
def synthetic_shards(tmp_path_factory) -> manifest.Manifest:
    """Converts 400 synthetic faces: 320 train, 40 validation, 40 test. Read only."""
    options = convert.Options(input="synthetic:400", output="")
    folder = shared_folder(
        tmp_path_factory, "synthetic", lambda place: convert.convert(dataclasses.replace(options, output=str(place)))
    )
    return manifest.read_manifest(str(folder))


@pytest.fixture(scope="session")
def trained_run(synthetic_shards, tmp_path_factory) -> pathlib.Path:
    """Trains `tiny` for two epochs (40 steps) on `synthetic_shards`. Returns the run folder; copy it to write.

    scripts/train.py trains it. `tests.scripts.run_script.printed` has its output; its configuration is <folder>.py.
    """

    def train(folder: pathlib.Path) -> None:
        config = folder.with_suffix(".py")
        config.write_text(
            CONFIG.format(json=json.dumps(factories.augmented_experiment(max_steps=40, save_every_steps=10).to_dict()))
        )
        run_script.make(folder, "train.py", f"--config={config}", f"--data={synthetic_shards.folder}", "--strategy=one")

    return shared_folder(tmp_path_factory, "trained", train)


@pytest.fixture(scope="session")
def evaluated_run(synthetic_shards, trained_run, tmp_path_factory) -> pathlib.Path:
    """Copies `trained_run` and evaluates it on validation: eval.json, predictions.npz, plots. Read only.

    scripts/evaluate.py evaluates it; `tests.scripts.run_script.printed` has its output.
    """

    def evaluate(folder: pathlib.Path) -> None:
        shutil.copytree(trained_run, folder)
        run_script.make(folder, "evaluate.py", f"--data={synthetic_shards.folder}")

    return shared_folder(tmp_path_factory, "evaluated", evaluate)


@pytest.fixture(scope="session")
def export_folder(tmp_path_factory) -> pathlib.Path:
    """Creates a run in run/, its exports in all formats in exports/, and their shards in tfrecords/faces. Read only.

    The run classifies five of six faces correctly. Another run of the same architecture is in other/; the output of
    scripts/export.py for tflite is in the file printed.
    """
    return shared_folder(tmp_path_factory, "exports", exports)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    """Starts a browser for all tests of pages in this process. Its camera shows the photo of tests/demo/photo.py."""
    film = photo.encoded(photo.make_photo(), "JPEG")
    with browser.chromium(tmp_path_factory.mktemp("chromium"), film) as page:
        yield page


@pytest.fixture(scope="session")
def root() -> pathlib.Path:
    """Returns the folder of the checkout."""
    return pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def store(root: pathlib.Path, tmp_path_factory):
    """Starts a local S3 server with a bucket. Returns the environment in which our programs use it as s3://bucket.

    `storage` in tests/stores.py uses it in this process.
    """
    for module, reason in (
        ("s3fs", "s3:// is tested with the extra s3 (s3fs)"),
        ("moto", "s3:// is tested against moto's server (moto[server])"),
        ("flask_cors", "s3:// is tested against moto's server (moto[server])"),
    ):
        if importlib.util.find_spec(module) is None:  # importing it would take two seconds
            pytest.skip(reason)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    with open(tmp_path_factory.mktemp("moto") / "log", "wb") as log:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        server = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            for _ in range(600):
                try:
                    urllib.request.urlopen(urllib.request.Request(f"{address}/bucket", method="PUT"))
                    break
                except urllib.error.URLError:
                    assert server.poll() is None, "moto's server ended"
                    time.sleep(0.1)
            yield {
                **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "S3_"))},
                "AWS_ACCESS_KEY_ID": "test",
                "AWS_SECRET_ACCESS_KEY": "test",
                "AWS_REGION": "us-east-1",
                "AWS_ENDPOINT_URL": address,
                "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")]),
            }
        finally:
            server.terminate()
            server.wait()


@pytest.fixture
def figures(monkeypatch) -> list:
    """Collects the figures that are drawn, in order. Rendering, which would take most of the time, is replaced."""
    from fer.viz import rendering

    collected, file = [], io.BytesIO()
    Image.new("L", (1, 1)).save(file, "PNG")

    def render_png(figure, **_) -> bytes:
        collected.append(figure)
        return file.getvalue()

    monkeypatch.setattr(rendering, "render_png", render_png)
    return collected
