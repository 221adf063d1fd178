"""A run that is over leaves nothing of its graphs in the process."""

import gc

import tensorflow as tf

from fer.data import example_codec
from fer.train import tf_workarounds
from tests.train import factories


def graphs() -> int:
    """Traced training steps that are alive."""
    gc.collect()
    kind = type(tf.function(lambda: tf.zeros([])).get_concrete_function().graph)
    return sum(isinstance(each, kind) and each.name == "step" for each in gc.get_objects())


def test_no_graph_outlives_its_run(synthetic_shards):
    faces = example_codec.read_split(synthetic_shards, "train")
    before = graphs()
    with tf_workarounds.release_custom_gradients():
        factories.train_steps(tf.distribute.OneDeviceStrategy("CPU:0"), factories.experiment(), faces, 1)
    assert graphs() == before
