"""The list of models and its figures."""

import pytest

from fer.config import Model
from fer.models import classifier, listing, registry


@pytest.mark.extended
@pytest.mark.parametrize(("name", "published"), [("mobilenet", 569e6), ("resnet18", 1.8e9), ("efficientnet_b0", 390e6)])
def test_multiply_adds_are_those_published(name, published):
    model = classifier.build(Model(name=name), "float32")
    assert listing.multiply_adds(model) == pytest.approx(published, rel=0.02)


def test_multiply_adds_of_a_dense_network_follow_from_its_shapes():
    model = classifier.build(Model(name="compact_s"), "float32")
    convolutions = [(48, 1, 16), (24, 16, 32), (24, 32, 32), (12, 32, 64)] + [(12, 64, 64)] * 2
    convolutions += [(6, 64, 128)] + [(6, 128, 128)] * 2
    expected = sum(side**2 * 9 * channels * width for side, channels, width in convolutions) + 128 * 7
    assert listing.multiply_adds(model) == expected


def test_each_model_has_a_line(monkeypatch):
    few = {name: registry.BACKBONES[name] for name in ("compact", "mini_xception")}
    monkeypatch.setattr(registry, "BACKBONES", few)
    lines = list(listing.lines())
    assert [line.split() for line in lines[2:4]] == [
        ["compact", "1,905,831", "139", "M", "48", "px"],
        ["mini_xception", "58,423", "10", "M", "64", "px"],
    ]
    assert "keras_cv/efficientnetv2_s_imagenet" in lines[4]
