"""Tests of fer/benchmark/layers.py."""

import pytest
import tensorflow as tf

from fer.benchmark import layers
from fer.models import avx2_layers, precision


def test_measure_network_compares_equal_networks(monkeypatch, capsys):
    accelerated = []
    monkeypatch.setattr(avx2_layers, "accelerate", accelerated.append)
    keras, fer = layers.measure_network("tiny", batch_size=4, rounds=2)
    assert (keras.name, fer.name, fer.baseline) == ("tiny, Keras' layers", "tiny, fer", "tiny, Keras' layers")
    assert len(accelerated) == 1
    assert min(keras.value, fer.value) > 0
    assert "layers: compiling tiny" in capsys.readouterr().out


def test_steps_of_both_candidates_have_the_same_losses(monkeypatch):
    losses = []
    for limited in (False, True):
        monkeypatch.setattr(precision, "is_limited_to_avx2", lambda limited=limited: limited)
        tf.keras.utils.set_random_seed(0)
        accelerated = count_accelerations(monkeypatch)
        take_step = layers.make_step("tiny", 8, accelerated=True)
        losses.append([float(take_step()) for _ in range(3)])
        assert bool(accelerated) is limited
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert losses[0][0] > losses[0][-1]


def count_accelerations(monkeypatch) -> list[str]:
    """Returns the list to which each call of the replaced normalization is added."""
    calls = []
    normalize = avx2_layers._normalize
    monkeypatch.setattr(avx2_layers, "_normalize", lambda x, *rest: calls.append(x.name) or normalize(x, *rest))
    return calls
