"""Tests of fer/augment/stateless.py."""

import numpy as np
import pytest
import tensorflow as tf

import fer
from fer.augment import policy
from fer.rng import BatchRng
from tests.synthetic_faces import FACES

POLICY = "flip|randaugment(2,9)|erase|mixup(0.2)"
ONE_HOT = np.eye(7, dtype=np.float32)[[0, 1, 2, 3, 4]]


def test_augmenter_is_the_policy_as_a_function_of_the_seed():
    rng = BatchRng(tf.constant([3, 4]), tf.range(5), 5)
    expected = policy.augmenter(POLICY)(tf.constant(FACES), tf.constant(ONE_HOT), rng)
    augment = fer.augmenter(POLICY)
    for seed in ([3, 4], np.array([3, 4]), tf.constant([3, 4])):
        for found, wanted in zip(augment(FACES, ONE_HOT, seed), expected):
            np.testing.assert_array_equal(found, wanted)
    for found, wanted in zip(augment(FACES, ONE_HOT, 9), augment(FACES, ONE_HOT, [0, 9])):
        np.testing.assert_array_equal(found, wanted)


def test_augmenter_without_seed_draws_others_at_each_call_as_tf_random_set_seed_fixes():
    augment = fer.augmenter("erase(p=1)")
    tf.random.set_seed(5)
    first, second = (augment(FACES, [0] * 5)[0].numpy() for _ in range(2))
    assert not np.array_equal(first, second)
    tf.random.set_seed(5)
    np.testing.assert_array_equal(augment(FACES, [0] * 5)[0], first)


def test_augmenter_maps_a_dataset_with_any_batch_size():
    augment = fer.augmenter(POLICY)
    batches = tf.data.Dataset.from_tensor_slices((FACES, ONE_HOT)).batch(3).enumerate()
    mapped = batches.map(lambda step, batch: augment(*batch, step))
    found = list(mapped)
    assert [len(images) for images, _ in found] == [3, 2]
    for step, (images, labels) in enumerate(found):
        part = slice(3 * step, 3 * step + 3)
        expected = augment(FACES[part], ONE_HOT[part], step)
        np.testing.assert_array_equal(images, expected[0])
        np.testing.assert_allclose(labels, expected[1], atol=1e-6)


def test_augmenter_works_inside_a_keras_model():
    augment = fer.augmenter("flip|mixup(0.2)")

    class Augmented(tf.keras.Model):
        def train_step(self, data):
            return super().train_step(augment(*data))

    inputs = tf.keras.Input([48, 48, 1], dtype="uint8")
    flat = tf.keras.layers.Flatten()(tf.keras.layers.Rescaling(1 / 255)(inputs))
    model = Augmented(inputs, tf.keras.layers.Dense(7)(flat))
    model.compile("sgd", tf.keras.losses.CategoricalCrossentropy(from_logits=True))
    losses = model.fit(FACES, ONE_HOT, batch_size=5, epochs=2, verbose=0).history["loss"]
    assert np.isfinite(losses).all()


def test_augmenter_returns_labels_of_any_kind_unchanged_without_mixing():
    augment = fer.augmenter("flip")
    for labels in (np.arange(5), np.array(list("abcde"))):
        assert augment(FACES, labels, 0)[1].numpy().tolist() == tf.constant(labels).numpy().tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((FACES.astype(np.float32), ONE_HOT), r"images are float32 \[5, 48, 48, 1\]; a policy augments square"),
        ((FACES[..., 0], ONE_HOT), r"images are uint8 \[5, 48, 48\]"),
        ((FACES[:, :24], ONE_HOT), r"images are uint8 \[5, 24, 48, 1\]; a policy augments square ones"),
        ((FACES[:4], ONE_HOT), r"labels are float32 \[5, 7\], but images are uint8 \[4, 48, 48, 1\]"),
        ((FACES, ONE_HOT, 2**70), r"seed is 1180591620717411303424; it must fit in 64 bits"),
        ((FACES, np.arange(5)), r"labels are int64 \[5\]; the policy 'mixup' mixes them, .* batches\(\.\.\., one_hot"),
        ((FACES, ONE_HOT, 0.5), r"seed is float32 \[\]; it must be an integer or a pair of integers"),
        ((FACES, ONE_HOT, [1, 2, 3]), r"seed is int32 \[3\]"),
    ],
)
def test_augmenter_error_names_dtype_and_shape(arguments, message):
    with pytest.raises(fer.UserError, match=message):
        fer.augmenter("mixup")(*arguments)


def test_augmenter_error_names_images_of_unknown_size():
    with pytest.raises(fer.UserError, match=r"images are uint8 \[None, None, None, 1\]; a policy augments square"):
        tf.function(fer.augmenter("flip")).get_concrete_function(
            tf.TensorSpec([None, None, None, 1], tf.uint8), tf.TensorSpec([None], tf.int64)
        )


def test_augmenter_error_names_crop_larger_than_the_images():
    with pytest.raises(fer.UserError, match=r"crop\(40\) is larger than the images, which have 32 pixels a side"):
        fer.augmenter("crop(40)")(FACES[:, :32, :32], ONE_HOT)


def test_augmenter_of_a_long_seed_depends_on_its_upper_bits():
    augment = fer.augmenter("erase(p=1)")
    one, long, negative = (augment(FACES, [0] * 5, seed)[0].numpy() for seed in (1, 2**32 + 1, -1))
    assert not np.array_equal(one, long)
    np.testing.assert_array_equal(negative, augment(FACES, [0] * 5, [0, -1])[0])


def test_augmenter_error_names_the_fault_of_a_policy():
    with pytest.raises(fer.UserError, match="no operation 'flipp'; the nearest is flip"):
        fer.augmenter("flipp")
