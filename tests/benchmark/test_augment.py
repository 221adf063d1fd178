"""Tests of fer/benchmark/augment.py and baselines.py."""

import contextlib
import io

import numpy as np
import pytest

from fer.augment import policy
from fer.benchmark import augment, augmentation_baselines
from fer.errors import UserError


@pytest.fixture(
    scope="module", params=[False, pytest.param(True, marks=pytest.mark.extended)], ids=["without KerasCV", "KerasCV"]
)
def measured(request):
    """Runs the suite without worker processes and, by default, without KerasCV, whose imports are slow.

    Returns results by name and the printed lines.
    """
    patch, augmenter = pytest.MonkeyPatch(), policy.augmenter
    patch.setattr(augmentation_baselines, "is_missing", lambda name: True)
    patch.setattr(augment, "RANDAUGMENT", "flip")  # compiles quickly
    if not request.param:
        patch.setattr(policy, "augmenter", lambda text, xla=False, backend="fused": augmenter(text, xla=xla))
    with contextlib.redirect_stdout(io.StringIO()) as output:
        results = augment.measure("flip|mixup(0.2)", batch=4, repeats=1, rounds=1)
    patch.undo()
    return {result.name: result for result in results}, output.getvalue().splitlines()


@pytest.mark.extended
def test_augment_suite_measures_throughput_and_names_baselines(measured):
    results, _ = measured
    assert all(result.value > 0 and result.unit.startswith("images/s") for result in results.values())
    assert results["fer, randaugment(2, 9)"].baseline == "KerasCV, RandAugment"
    assert results["fer, randaugment(2, 9), beside Keras, ImageDataGenerator"].ratio > 0
    assert results["warp, gathers"].baseline == "warp, kernel"
    assert {"Keras, ImageDataGenerator", "randaugment, under jit_compile", "stage: warp"} <= set(results)
    assert len({result.suite for result in results.values()}) == 1


def test_augment_suite_prints_a_line_before_each_measurement(measured):
    results, lines = measured
    candidates = [name for name in results if ", beside " not in name]
    for name in candidates:
        assert lines.count(f"augment: warming up {name}") == 1
        assert lines.count(f"augment: round 1 of 1: {name}") == 1


def test_augment_suite_rejects_wrong_policy_before_measuring():
    with pytest.raises(UserError, match="the nearest is flip"):
        augment.measure("flop")


def test_is_missing_is_true_when_package_is_not_installed(monkeypatch):
    monkeypatch.setitem(augmentation_baselines.BASELINES, "absent", ("no_such_package", None))
    assert augmentation_baselines.is_missing("absent")


@pytest.mark.parametrize("name", augmentation_baselines.BASELINES)
def test_baseline_transforms_images_and_counts_them(name):
    if augmentation_baselines.is_missing(name):
        pytest.skip(f"{name} is not installed (extra bench)")
    images = np.random.default_rng(0).integers(0, 256, (6, 48, 48, 1), dtype=np.uint8)
    with augmentation_baselines.start_workers(name, images, processes=1, repeats=3) as work:
        assert work() == 3 * 6
