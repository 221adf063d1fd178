"""Tone operations against Pillow, image by image, and their composition into one table."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from fer.augment import tone

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


def each(value: float) -> tf.Tensor:
    return tf.fill([COUNT], float(value))


def drawn(change) -> tf.Tensor:
    """The faces through the tables that `change` makes of (identity, histogram)."""
    counts = tone.histogram(FACES)
    return tf.cast(tone.apply(FACES, change(tone.identity(COUNT), counts))[..., 0], tf.int32)


def curved(change) -> tf.Tensor:
    """The faces through the curve that `change` makes of (nothing changed, facts)."""
    return drawn(lambda tables, counts: tone.follow(tables, change(tone.unchanged(COUNT), tone.facts(tables, counts))))


def pillow(change) -> np.ndarray:
    return np.stack([np.asarray(change(Image.fromarray(face[..., 0]))) for face in FACES]).astype(int)


OPERATIONS = {
    "brightness up": (
        lambda: curved(lambda curve, _: tone.brightness(curve, each(1.7))),
        lambda image: ImageEnhance.Brightness(image).enhance(1.7),
    ),
    "brightness down": (
        lambda: curved(lambda curve, _: tone.brightness(curve, each(0.3))),
        lambda image: ImageEnhance.Brightness(image).enhance(0.3),
    ),
    "contrast up": (
        lambda: curved(lambda curve, seen: tone.contrast(curve, each(1.8), seen)),
        lambda image: ImageEnhance.Contrast(image).enhance(1.8),
    ),
    "contrast down": (
        lambda: curved(lambda curve, seen: tone.contrast(curve, each(0.4), seen)),
        lambda image: ImageEnhance.Contrast(image).enhance(0.4),
    ),
    "solarize": (
        lambda: curved(lambda curve, _: tone.solarize(curve, each(100))),
        lambda image: ImageOps.solarize(image, 100),
    ),
    "posterize": (
        lambda: curved(lambda curve, _: tone.posterize(curve, each(3))),
        lambda image: ImageOps.posterize(image, 3),
    ),
    "invert": (lambda: curved(lambda curve, _: tone.invert(curve)), ImageOps.invert),
    "autocontrast": (lambda: curved(tone.autocontrast), ImageOps.autocontrast),
    "equalize": (lambda: drawn(tone.equalize), ImageOps.equalize),
    "gamma": (
        lambda: drawn(lambda tables, _: tone.gamma(tables, each(0.6))),
        lambda image: image.point(lambda level: 255 * (level / 255) ** 0.6),
    ),
}


@pytest.fixture(scope="module")
def compiled() -> dict[str, dict[str, tf.Tensor]]:
    """Every operation in one graph, as it stands and compiled by XLA."""

    def changed():
        return {name: ours() for name, (ours, _) in OPERATIONS.items()}

    return {
        "tf.function": tf.function(changed, autograph=False)(),
        "jit_compile": tf.function(changed, jit_compile=True, autograph=False)(),
    }


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("mode", ["eager", "tf.function", "jit_compile"])
def test_an_operation_agrees_with_pillow_within_one_grey_level(name, mode, compiled):
    ours, theirs = OPERATIONS[name]
    changed = ours() if mode == "eager" else compiled[mode][name]
    assert np.abs(changed - pillow(theirs)).max() <= 1


def test_the_histogram_is_numpys():
    expected = [np.bincount(face.ravel(), minlength=256) for face in FACES]
    np.testing.assert_array_equal(tone.histogram(FACES), expected)


def test_counting_for_gpus_gives_the_same_numbers(monkeypatch):
    levels = tf.cast(tf.reshape(FACES, [len(FACES), -1]), tf.int32)
    np.testing.assert_array_equal(tone.counted_by_sorting(levels), tone.histogram(FACES))
    weights = tf.cast(levels % 7, tf.float32)
    expected = [np.bincount(row, share, 256) for row, share in zip(levels.numpy(), weights.numpy())]
    np.testing.assert_array_equal(tone.summed_by_comparing(levels, weights), expected)
    here = tone.equalize(tone.identity(len(FACES)), tone.histogram(FACES))
    monkeypatch.setattr(tone.device, "on_cpu", lambda: False)
    monkeypatch.setattr(tone.tf.raw_ops, "DenseBincount", None)  # refused there
    np.testing.assert_array_equal(tone.equalize(tone.identity(len(FACES)), tone.histogram(FACES)), here)


def test_one_table_of_three_operations_is_the_three_in_turn():
    def all_at_once(tables, counts):
        tables = tone.follow(tables, tone.solarize(tone.unchanged(COUNT), each(128)))
        tables = tone.equalize(tables, counts)
        return tone.follow(tables, tone.autocontrast(tone.unchanged(COUNT), tone.facts(tables, counts)))

    def in_turn(image):
        return ImageOps.autocontrast(ImageOps.equalize(ImageOps.solarize(image, 128)))

    assert np.abs(drawn(all_at_once) - pillow(in_turn)).max() <= 1


def test_images_with_different_curves_are_one_computation():
    one, other = tone.invert(tone.unchanged(COUNT)), tone.brightness(tone.unchanged(COUNT), each(0.5))
    chosen = np.arange(COUNT) % 2 == 0
    mixed = curved(lambda *_: tone.where(chosen, one, other))
    expected = np.where(chosen[:, None, None], curved(lambda *_: one), curved(lambda *_: other))
    np.testing.assert_array_equal(mixed, expected)
