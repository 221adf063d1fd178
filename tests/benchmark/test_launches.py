"""Tests of fer/benchmark/launches.py."""

import tensorflow as tf

from fer.benchmark import launches
from fer.benchmark.train import draw_faces
from tests.train import factories

X = tf.TensorSpec([8, 3], tf.float32)


def count(function, *specs: tf.TensorSpec) -> dict[str, int]:
    """Returns the stages of a function that launch something."""
    concrete = tf.function(function, autograph=False).get_concrete_function(*specs)
    return {stage: count for stage, count in launches.count_launches(concrete).items() if count}


def test_count_launches_counts_ops_that_compute_on_the_gpu():
    assert count(lambda x: tf.reshape(tf.exp(x) * tf.sin(x), [-1]), X) == {"other": 3}
    assert count(lambda x: tf.reshape(x, [-1]), X) == {}


def test_count_launches_ignores_ops_and_variables_of_the_host():
    with tf.device("CPU:0"):
        variable = tf.Variable(1.0)

    def partly_on_host(x: tf.Tensor) -> tf.Tensor:
        variable.assign_add(1.0)
        with tf.device("CPU:0"):
            y = tf.exp(x)
        return tf.sin(y)

    assert count(partly_on_host, X) == {"other": 1}


def test_count_launches_ignores_int32_arithmetic_in_host_memory():
    assert count(lambda x: x + x * x, tf.TensorSpec([8], tf.int32)) == {}


def test_count_launches_counts_the_graph_that_grappler_optimizes():
    assert count(lambda x: tf.exp(x) + tf.exp(x) * tf.sin(tf.zeros([3])), X) == {"other": 3}  # exp once, sin folded


def test_count_launches_counts_the_fusions_of_an_xla_cluster():
    weight = tf.Variable(tf.ones([3]))
    chain = tf.function(lambda x: tf.exp(tf.sin(x) * weight + 1), autograph=False, jit_compile=True)
    assert count(lambda x: tf.cos(chain(x)), X) == {"other": 2}


def test_count_launches_names_stages_by_scope():
    def step(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.name_scope("forward"), tf.GradientTape() as tape:
            tape.watch(x)
            with tf.name_scope("resize"):
                small = tf.sqrt(x)
            y = tf.sin(small)
        with tf.name_scope("backward"):
            gradient = tape.gradient(y, x)
        with tf.name_scope("optimizer"):
            return y, tf.exp(gradient)

    found = count(step, X)
    assert (found["resize_and_normalization"], found["forward"], found["optimizer"]) == (1, 1, 1)
    assert found["backward"] >= 2
    assert "other" not in found


def test_iter_launching_names_calls_by_their_root_and_counts_split_sums_once():
    hlo = """%parallel_fusion (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  ROOT %sine = f32[8]{0} sine(f32[8]{0} %p), metadata={op_type="Sin" op_name="forward/Sin"}
}

ENTRY %main (arg: f32[8]) -> f32[] {
  %arg = f32[8]{0} parameter(0), metadata={op_name="XLA_Args"}
  %call = f32[8]{0} call(f32[8]{0} %arg), to_apply=%parallel_fusion
  %copy = f32[8]{0} copy(f32[8]{0} %call)
  %reduce-window = f32[2]{0} reduce-window(f32[8]{0} %copy), window={size=4 stride=4}, to_apply=%add
  ROOT %reduce = f32[] reduce(f32[2]{0} %reduce-window), metadata={op_type="Sum" op_name="metrics/Sum"}
}
"""
    assert list(launches.iter_launching(hlo)) == ["forward/Sin", "forward/Sin", "metrics/Sum"]


def test_count_step_finds_every_stage_of_a_training_step():
    experiment = factories.augmented_experiment(ema_decay=0.9)
    counts = launches.count_step(experiment, draw_faces(64))
    assert list(counts) == list(launches.STAGES)
    assert all(counts[stage] for stage in launches.SCOPES), counts
    assert counts["other"] == 0, counts
