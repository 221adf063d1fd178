"""The training benchmark measures what ships, and in turns."""

import importlib.util

import numpy as np
import pytest

from fer.benchmark import train
from fer.data.example_codec import Faces
from tests.train import factories


@pytest.mark.parametrize(("name", "config"), [("compact", "compact"), ("efficientnet_b0 at 48", "efficientnet_b0")])
def test_its_policies_models_and_optimizers_are_those_of_the_configs(root, name, config):
    spec = importlib.util.spec_from_file_location(config, root / "configs" / f"{config}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    ours, shipped = train.EXPERIMENTS[name], module.get_config()
    assert ours.augment == shipped.augment
    assert ours.optimizer == shipped.optimizer
    assert (ours.model.name, ours.model.image_size or 48) == (shipped.model.name, 48)
    assert ours.train.global_batch == shipped.train.global_batch
    assert ours.train.precision == shipped.train.precision


@pytest.mark.parametrize(
    "trained", [False, pytest.param(True, marks=pytest.mark.extended)], ids=["without training", "trained"]
)
def test_a_run_is_compared_with_its_step_on_one_batch(monkeypatch, trained):
    """Tracing and compiling the two steps is most of the time that this takes."""
    if not trained:
        monkeypatch.setattr(train.train_step, "make_train_step", lambda *_: lambda batch: None)
    images = np.random.default_rng(0).integers(0, 256, (64, 48, 48, 1), dtype=np.uint8)
    faces = Faces(images, np.arange(64, dtype=np.int32) % 7, np.arange(64), None)
    settings = factories.experiment(deterministic=False)
    settings.model.name = "tiny"
    run, constant, plain = train.rates("small", settings, faces, steps=1, rounds=2)
    assert (run.name, run.baseline) == ("small, a run", "small, one constant batch")
    assert (constant.baseline, plain.baseline) == (None, "small, one constant batch")
    assert min(run.value, constant.value, plain.value) > 0
