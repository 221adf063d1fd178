"""What would compute in the host's memory on a GPU is found without one."""

import pytest
import tensorflow as tf

from fer import rng
from fer.augment import policy
from fer.augment.xla_support import as_on_gpu
from fer.benchmark import host_ops
from fer.rng import BatchRng

BATCH = 4
SINGLE = "|".join(policy.SINGLE_IMAGE_OPS)  # every operation of the kind after the other
POLICIES = {
    "all that change images one by one": SINGLE,
    "faces": "randaugment(2,9,faces)",
    **{name: name for name in (*policy.ERASE_OPS, *policy.SELF_MIX_OPS, *policy.MIX_OPS)},
    "one of several mixings": "choose(mixup,cutmix)",
}


def graph(function, *shapes: list[int], dtype: tf.DType = tf.float32) -> tf.Graph:
    specs = [tf.TensorSpec(shape, dtype) for shape in shapes]
    return tf.function(function, autograph=False).get_concrete_function(*specs).graph


def found(*arguments, **settings) -> list[str]:
    return [each.op for each in host_ops.on_host(graph(*arguments, **settings))]


def test_arithmetic_in_int32_is_found_and_that_in_float32_and_int64_is_not():
    assert found(lambda x: x + x, [8], dtype=tf.int32) == ["AddV2"]
    assert found(lambda x: x + x, [8], dtype=tf.float32) == []
    assert found(lambda x: x + x, [8], dtype=tf.int64) == []


def test_it_says_what_the_host_would_read():
    (each,) = host_ops.on_host(graph(lambda x: x + x, [8, 3], dtype=tf.int32))
    assert each.why == "int32 (8, 3) is read by the host"


def test_what_has_no_kernel_for_gpus_is_found_by_its_dtype():
    def looked_up(x: tf.Tensor) -> tf.Tensor:
        return tf.gather(x, [1, 2])

    (each,) = host_ops.on_host(graph(looked_up, [8], dtype=tf.uint8))
    assert (each.op, each.why) == ("GatherV2", "no kernel for GPUs takes uint8, int32, int32")
    assert found(looked_up, [8], dtype=tf.float32) == []


def test_what_follows_from_shapes_alone_is_the_hosts_by_right():
    assert found(lambda x: tf.reshape(x, [tf.size(x) // 2, 2]), [None]) == []


def test_a_draw_whose_seed_was_drawn_is_found_unless_it_is_made_on_the_host():
    def by_split(seed: tf.Tensor) -> tf.Tensor:
        return tf.random.stateless_uniform([8], tf.random.experimental.stateless_split(seed, 1)[0])

    assert "StatelessRandomGetKeyCounter" in found(by_split, [2], dtype=tf.int32)

    def by_salt(x: tf.Tensor) -> tf.Tensor:
        return x * tf.random.stateless_uniform([8], rng.fold_in(tf.constant([1, 2]), 3), alg=rng.ALGORITHM)

    assert found(by_salt, [8]) == []


def test_the_inside_of_a_branch_is_looked_at_too():
    def branched(x: tf.Tensor) -> tf.Tensor:
        return tf.while_loop(lambda x: True, lambda x: x - 1, [x], maximum_iterations=3)[0]

    assert "Sub" in found(branched, [8], dtype=tf.int32)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.extended) if name == "augmix" else name for name in POLICIES]
)
def test_no_augmentation_computes_on_the_host(name):
    augment = policy.augmenter(POLICIES[name])

    def augmented(images: tf.Tensor, targets: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return augment(images, targets, BatchRng(tf.constant([0, 1]), tf.range(BATCH), BATCH))

    images, targets = tf.TensorSpec([BATCH, 48, 48, 1], tf.uint8), tf.TensorSpec([BATCH, 7])
    with as_on_gpu():
        built = tf.function(augmented, autograph=False).get_concrete_function(images, targets).graph
    assert host_ops.on_host(built) == []
