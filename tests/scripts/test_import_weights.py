"""Tests of scripts/import_weights.py."""

import pathlib

import numpy as np
import pytest

from fer.config import Model
from fer.models import classifier, pretrained
from fer.predict import face_detection
from tests.evaluation import factories
from tests.models.importers.detector_library import encode_library, shipped_weights
from tests.models.importers.test_dlib import encode_as_dlib, random_convolutions
from tests.scripts.run_script import run


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
    """Returns a directory with shards in faces/ and a file in dlib's format."""
    factories.shards(tmp_path / "faces", {"train": (factories.images(8), np.arange(8) % 7)})
    (tmp_path / "network.dat").write_bytes(encode_as_dlib(random_convolutions()))
    return tmp_path


@pytest.mark.extended
def test_import_weights_writes_weights_that_training_loads(folder):
    done = run(
        "import_weights.py", folder, "--source=dlib", "--input=network.dat", "--data=faces", "--output=network.npz"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "wrote network.npz: 5,585,376 weights, statistics of 8 images\n"
    config = Model(
        name="dlib_resnet",
        truncate_at="conv5_block3",
        image_size=112,
        stem_channels="sum",
        weights=str(folder / "network.npz"),
    )
    model = classifier.build(config, "float32")
    pretrained.load(model, config)
    theirs = np.load(config.weights)
    stem = classifier.get_backbone(model).get_layer("conv2_block1_1_conv").kernel
    np.testing.assert_array_equal(stem, theirs[theirs.files[5]])


@pytest.mark.extended
def test_import_weights_leaves_nothing_of_an_invalid_file(folder):
    (folder / "other.dat").write_bytes(b"no network")
    done = run(
        "import_weights.py", folder, "--source=dlib", "--input=other.dat", "--data=faces", "--output=network.npz"
    )
    assert done.returncode == 1
    assert "other.dat is not dlib's face recognition network" in done.stderr
    assert not (folder / "network.npz").exists()


def test_import_weights_output_must_be_npz(tmp_path):
    done = run("import_weights.py", tmp_path, "--source=dlib", "--input=x.dat", "--data=faces", "--output=network.h5")
    assert done.returncode == 1
    assert "--output=network.h5: it must end with .npz." in done.stderr


def test_import_weights_checks_output_before_reading(tmp_path):
    (tmp_path / "file").write_text("")
    done = run(
        "import_weights.py",
        tmp_path,
        "--source=dlib",
        "--input=nowhere.dat",
        "--data=nowhere",
        "--output=file/network.npz",
    )
    assert done.returncode == 1
    assert f"Cannot write file/network.npz: {tmp_path}/file is a file. Choose another folder." in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--source=dlib"], "--source=dlib needs --data, a directory of shards."),
        (["--source=inception_v3", "--data=faces"], "--source=inception_v3 takes no --data."),
        (["--source=yunet", "--output=network.npz"], "--output=network.npz: it must end with .onnx."),
    ],
)
def test_import_weights_rejects_flags_that_do_not_fit_the_source(tmp_path, arguments, message):
    (tmp_path / "file").write_bytes(b"")
    done = run("import_weights.py", tmp_path, "--input=file", "--output=network.npz", *arguments)
    assert done.returncode == 1
    assert message in done.stderr


def test_import_weights_writes_the_face_detector(tmp_path):
    pytest.importorskip("onnx", reason="onnx is not installed: the extra export brings it")
    (tmp_path / "library.so").write_bytes(encode_library(shipped_weights()))
    done = run("import_weights.py", tmp_path, "--source=yunet", "--input=library.so", "--output=network.onnx")
    assert done.stdout == "wrote network.onnx\n", done.stderr
    assert (tmp_path / "network.onnx").read_bytes() == face_detection.MODEL.read_bytes()
