"""What all tests share."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow loads

import pathlib

import pytest
import tensorflow as tf
from tensorflow.python.framework import config as framework_config

from fer.data import convert, manifest

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
    """400 synthetic faces, converted as a user converts them: 320 train, 40 validation, 40 test."""
    folder = tmp_path_factory.mktemp("shards") / "synthetic"
    return convert.convert(convert.Options(input="synthetic:400", output=str(folder)))


@pytest.fixture(scope="session")
def root() -> pathlib.Path:
    """The checkout."""
    return pathlib.Path(__file__).resolve().parents[1]
