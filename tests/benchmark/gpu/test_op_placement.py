"""Tests of fer/benchmark/gpu/op_placement.py."""

import pytest
import tensorflow as tf

from fer import rng
from fer.augment import policy, registry
from fer.augment.xla_support import as_on_gpu
from fer.benchmark.gpu import op_placement
from fer.rng import BatchRng

BATCH = 4
LAZY_OPS = [name for name, op in registry.OPS.items() if registry.KINDS[op.kind].fields]
POLICIES = {
    "lazy ops": "|".join(LAZY_OPS),  # all in sequence
    "faces": "randaugment(2,9,faces)",
    **{name: name for name in registry.OPS if name not in LAZY_OPS},
    "choice of mixing ops": "choose(mixup,cutmix)",
}


def build_graph(function, *shapes: list[int], dtype: tf.DType = tf.float32) -> tf.Graph:
    specs = [tf.TensorSpec(shape, dtype) for shape in shapes]
    return tf.function(function, autograph=False).get_concrete_function(*specs).graph


def found_ops(*arguments, **settings) -> list[str]:
    """Returns the types of the host ops of a function."""
    return [each.op for each in op_placement.find_host_ops(build_graph(*arguments, **settings))]


def test_find_host_ops_finds_int32_arithmetic_only():
    assert found_ops(lambda x: x + x, [8], dtype=tf.int32) == ["AddV2"]
    assert found_ops(lambda x: x + x, [8], dtype=tf.float32) == []
    assert found_ops(lambda x: x + x, [8], dtype=tf.int64) == []


def test_find_host_ops_describes_the_tensor_that_the_host_reads():
    (each,) = op_placement.find_host_ops(build_graph(lambda x: x + x, [8, 3], dtype=tf.int32))
    assert each.why == "the host reads int32 (8, 3)"


def test_find_host_ops_finds_op_without_gpu_kernel_for_its_dtype():
    def look_up(x: tf.Tensor) -> tf.Tensor:
        return tf.gather(x, [1, 2])

    (each,) = op_placement.find_host_ops(build_graph(look_up, [8], dtype=tf.uint8))
    assert (each.op, each.why) == ("GatherV2", "no GPU kernel for uint8, int32, int32")
    assert found_ops(look_up, [8], dtype=tf.float32) == []


def test_find_host_ops_ignores_shape_arithmetic():
    assert found_ops(lambda x: tf.reshape(x, [tf.size(x) // 2, 2]), [None]) == []


def test_find_host_ops_finds_random_seed_unless_it_is_computed_on_the_host():
    def by_split(seed: tf.Tensor) -> tf.Tensor:
        return tf.random.stateless_uniform([8], tf.random.experimental.stateless_split(seed, 1)[0])

    assert "StatelessRandomGetKeyCounter" in found_ops(by_split, [2], dtype=tf.int32)

    def by_salt(x: tf.Tensor) -> tf.Tensor:
        return x * tf.random.stateless_uniform([8], rng.fold_in(tf.constant([1, 2]), 3), alg=rng.ALGORITHM)

    assert found_ops(by_salt, [8]) == []


def test_find_host_ops_searches_loop_bodies():
    def loop(x: tf.Tensor) -> tf.Tensor:
        return tf.while_loop(lambda x: True, lambda x: x - 1, [x], maximum_iterations=3)[0]

    assert "Sub" in found_ops(loop, [8], dtype=tf.int32)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.extended) if name == "augmix" else name for name in POLICIES]
)
def test_augmentation_computes_nothing_on_the_host(name):
    augment = policy.augmenter(POLICIES[name])

    def apply(images: tf.Tensor, targets: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return augment(images, targets, BatchRng(tf.constant([0, 1]), tf.range(BATCH), BATCH))

    images, targets = tf.TensorSpec([BATCH, 48, 48, 1], tf.uint8), tf.TensorSpec([BATCH, 7])
    with as_on_gpu():
        built = tf.function(apply, autograph=False).get_concrete_function(images, targets).graph
    assert op_placement.find_host_ops(built) == []
