"""Meaning and strict parsing of policies."""

import numpy as np
import pytest
import tensorflow as tf

from fer.augment import geometric, grammar, ops, policy, registry
from fer.errors import UserError
from fer.rng import BatchRng

POLICY = "flip|affine(rotate=15,scale=0.1,shift=0.08,shear=0.1)"
FACES = np.random.default_rng(0).integers(0, 256, (16, 48, 48, 1), dtype=np.uint8)
TARGETS = tf.one_hot(np.arange(16) % 7, 7)


def make_rng(seed=(0, 0), positions=range(16), global_batch=16) -> BatchRng:
    return BatchRng(tf.convert_to_tensor(seed), tf.constant(list(positions), tf.int32), global_batch)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("flop", "no operation 'flop'; the nearest is flip"),
        ("flip|affin(rotate=1)", "no operation 'affin'; the nearest is affine"),
        ("affine(rotat=15)", "affine has no argument 'rotat'; the nearest is rotate"),
        ("affine(rotate=fast)", "affine's rotate is fast; it must be 0 to 180"),
        ("affine(rotate=-3)", "affine's rotate is -3"),
        ("flip(p=True)", "flip's p is True"),
        ("affine(15, rotate=3)", "affine has the argument rotate twice"),
        ("flip(0.5, 1)", "flip takes p, not 2 values"),
        ("randaugment(preset=face)", "randaugment's preset is face; the nearest is faces"),
        ("mixup(0)", "mixup's alpha is 0; it must be 0.05 to 100"),
        ("choose(mixup)", "choose(...) takes two or more of mixup, cutmix"),
        ("choose(mixup,flip)", "choose(...) takes two or more of mixup, cutmix"),
        ("flip|", "is not of the form"),
        ("flip()()", "is not of the form"),
        ("__import__('os')", "no operation '__import__'"),
        ("flip.p", "is not of the form"),
        ("affine(**{})", "no argument None"),
        ("affine(rotate={[1]: 2})", "affine's rotate is {[1]: 2}; it must be 0 to 180"),
        ("crop(40.5)", "crop's to is 40.5; it must be a whole number"),
        ("crop(1e999)", "crop's to is 1e309; it must be a whole number"),
        ("erase(low=0.5)", "erase's low, 0.5, is above its high, 0.33"),
        ("erase(low=0.9,high=0.1)", "erase's low, 0.9, is above its high, 0.1"),
        ("randaugment(layers=2.9)", "randaugment's layers is 2.9; it must be a whole number"),
        ("crop(30)|erase|crop(40)", "crop(40) is larger than the image after crop(30)"),
        ("flip(p='\\d')", "flip's p is '\\\\d'; it must be 0 to 1"),
        ("flip(p=" + "-" * 1900 + "1)", "1)' is nested too deep."),
        ("flip(p=" + "(" * 900 + "1" + ")" * 900 + ")", "is not of the form name("),
        ("crop(30)|crop", "crop(40) is larger than the image after crop(30)"),
    ],
)
def test_augmenter_error_names_the_fault_of_a_policy(text, message):
    with pytest.raises(UserError) as caught:
        policy.augmenter(text)
    assert message in str(caught.value)
    assert repr(text) in str(caught.value) or len(text) > 1000


def test_parse_rejects_a_policy_that_is_too_long():
    with pytest.raises(UserError, match=r"^The policy 'flip\|flip.* has 49,999 characters; 2,000 are allowed"):
        grammar.parse("flip|" * 9999 + "flip")
    assert len(grammar.parse("flip|" * 399 + "flip")) == 400


def test_parse_keeps_order_and_arguments():
    assert policy.parse("flip | affine(rotate=15, shift=.08)") == [
        policy.Operation("flip", {}),
        policy.Operation("affine", {"rotate": 15.0, "shift": 0.08}),
    ]


def test_parse_accepts_words_in_quotes():
    assert policy.parse("randaugment(preset='faces')") == policy.parse("randaugment(preset=faces)")


DIM = (120 + FACES // 5).astype(np.uint8)  # few grey levels, so that autocontrast changes them


@pytest.mark.parametrize(
    "policy_text",
    [
        "autocontrast(p=1.0)|affine(rotate=15,shift=0.1)",
        "randaugment|affine(rotate=15)",
        "blur(p=1.0)|affine(rotate=15)|equalize(p=1.0)|sharpen",
        "crop(40)|equalize(p=1.0)|crop(32)|flip",
        "blur(p=1.0)|flip|sharpen(1.0)",
    ],
)
def test_policy_applies_ops_in_their_order(policy_text):
    rng = make_rng(seed=(2, 3))
    images, _ = policy.augmenter(policy_text)(DIM, TARGETS, rng)
    in_turn = tf.constant(DIM)
    for salt, each in enumerate(policy.parse(policy_text)):
        change = registry.OPS[each.name].function(rng.fold_in(salt), in_turn.shape[1], **each.arguments)
        in_turn = ops.apply(in_turn, [change])
    np.testing.assert_array_equal(images, in_turn)


@pytest.mark.parametrize("policy_text", ["crop(44)|crop(40)", "crop(44)|erase(p=0.0)|crop(40)"])
def test_crop_after_crop_stays_within_the_image(policy_text):
    white = np.full_like(FACES, 255)
    for step in range(8):
        images, _ = policy.augmenter(policy_text)(white, TARGETS, make_rng(seed=(0, step)))
        assert images.shape == (16, 40, 40, 1)
        assert images.numpy().min() == 255


def test_policy_none_changes_nothing():
    images, targets = policy.augmenter("none")(FACES, TARGETS, make_rng())
    np.testing.assert_array_equal(images, FACES)
    np.testing.assert_array_equal(targets, TARGETS)


def test_policy_multiplies_the_matrices_of_its_ops():
    rng = make_rng(seed=(3, 5))
    mirror = ops.flip(rng.fold_in(0), 48).matrices
    shift = ops.affine(rng.fold_in(1), 48, 15.0, 0.1, 0.08, 0.1).matrices
    images, targets = policy.augmenter(POLICY)(FACES, TARGETS, rng)
    np.testing.assert_array_equal(images, geometric.warp(FACES, mirror, shift))
    np.testing.assert_array_equal(targets, TARGETS)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "tf.function"])
def test_seed_determines_the_augmented_bytes(compiled):
    augment = policy.augmenter(POLICY)
    function = (
        tf.function(lambda seed: augment(FACES, TARGETS, make_rng(seed))[0], autograph=False) if compiled else None
    )
    run = function or (lambda seed: augment(FACES, TARGETS, make_rng(seed))[0])
    expected = augment(FACES, TARGETS, make_rng((7, 1)))[0]
    np.testing.assert_array_equal(run(tf.constant([7, 1])), expected)
    assert (run(tf.constant([7, 2])).numpy() != expected.numpy()).any()


def test_policy_changes_examples_alike_on_one_and_two_replicas():
    augment = policy.augmenter(POLICY)
    whole, _ = augment(FACES, TARGETS, make_rng())
    parts = (slice(8), slice(8, 16))
    halves = [augment(FACES[part], TARGETS[part], make_rng(positions=range(16)[part]))[0] for part in parts]
    np.testing.assert_array_equal(whole, tf.concat(halves, 0))


def test_policy_ignores_other_images_of_the_batch():
    augment = policy.augmenter(POLICY)
    others = FACES.copy()
    others[1:] = 255 - others[1:]
    np.testing.assert_array_equal(augment(FACES, TARGETS, make_rng())[0][0], augment(others, TARGETS, make_rng())[0][0])


def test_policy_neither_reads_nor_writes_the_global_random_state():
    augment = policy.augmenter(POLICY)
    tf.random.set_seed(1)
    first = augment(FACES, TARGETS, make_rng())[0]
    drawn = tf.random.uniform([4])
    tf.random.set_seed(1)
    np.testing.assert_array_equal(tf.random.uniform([4]), drawn)
    np.testing.assert_array_equal(augment(FACES, TARGETS, make_rng())[0], first)
