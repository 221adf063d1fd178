"""What a policy string means, and how strictly it is read."""

import numpy as np
import pytest
import tensorflow as tf

from fer.augment import geometry, operations, policy
from fer.augment.draws import Draws
from fer.errors import UserError

POLICY = "flip|affine(rotate=15,scale=0.1,shift=0.08,shear=0.1)"
FACES = np.random.default_rng(0).integers(0, 256, (16, 48, 48, 1), dtype=np.uint8)
TARGETS = tf.one_hot(np.arange(16) % 7, 7)


def draws(seed=(0, 0), positions=range(16), global_batch=16) -> Draws:
    return Draws(tf.convert_to_tensor(seed), tf.constant(list(positions), tf.int32), global_batch)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("flop", "no operation 'flop'; the nearest is flip"),
        ("flip|affin(rotate=1)", "no operation 'affin'; the nearest is affine"),
        ("affine(rotat=15)", "affine has no argument 'rotat'; the nearest is rotate"),
        ("affine(rotate=fast)", "affine's rotate is fast; it must be 0 to 180"),
        ("affine(rotate=-3)", "affine's rotate is -3"),
        ("flip(p=True)", "flip's p is True"),
        ("affine(15, rotate=3)", "affine is told rotate twice"),
        ("flip(0.5, 1)", "flip takes p, not 2 values"),
        ("randaugment(preset=face)", "randaugment's preset is face; the nearest is faces"),
        ("mixup(0)", "mixup's alpha is 0; it must be 0.01 to 100"),
        ("choose(mixup)", "choose(...) takes two or more of mixup, cutmix"),
        ("choose(mixup,flip)", "choose(...) takes two or more of mixup, cutmix"),
        ("flip|", "is not of the form"),
        ("flip()()", "is not of the form"),
        ("__import__('os')", "no operation '__import__'"),
        ("flip.p", "is not of the form"),
        ("affine(**{})", "no argument None"),
    ],
)
def test_a_fault_in_a_policy_is_named(text, said):
    with pytest.raises(UserError) as caught:
        policy.augmenter(text)
    assert said in str(caught.value)
    assert repr(text) in str(caught.value)


def test_operations_keep_their_order_and_arguments():
    assert policy.parse("flip | affine(rotate=15, shift=.08)") == [
        policy.Operation("flip", {}),
        policy.Operation("affine", {"rotate": 15.0, "shift": 0.08}),
    ]


def test_none_changes_nothing():
    images, targets = policy.augmenter("none")(FACES, TARGETS, draws())
    np.testing.assert_array_equal(images, FACES)
    np.testing.assert_array_equal(targets, TARGETS)


def test_a_policy_is_its_operations_matrices_multiplied():
    given = draws(seed=(3, 5))
    mirrored = operations.flip(given.salted(0), 48).matrices
    moved = operations.affine(given.salted(1), 48, 15.0, 0.1, 0.08, 0.1).matrices
    images, targets = policy.augmenter(POLICY)(FACES, TARGETS, given)
    np.testing.assert_array_equal(images, geometry.warp(FACES, mirrored @ moved))
    np.testing.assert_array_equal(targets, TARGETS)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "tf.function"])
def test_the_same_seed_gives_the_same_bytes_and_another_step_others(compiled):
    augment = policy.augmenter(POLICY)
    function = tf.function(lambda seed: augment(FACES, TARGETS, draws(seed))[0]) if compiled else None
    run = function or (lambda seed: augment(FACES, TARGETS, draws(seed))[0])
    expected = augment(FACES, TARGETS, draws((7, 1)))[0]
    np.testing.assert_array_equal(run(tf.constant([7, 1])), expected)
    assert (run(tf.constant([7, 2])).numpy() != expected.numpy()).any()


def test_two_replicas_change_the_examples_as_one_does():
    augment = policy.augmenter(POLICY)
    whole, _ = augment(FACES, TARGETS, draws())
    parts = (slice(8), slice(8, 16))
    halves = [augment(FACES[part], TARGETS[part], draws(positions=range(16)[part]))[0] for part in parts]
    np.testing.assert_array_equal(whole, tf.concat(halves, 0))


def test_an_image_does_not_feel_its_batch_mates():
    augment = policy.augmenter(POLICY)
    others = FACES.copy()
    others[1:] = 255 - others[1:]
    np.testing.assert_array_equal(augment(FACES, TARGETS, draws())[0][0], augment(others, TARGETS, draws())[0][0])


def test_global_random_state_is_neither_read_nor_written():
    augment = policy.augmenter(POLICY)
    tf.random.set_seed(1)
    first = augment(FACES, TARGETS, draws())[0]
    drawn = tf.random.uniform([4])
    tf.random.set_seed(1)
    np.testing.assert_array_equal(tf.random.uniform([4]), drawn)
    np.testing.assert_array_equal(augment(FACES, TARGETS, draws())[0], first)
