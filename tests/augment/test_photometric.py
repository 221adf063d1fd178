"""Photometric ops against Pillow, image by image, and their composition into one table."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from fer.augment import photometric, xla_support

RANDOM = np.random.default_rng(0)
# Bright, dark, full range, two levels, one level, few bright pixels on black.
FACES = np.stack(
    [
        RANDOM.integers(120, 250, (48, 48)),
        RANDOM.integers(5, 90, (48, 48)),
        RANDOM.integers(0, 256, (48, 48)),
        RANDOM.choice([40, 200], (48, 48)),
        np.full((48, 48), 77),
        (RANDOM.random((48, 48)) < 0.01) * 255,
    ]
).astype(np.uint8)[..., np.newaxis]
COUNT = len(FACES)


def for_each_face(value: float) -> tf.Tensor:
    return tf.fill([COUNT], float(value))


def apply_tables(change) -> tf.Tensor:
    """Returns FACES after the tables that `change` computes from (identity, histogram)."""
    counts = photometric.histogram(FACES)
    return tf.cast(photometric.apply(FACES, change(photometric.identity(COUNT), counts))[..., 0], tf.int32)


def apply_curve(change) -> tf.Tensor:
    """Returns FACES after the curve that `change` computes from (identity curve, statistics)."""
    return apply_tables(
        lambda tables, counts: photometric.apply_curve(
            tables, change(photometric.identity_curve(COUNT), photometric.image_stats(tables, counts))
        )
    )


def pillow(change) -> np.ndarray:
    return np.stack([np.asarray(change(Image.fromarray(face[..., 0]))) for face in FACES]).astype(int)


OPERATIONS = {
    "brightness up": (
        lambda: apply_curve(lambda curve, _: photometric.brightness(curve, for_each_face(1.7))),
        lambda image: ImageEnhance.Brightness(image).enhance(1.7),
    ),
    "brightness down": (
        lambda: apply_curve(lambda curve, _: photometric.brightness(curve, for_each_face(0.3))),
        lambda image: ImageEnhance.Brightness(image).enhance(0.3),
    ),
    "contrast up": (
        lambda: apply_curve(lambda curve, stats: photometric.contrast(curve, for_each_face(1.8), stats)),
        lambda image: ImageEnhance.Contrast(image).enhance(1.8),
    ),
    "contrast down": (
        lambda: apply_curve(lambda curve, stats: photometric.contrast(curve, for_each_face(0.4), stats)),
        lambda image: ImageEnhance.Contrast(image).enhance(0.4),
    ),
    "solarize": (
        lambda: apply_curve(lambda curve, _: photometric.solarize(curve, for_each_face(100))),
        lambda image: ImageOps.solarize(image, 100),
    ),
    "posterize": (
        lambda: apply_curve(lambda curve, _: photometric.posterize(curve, for_each_face(3))),
        lambda image: ImageOps.posterize(image, 3),
    ),
    "invert": (lambda: apply_curve(lambda curve, _: photometric.invert(curve)), ImageOps.invert),
    "autocontrast": (lambda: apply_curve(photometric.autocontrast), ImageOps.autocontrast),
    "equalize": (lambda: apply_tables(photometric.equalize), ImageOps.equalize),
    "gamma": (
        lambda: apply_tables(lambda tables, _: photometric.gamma(tables, for_each_face(0.6))),
        lambda image: image.point(lambda level: 255 * (level / 255) ** 0.6),
    ),
}


@pytest.fixture(scope="module")
def compiled() -> dict[str, dict[str, tf.Tensor]]:
    """Results of all ops in one graph, uncompiled and compiled by XLA."""

    def changed():
        return {name: ours() for name, (ours, _) in OPERATIONS.items()}

    return {
        "tf.function": tf.function(changed, autograph=False)(),
        "jit_compile": tf.function(changed, jit_compile=True, autograph=False)(),
    }


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("mode", ["eager", "tf.function", "jit_compile"])
def test_photometric_op_agrees_with_pillow_within_one_grey_level(name, mode, compiled):
    ours, theirs = OPERATIONS[name]
    changed = ours() if mode == "eager" else compiled[mode][name]
    assert np.abs(changed - pillow(theirs)).max() <= 1


def test_histogram_equals_numpys_bincount():
    expected = [np.bincount(face.ravel(), minlength=256) for face in FACES]
    np.testing.assert_array_equal(photometric.histogram(FACES), expected)


def test_histogram_and_equalize_give_the_same_levels_under_xla(monkeypatch):
    expected = photometric.histogram(FACES)
    by_equalize = photometric.equalize(photometric.identity(COUNT), expected)
    inverted = photometric.equalize(255 - photometric.identity(COUNT), expected)
    monkeypatch.setattr(photometric.tf.raw_ops, "DenseBincount", None)  # raises under deterministic ops on a GPU
    with xla_support.under_xla(True):
        np.testing.assert_array_equal(photometric.histogram(FACES), expected)
        np.testing.assert_array_equal(photometric.equalize(photometric.identity(COUNT), expected), by_equalize)
        np.testing.assert_array_equal(photometric.equalize(255 - photometric.identity(COUNT), expected), inverted)


def test_table_of_three_ops_equals_the_three_in_turn():
    def all_at_once(tables, counts):
        tables = photometric.apply_curve(
            tables, photometric.solarize(photometric.identity_curve(COUNT), for_each_face(128))
        )
        tables = photometric.equalize(tables, counts)
        return photometric.apply_curve(
            tables, photometric.autocontrast(photometric.identity_curve(COUNT), photometric.image_stats(tables, counts))
        )

    def in_turn(image):
        return ImageOps.autocontrast(ImageOps.equalize(ImageOps.solarize(image, 128)))

    assert np.abs(apply_tables(all_at_once) - pillow(in_turn)).max() <= 1


def test_photometric_where_selects_a_curve_for_each_image():
    one, other = (
        photometric.invert(photometric.identity_curve(COUNT)),
        photometric.brightness(photometric.identity_curve(COUNT), for_each_face(0.5)),
    )
    chosen = np.arange(COUNT) % 2 == 0
    mixed = apply_curve(lambda *_: photometric.where(chosen, one, other))
    expected = np.where(chosen[:, None, None], apply_curve(lambda *_: one), apply_curve(lambda *_: other))
    np.testing.assert_array_equal(mixed, expected)


NOISE = np.random.default_rng(0).integers(0, 256, (4, 48, 48, 1), dtype=np.uint8)


def adjust_sharpness(*factors: float) -> np.ndarray:
    return photometric.adjust_sharpness(NOISE, tf.constant(factors, tf.float32)).numpy()[..., 0].astype(int)


@pytest.mark.parametrize("factor", [0.1, 0.5, 1.0, 1.9])
def test_adjust_sharpness_agrees_with_pillow_within_one_grey_level(factor):
    theirs = [ImageEnhance.Sharpness(Image.fromarray(face[..., 0])).enhance(factor) for face in NOISE]
    assert np.abs(adjust_sharpness(*[factor] * 4) - np.stack(theirs).astype(int)).max() <= 1


def test_adjust_sharpness_equals_pillows_smooth_when_factor_is_0():
    theirs = [Image.fromarray(face[..., 0]).filter(ImageFilter.SMOOTH) for face in NOISE]
    assert np.abs(adjust_sharpness(0, 0, 0, 0) - np.stack(theirs).astype(int)).max() <= 1


def test_adjust_sharpness_applies_each_images_own_factor():
    mixed = adjust_sharpness(1.0, 0.0, 1.0, 1.9)
    np.testing.assert_array_equal(mixed[[0, 2]], NOISE[[0, 2], ..., 0])
    np.testing.assert_array_equal(mixed[1], adjust_sharpness(0, 0, 0, 0)[1])
    np.testing.assert_array_equal(mixed[3], adjust_sharpness(1.9, 1.9, 1.9, 1.9)[3])
