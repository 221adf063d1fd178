"""The shipped configs: valid, documented, and able to train."""

import dataclasses
import importlib.util
import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf

from fer.config import validate_config
from fer.data import example_codec
from fer.models import precision, registry
from fer.train import preflight
from tests.train import factories

CONFIGS = sorted((pathlib.Path(__file__).resolve().parents[1] / "configs").glob("*.py"))


def load_config(path: pathlib.Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_header_has_training_command(path):
    header = load_config(path).__doc__
    assert re.search(rf"python scripts/train\.py --config=configs/{path.name} --data=\S+ --workdir=\S+", header)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_is_valid_with_known_policy_and_backbone(path):
    experiment = precision.resolve_precision(validate_config(load_config(path).get_config()))
    experiment.model.weights, experiment.train.teacher_runs = "none", ""  # the repository holds no weights
    preflight.check_experiment(experiment)
    assert experiment.model.image_size in (0, *range(registry.backbone_spec(experiment.model.name).min_size, 1024))


@pytest.mark.extended
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_trains_two_steps(path, synthetic_shards):
    experiment = precision.resolve_precision(validate_config(load_config(path).get_config()))
    # The same experiment at a small size.
    side = max(registry.backbone_spec(experiment.model.name).min_size, 32)
    experiment.model.image_size, experiment.train.global_batch_size = side, 8
    experiment.model.weights = "none"  # the repository holds no weights
    experiment.train.ema_decay = 0.0  # the average would be a second network
    faces = example_codec.read_split(synthetic_shards, "train")
    few = dataclasses.replace(
        faces,
        images=faces.images[:16],
        labels=faces.labels[:16],
        rows=faces.rows[:16],
        votes=np.tile(np.arange(10, dtype=np.int32), (16, 1)),  # for configs that train on votes
    )
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    state, go = factories.begin_training(strategy, experiment, few, 2)
    (kernel,) = (weight for weight in state.model.trainable_weights if weight.name.startswith("logits/kernel"))
    before = kernel.numpy()
    for _ in range(2):  # the learning rate starts at 0
        go()
    assert np.isfinite(float(state.loss.result()))
    assert (kernel.numpy() != before).any()
