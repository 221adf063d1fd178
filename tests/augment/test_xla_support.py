"""All ways to execute a pixel op give the same bytes."""

import numpy as np
import pytest
import tensorflow as tf

from fer.augment import xla_support

IMAGES = tf.constant(np.random.default_rng(0).integers(0, 256, (12, 5, 5, 1), dtype=np.uint8))
OTHERWISE = IMAGES - 1


@pytest.mark.parametrize("xla", [False, True], ids=["chosen images", "all images"])
@pytest.mark.parametrize("share", ["none", "some", "all"])
def test_apply_where_changes_only_the_chosen_images(share, xla):
    chosen = {"none": np.zeros(12, bool), "some": np.arange(12) % 3 == 1, "all": np.ones(12, bool)}[share]
    numbers = tf.cast(tf.range(12), tf.uint8)

    def brighter(images, by):
        return images + by[:, tf.newaxis, tf.newaxis, tf.newaxis]

    with xla_support.under_xla(xla):
        changed = xla_support.apply_where(tf.constant(chosen), OTHERWISE, brighter, IMAGES, numbers)
    expected = np.where(chosen[:, None, None, None], brighter(IMAGES, numbers), OTHERWISE)
    np.testing.assert_array_equal(changed, expected)


@pytest.mark.skipif(not xla_support.on_cpu(), reason="on a GPU all images are computed")
def test_apply_where_computes_only_the_chosen_images():
    counts = []

    def count_images(images):
        counts.append(len(images))
        return images

    xla_support.apply_where(tf.range(12) < 3, OTHERWISE, count_images, IMAGES)
    assert counts == [3]


def test_xla_on_cpu_gives_the_uncompiled_bytes():
    def change(images, factor):
        return tf.cast(tf.round(tf.cast(images, tf.float32) * factor), tf.uint8)

    np.testing.assert_array_equal(
        xla_support.xla_compiled(change)(IMAGES, tf.constant(0.3)), change(IMAGES, tf.constant(0.3))
    )
