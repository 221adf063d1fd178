"""Tests of fer/benchmark/train.py."""

import importlib.util

import numpy as np
import pytest

from fer import progress
from fer.benchmark import launches, train
from fer.data.example_codec import Faces
from tests.train import factories


@pytest.mark.parametrize(
    ("experiment", "config", "side"),
    [
        (train.EXPERIMENTS["compact"], "compact", 0),
        (train.EXPERIMENTS["efficientnet_b0 at 48"], "efficientnet_b0", 48),
        (launches.INCEPTION, "inception_v3", 139),
    ],
    ids=["compact", "efficientnet_b0", "inception_v3"],
)
def test_suites_use_the_experiments_of_the_configs(root, experiment, config, side):
    spec = importlib.util.spec_from_file_location(config, root / "configs" / f"{config}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config()
    assert experiment.augment == config.augment
    assert experiment.optimizer == config.optimizer
    assert (experiment.model.name, experiment.model.image_size) == (config.model.name, side)
    assert experiment.train.global_batch_size == config.train.global_batch_size
    assert experiment.train.precision == config.train.precision


@pytest.mark.parametrize(
    "trained", [False, pytest.param(True, marks=pytest.mark.extended)], ids=["without training", "trained"]
)
def test_measure_throughput_compares_a_run_with_its_step_on_one_batch(monkeypatch, trained, capsys):
    """Tracing and compiling the two steps takes most of the time."""
    monkeypatch.setattr(progress, "STAGE_INTERVAL_S", 600.0)  # no further lines on a slow machine
    if not trained:
        monkeypatch.setattr(train.train_step, "make_train_step", lambda *_: lambda batch: None)
    images = np.random.default_rng(0).integers(0, 256, (64, 48, 48, 1), dtype=np.uint8)
    faces = Faces(images, np.arange(64, dtype=np.int32) % 7, np.arange(64), None)
    settings = factories.experiment(deterministic=False)
    settings.model.name = "tiny"
    run, constant, plain = train.measure_throughput("small", settings, faces, steps=1, rounds=2)
    assert (run.name, run.baseline) == ("small, a run", "small, one constant batch")
    assert (constant.baseline, plain.baseline) == (None, "small, one constant batch")
    assert min(run.value, constant.value, plain.value) > 0
    assert capsys.readouterr().out.splitlines() == [
        "train: building small",
        "train: compiling small",
        *(f"train: round {number} of 2: {each.name}" for number in (1, 2) for each in (run, constant, plain)),
    ]
