"""What all tests share."""

import os

import fer  # noqa: F401  before TensorFlow: it chooses Keras 2

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow loads

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

# Two logical devices, for the tests of two replicas; they can only be made before TensorFlow starts.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


@pytest.fixture(autouse=True)
def no_determinism_left_behind():
    """A run turns deterministic operations on for the whole process; no test may depend on those before it."""
    yield
    framework_config.disable_op_determinism()


@pytest.fixture(scope="session")
def synthetic_shards(tmp_path_factory) -> manifest.Manifest:
    """400 synthetic faces, converted as a user converts them: 320 train, 40 validation, 40 test. Read only."""
    options = convert.Options(input="synthetic:400", output="")
    folder = shared_folder(
        tmp_path_factory, "synthetic", lambda place: convert.convert(dataclasses.replace(options, output=str(place)))
    )
    return manifest.read_manifest(str(folder))


@pytest.fixture(scope="session")
def trained_run(synthetic_shards, tmp_path_factory) -> pathlib.Path:
    """The run folder of the network `tiny` after two epochs (40 steps) on `synthetic_shards`. Copy it to write.

    scripts/train.py trained it. `tests.scripts.run_script.printed` has its output; its configuration is <folder>.py.
    """

    def train(folder: pathlib.Path) -> None:
        config = folder.with_suffix(".py")
        config.write_text(
            CONFIG.format(json=json.dumps(factories.augmented_experiment(steps=40, checkpoint_steps=10).to_dict()))
        )
        run_script.make(folder, "train.py", f"--config={config}", f"--data={synthetic_shards.folder}", "--strategy=one")

    return shared_folder(tmp_path_factory, "trained", train)


@pytest.fixture(scope="session")
def evaluated_run(synthetic_shards, trained_run, tmp_path_factory) -> pathlib.Path:
    """A copy of `trained_run` with its evaluation on validation: eval.json, predictions.npz, pictures. Read only.

    scripts/evaluate.py evaluated it; `tests.scripts.run_script.printed` has its output.
    """

    def evaluate(folder: pathlib.Path) -> None:
        shutil.copytree(trained_run, folder)
        run_script.make(folder, "evaluate.py", f"--data={synthetic_shards.folder}")

    return shared_folder(tmp_path_factory, "evaluated", evaluate)


@pytest.fixture(scope="session")
def export_folder(tmp_path_factory) -> pathlib.Path:
    """A run in run/, its exports in all formats in exports/, and their shards in tfrecords/faces. Read only.

    The run classifies these faces rightly but for every sixth. Another run of the same architecture is in other/, what
    scripts/export.py printed of tflite in printed.
    """
    return shared_folder(tmp_path_factory, "exports", exports)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    """A browser for all tests of pages in this process; its camera sees the photo of tests/demo/photo.py."""
    film = photo.encoded(photo.photo(), "JPEG")
    with browser.chromium(tmp_path_factory.mktemp("chromium"), film) as page:
        yield page


@pytest.fixture(scope="session")
def root() -> pathlib.Path:
    """The checkout."""
    return pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def store(root: pathlib.Path, tmp_path_factory):
    """The environment in which s3://bucket is a bucket of a fresh S3 server on this machine, for programs of ours.

    TensorFlow reads it when it first meets s3://, so it is for processes of their own.
    """
    for module, reason in (
        ("tensorflow_io", "s3:// is tested with the extra s3 (tensorflow-io)"),
        ("moto", "s3:// is tested against moto's server (moto[server])"),
        ("flask_cors", "s3:// is tested against moto's server (moto[server])"),
    ):
        if importlib.util.find_spec(module) is None:  # not imported here, which takes two seconds
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
    """Collects the figures that are drawn, in order. They are not rendered, which would take most of the time."""
    from fer.viz import rendering

    drawn, file = [], io.BytesIO()
    Image.new("L", (1, 1)).save(file, "PNG")

    def render_png(figure, **_) -> bytes:
        drawn.append(figure)
        return file.getvalue()

    monkeypatch.setattr(rendering, "render_png", render_png)
    return drawn
