"""Seeds are computed on the host, whatever device uses them, and equal TensorFlow's fold_in."""

import tensorflow as tf

from fer import rng
from fer.benchmark import launches
from fer.benchmark.gpu import op_placement


def test_fold_in_equals_tensorflow():
    seed = tf.constant([5, 7])
    folded = tf.random.experimental.stateless_fold_in(seed, 3, alg="philox")
    assert rng.fold_in(seed, 3).numpy().tolist() == folded.numpy().tolist()
    assert rng.fold_in(seed, 4).numpy().tolist() != folded.numpy().tolist()


def test_step_seed_combines_seed_and_step():
    step = tf.Variable(12, dtype=tf.int64)
    assert rng.step_seed(5, step).numpy().tolist() == [5, 12]


def test_rng_makes_seeds_on_host_and_numbers_on_device():
    step = tf.Variable(12, dtype=tf.int64)

    @tf.function
    def draw() -> tf.Tensor:
        with tf.name_scope("drawing"), tf.device("CPU:1"):
            seed = rng.fold_in(rng.fold_in(rng.step_seed(5, step), 1), 2)
            return tf.sort(tf.random.stateless_uniform([8], seed, alg=rng.ALGORITHM))

    # Filtered by name: the list also holds ops that threads of other tests compute at the same time.
    nodes = [node for node in op_placement.executed_nodes(draw) if node.name.startswith("drawing/")]
    of_seed = [node for node in nodes if rng.is_seed_op(node.name) and node.op not in op_placement.TRANSFERS]
    assert sum("StatelessRandom" in node.op for node in of_seed) >= 2
    assert {node.device for node in of_seed} == {"CPU:0"}
    assert {node.device for node in nodes if node.op == "StatelessRandomUniformV2"} == {"CPU:1"}
    assert op_placement.nodes_elsewhere(nodes, "CPU:1") == []


def test_uniform_draws_tensorflows_numbers_for_each_position():
    seed, positions = tf.constant([5, 7]), tf.constant([3, 0])
    numbers = tf.random.stateless_uniform([4, 2], seed, alg=rng.ALGORITHM).numpy()
    assert rng.BatchRng(seed, positions, 4).uniform(2).numpy().tolist() == numbers[[3, 0]].tolist()


def test_uniform_launches_one_random_kernel_and_one_gather():
    def draw(seed: tf.Tensor) -> tf.Tensor:
        return rng.BatchRng(seed, tf.constant([3, 0]), 4).fold_in(1).uniform(2)

    function = tf.function(draw, autograph=False).get_concrete_function(tf.TensorSpec([2], tf.int32))
    assert sum(launches.count_launches(function).values()) == 2


def test_is_seed_op_recognizes_name_scope():
    assert rng.is_seed_op("seeds/stack")
    assert rng.is_seed_op("augment/seeds_12/stack")
    assert not rng.is_seed_op("seeds_of_doubt/stack")
    assert not rng.is_seed_op("reseeds/stack")
