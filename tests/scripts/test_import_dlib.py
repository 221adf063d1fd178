"""Tests of scripts/import_dlib.py."""

import pathlib

import numpy as np
import pytest

from fer.config import Model
from fer.models import classifier, pretrained
from tests.evaluation import factories
from tests.models.importers.test_dlib import encode_as_dlib, random_convolutions
from tests.scripts.run_script import run


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
    """Returns a directory with shards in faces/ and a file in dlib's format."""
    factories.shards(tmp_path / "faces", {"train": (factories.images(8), np.arange(8) % 7)})
    (tmp_path / "network.dat").write_bytes(encode_as_dlib(random_convolutions()))
    return tmp_path


@pytest.mark.extended
def test_import_dlib_writes_weights_that_training_loads(folder):
    done = run("import_dlib.py", folder, "--input=network.dat", "--data=faces", "--output=network.npz")
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
def test_import_dlib_leaves_nothing_of_an_invalid_file(folder):
    (folder / "other.dat").write_bytes(b"no network")
    done = run("import_dlib.py", folder, "--input=other.dat", "--data=faces", "--output=network.npz")
    assert done.returncode == 1
    assert "other.dat is not dlib's face recognition network" in done.stderr
    assert not (folder / "network.npz").exists()


def test_import_dlib_output_must_be_npz(tmp_path):
    done = run("import_dlib.py", tmp_path, "--input=x.dat", "--data=faces", "--output=network.h5")
    assert done.returncode == 1
    assert "--output=network.h5: it must end with .npz." in done.stderr


def test_import_dlib_checks_output_before_reading(tmp_path):
    (tmp_path / "file").write_text("")
    done = run("import_dlib.py", tmp_path, "--input=nowhere.dat", "--data=nowhere", "--output=file/network.npz")
    assert done.returncode == 1
    assert f"Cannot write file/network.npz: {tmp_path}/file is a file. Choose another folder." in done.stderr
