"""The table of models and its figures."""

import pytest
import tensorflow as tf

from fer.config import Model
from fer.errors import UserError
from fer.models import classifier, model_table, registry


@pytest.mark.extended
@pytest.mark.parametrize(("name", "published"), [("mobilenet", 569e6), ("resnet18", 1.8e9), ("efficientnet_b0", 390e6)])
def test_multiply_adds_are_those_published(name, published):
    model = classifier.build(Model(name=name), "float32")
    assert model_table.multiply_adds(model) == pytest.approx(published, rel=0.02)


def test_multiply_adds_of_a_dense_network_follow_from_its_shapes():
    model = classifier.build(Model(name="compact_s"), "float32")
    convolutions = [(48, 1, 16), (24, 16, 32), (24, 32, 32), (12, 32, 64)] + [(12, 64, 64)] * 2
    convolutions += [(6, 64, 128)] + [(6, 128, 128)] * 2
    expected = sum(side**2 * 9 * channels * width for side, channels, width in convolutions) + 128 * 7
    assert model_table.multiply_adds(model) == expected


def test_table_names_every_network_of_the_registry_in_its_order():
    assert [row.name for row in model_table.table()] == list(registry.BACKBONES)
    assert [row.size for row in model_table.table()] == [chosen.size for chosen in registry.BACKBONES.values()]


@pytest.mark.parametrize("name", ["tiny", "compact_s"])
def test_table_holds_what_a_small_network_costs(name):
    assert model_table.measure(name) in model_table.table()


@pytest.mark.slow
@pytest.mark.parametrize("row", model_table.table(), ids=lambda row: row.name)
def test_table_holds_what_every_network_costs(row):
    tf.keras.backend.clear_session()
    assert model_table.measure(row.name) == row


def test_table_is_written_as_it_is_read(monkeypatch, tmp_path):
    rows = model_table.table()[:3]
    monkeypatch.setattr(model_table, "_measure_all", lambda: iter(rows))
    monkeypatch.setattr(model_table, "__file__", str(tmp_path / "listing.py"))
    path = model_table.write()
    assert path == str(tmp_path / model_table.TABLE)
    monkeypatch.setattr(model_table.importlib.resources, "files", lambda package: tmp_path)
    assert model_table.table() == rows


def test_model_table_has_a_line_for_each_network():
    lines = model_table.lines()
    found = {line.split()[0]: line.split()[1:] for line in lines[2:-1]}
    assert list(found) == list(registry.BACKBONES)
    assert found["compact"] == ["1,905,831", "139", "M", "48", "px"]
    assert found["mini_xception"] == ["58,423", "10", "M", "64", "px"]
    assert "keras_cv/efficientnetv2_s*, keras_cv/efficientnetv2_m," in lines[-1]


def test_model_table_pattern_selects_lines():
    lines = model_table.lines("*b0*")
    assert [line.split()[0] for line in lines[2:-1]] == ["efficientnet_b0", "efficientnet_v2_b0"]
    assert lines[-1].endswith(": keras_cv/efficientnetv2_b0*")
    assert model_table.lines("keras_cv/resnet18_v2") == [
        "By preset, with KerasCV's architecture (*: has ImageNet weights): keras_cv/resnet18_v2"
    ]
    assert len(model_table.lines("compact_?")) == 4


def test_model_table_pattern_without_match_raises_user_error():
    with pytest.raises(UserError, match="No model's name matches 'none_'"):
        model_table.lines("none_")


def test_registry_error_names_nearest_to_an_unknown_name():
    model_table.check("keras_cv/densenet121")
    with pytest.raises(UserError, match=r"choose keras_cv/densenet121 with config.model.weights=imagenet"):
        model_table.check("keras_cv/densenet121_imagenet")
    with pytest.raises(UserError, match=r"There is no model 'keras_cv/resnet18_imagenet'; the nearest is"):
        model_table.check("keras_cv/resnet18_imagenet")
    with pytest.raises(UserError, match="There is no model 'compakt'; the nearest is compact"):
        model_table.check("compakt")
