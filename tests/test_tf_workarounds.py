"""Checks the workarounds for TensorFlow's faults that no other test covers."""

import gc
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from fer import tf_workarounds
from fer.data import example_codec
from tests.train import factories, launch

# A worker alone: it starts TensorFlow's server, and then sends itself SIGTERM.
WORKER = """
import os, signal, sys, time
import fer
import tensorflow as tf
from tensorflow.python.eager import context
from fer import tf_workarounds
tf.config.experimental.enable_op_determinism()
received = []
signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
tf_workarounds.set_worker_timeouts(1, 7, 3)
config = context.context().coordination_service
spec = tf.train.ClusterSpec({"worker": [sys.argv[1]]})
resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(spec, task_type="worker", task_id=0, rpc_layer="grpc")
tf.distribute.MultiWorkerMirroredStrategy(resolver)
assert context.context().coordination_service is config
tf_workarounds.keep_sigterm_handler()
os.kill(os.getpid(), signal.SIGTERM)
start = tf_workarounds.read_clock()
time.sleep(0.1)
waited = float(tf_workarounds.read_clock() - start)
print(received, config.cluster_register_timeout_in_ms, config.heartbeat_timeout_in_ms, 0.1 <= waited < 30)
os._exit(0)
"""


def count_graphs() -> int:
    """Counts the traced training steps that are alive."""
    gc.collect()
    kind = type(tf.function(lambda: tf.zeros([])).get_concrete_function().graph)
    return sum(isinstance(each, kind) and each.name == "step" for each in gc.get_objects())


@pytest.mark.extended
def test_graphs_of_a_run_are_released_at_its_end(synthetic_shards):
    faces = example_codec.read_split(synthetic_shards, "train")
    before = count_graphs()
    with tf_workarounds.release_custom_gradients():
        factories.train_steps(tf.distribute.OneDeviceStrategy("CPU:0"), factories.experiment(), faces, 1)
    assert count_graphs() == before


def test_worker_has_timeouts_receives_sigterm_and_reads_clock():
    (port,) = launch.find_free_ports(1)
    worker = subprocess.run(
        [sys.executable, "-c", WORKER, f"127.0.0.1:{port}"], capture_output=True, text=True, timeout=launch.LIMIT
    )
    assert worker.stdout == "[15] 7000 3000 True\n", worker.stderr


@pytest.mark.parametrize("side", [7, 8])
def test_downsample_and_1x1_convolution_equal_convolution_with_stride_2(side):
    x, kernel = tf.random.stateless_uniform([2, side, side, 3], [0, 1]), tf.eye(3)[tf.newaxis, tf.newaxis]
    expected = tf.nn.conv2d(x, kernel, 2, "SAME")
    np.testing.assert_array_equal(tf.nn.conv2d(tf_workarounds.downsample(x, "pool"), kernel, 1, "SAME"), expected)


def test_unfuse_frozen_batch_norm_computes_unfused_on_gpus_only(monkeypatch):
    x = tf.random.stateless_uniform([2, 4, 4, 3], [0, 1])
    fused, unfused = tf.keras.layers.BatchNormalization(), tf.keras.layers.BatchNormalization()
    for layer in (fused, unfused):
        layer.build(x.shape)
    tf_workarounds.unfuse_frozen_batch_norm(fused)
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [kind])
    tf_workarounds.unfuse_frozen_batch_norm(unfused)
    assert (fused.fused, unfused.fused) == (True, False)
    np.testing.assert_allclose(unfused(x), fused(x), rtol=1e-5)
