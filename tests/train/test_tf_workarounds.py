"""Checks that the graphs of a run are released at its end."""

import gc

import tensorflow as tf

from fer.data import example_codec
from fer.train import tf_workarounds
from tests.train import factories


def count_graphs() -> int:
    """Counts the traced training steps that are alive."""
    gc.collect()
    kind = type(tf.function(lambda: tf.zeros([])).get_concrete_function().graph)
    return sum(isinstance(each, kind) and each.name == "step" for each in gc.get_objects())


def test_graphs_of_a_run_are_released_at_its_end(synthetic_shards):
    faces = example_codec.read_split(synthetic_shards, "train")
    before = count_graphs()
    with tf_workarounds.release_custom_gradients():
        factories.train_steps(tf.distribute.OneDeviceStrategy("CPU:0"), factories.experiment(), faces, 1)
    assert count_graphs() == before
