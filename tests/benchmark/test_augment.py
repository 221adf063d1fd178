"""The augmentation benchmark measures each contestant on the same images, and says who is missing."""

import numpy as np
import pytest

from fer.augment import policy
from fer.benchmark import augment, baselines
from fer.errors import UserError


@pytest.fixture(
    scope="module", params=[False, pytest.param(True, marks=pytest.mark.extended)], ids=["without KerasCV", "KerasCV"]
)
def measured(request):
    """Without rivals in processes of their own, and KerasCV by default, each of which would load its libraries."""
    patch, augmenter = pytest.MonkeyPatch(), policy.augmenter
    patch.setattr(baselines, "missing", lambda name: True)
    patch.setattr(augment, "RANDAUGMENT", "flip")  # what each contestant is, not how long it compiles
    if not request.param:
        patch.setattr(policy, "augmenter", lambda text, xla=False, engine="fused": augmenter(text, xla=xla))
    results = augment.measure("flip|mixup(0.2)", batch=4, repeats=1, rounds=1)
    patch.undo()
    return {result.name: result for result in results}


def test_every_figure_is_a_rate_and_names_its_baseline(measured):
    assert all(result.value > 0 and result.unit.startswith("images/s") for result in measured.values())
    assert measured["fer, randaugment(2, 9)"].baseline == "KerasCV, RandAugment"
    assert measured["fer, randaugment(2, 9), beside Keras, ImageDataGenerator"].ratio > 0
    assert measured["warp, gathers"].baseline == "warp, kernel"
    assert {"Keras, ImageDataGenerator", "randaugment, under jit_compile", "stage: warp"} <= set(measured)
    assert len({result.suite for result in measured.values()}) == 1


def test_a_policy_with_a_fault_is_told_before_anything_is_measured():
    with pytest.raises(UserError, match="the nearest is flip"):
        augment.measure("flop")


def test_what_is_not_installed_is_missing(monkeypatch):
    monkeypatch.setitem(baselines.BASELINES, "nobody", ("no_such_package", None))
    assert baselines.missing("nobody")


@pytest.mark.parametrize("name", baselines.BASELINES)
def test_a_rival_changes_images_and_counts_them(name):
    if baselines.missing(name):
        pytest.skip(f"{name} is not installed; the extra bench has it")
    images = np.random.default_rng(0).integers(0, 256, (6, 48, 48, 1), dtype=np.uint8)
    with baselines.running(name, images, processes=1, repeats=3) as work:
        assert work() == 3 * 6
