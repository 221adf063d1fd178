"""RandAugment: the distribution of ops, and the change of each image by the op that it drew."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from fer.augment import augmix, ops, policy, randaugment, xla_support
from fer.rng import BatchRng

MANY = 13_000
# Smooth image, so that resamplers differ little, with levels over the whole range.
ROWS, COLUMNS = np.mgrid[:48, :48]
FACE = (127 + 90 * np.sin(ROWS / 7) * np.cos(COLUMNS / 9) + 30 * (COLUMNS - 24) / 24).astype(np.uint8)


def make_rng(count: int, seed: int = 0) -> BatchRng:
    return BatchRng(tf.constant([seed, 0]), tf.range(count), count)


@pytest.mark.parametrize("space", [*randaugment.PRESETS.values(), augmix.CHAIN], ids=[*randaugment.PRESETS, "augmix"])
def test_draw_layer_draws_ops_equally_often(space):
    """Chi-square test at the 99.9th percentile."""
    layer = randaugment.draw_layer(make_rng(MANY), space, 9.0)
    counts = np.array([layer.drawn[name].numpy().sum() for name in space.operations])
    assert counts.sum() == MANY
    expected = MANY / len(counts)
    percentile = {13: 32.9, 11: 29.6, 9: 26.1}[len(counts)]
    assert ((counts - expected) ** 2 / expected).sum() < percentile


def test_draw_layer_draws_both_directions_equally_often():
    strength = randaugment.draw_layer(make_rng(MANY), randaugment.PAPER, 9.0).strength.numpy()
    assert set(np.unique(np.abs(strength))) == {np.float32(0.9)}
    assert abs((strength > 0).mean() - 0.5) < 5 * np.sqrt(0.25 / MANY)


def test_randaugment_changes_nothing_when_magnitude_is_0():
    faces = np.broadcast_to(FACE[None, ..., None], (64, 48, 48, 1))
    names = [name for name in randaugment.PAPER.operations if name not in ("autocontrast", "equalize")]
    layer = randaugment.draw_layer(make_rng(64), randaugment.PAPER, 0.0)
    changed = ops.apply(faces, [ops.apply_randaugment(make_rng(64), 48, layers=1, magnitude=0.0)])
    for name in names:
        chosen = randaugment.draw_layer(make_rng(64).fold_in(0), randaugment.PAPER, 0.0).drawn[name].numpy()
        np.testing.assert_array_equal(changed.numpy()[chosen], faces[chosen])
    assert float(tf.reduce_max(tf.abs(layer.strength))) == 0


def pillow(name: str, strength: float) -> np.ndarray:
    """Returns FACE changed by an op of the paper's set, by Pillow."""
    image = Image.fromarray(FACE)
    factor, strong = 1 + 0.9 * strength, abs(strength)
    affine = {
        "shear_x": (1, -0.3 * strength, 0.3 * strength * 24, 0, 1, 0),
        "shear_y": (1, 0, 0, -0.3 * strength, 1, 0.3 * strength * 24),
        "translate_x": (1, 0, -0.45 * 48 * strength, 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, -0.45 * 48 * strength),
    }
    results = {
        "identity": lambda: image,
        "autocontrast": lambda: ImageOps.autocontrast(image),
        "equalize": lambda: ImageOps.equalize(image),
        "rotate": lambda: image.rotate(30 * strength, Image.Resampling.BILINEAR),
        "solarize": lambda: ImageOps.solarize(image, round(256 * (1 - strong))),
        "posterize": lambda: ImageOps.posterize(image, 8 - round(4 * strong)),
        "contrast": lambda: ImageEnhance.Contrast(image).enhance(factor),
        "brightness": lambda: ImageEnhance.Brightness(image).enhance(factor),
        "sharpness": lambda: ImageEnhance.Sharpness(image).enhance(factor),
    }
    if name in affine:
        return np.asarray(image.transform((48, 48), Image.Transform.AFFINE, affine[name], Image.Resampling.BILINEAR))
    return np.asarray(results[name]())


COUNT = 260


@pytest.fixture(scope="module")
def layer() -> randaugment.Layer:
    """Layer that is drawn outside of the compiled function: XLA would draw other numbers."""
    return randaugment.draw_layer(make_rng(COUNT, seed=4), randaugment.PAPER, 6.0)


@pytest.fixture(scope="module")
def changed(layer) -> dict[str, np.ndarray]:
    """FACE changed by the op of each image: eagerly, in a graph, and compiled by XLA."""
    faces = tf.tile(FACE[None, ..., None], [COUNT, 1, 1, 1])

    def change(xla: bool) -> tf.Tensor:
        op = ops.compose([layer], randaugment.PAPER, 48)
        sharp = randaugment.sharpness(layer, randaugment.PAPER)
        with xla_support.under_xla(xla):
            return ops.apply(faces, [op._replace(sharpness=sharp)])[..., 0]

    return {
        "eager": change(xla=False).numpy(),
        "tf.function": tf.function(lambda: change(xla=False), autograph=False)().numpy(),
        "jit_compile": tf.function(lambda: change(xla=True), jit_compile=True, autograph=False)().numpy(),
    }


@pytest.mark.parametrize("mode", ["eager", "tf.function", "jit_compile"])
@pytest.mark.parametrize("name", randaugment.PAPER.operations)
def test_compose_changes_images_as_pillow_does(name, mode, layer, changed):
    chosen = np.flatnonzero(layer.drawn[name])
    assert len(chosen) >= 5
    inside = np.s_[:]
    if name in ("rotate", "shear_x", "shear_y", "translate_x", "translate_y"):
        inside = np.s_[18:30, 18:30]  # the resamplers treat the outside differently
    for index in chosen[:5]:
        expected = pillow(name, float(layer.strength[index])).astype(int)
        assert np.abs(changed[mode][index].astype(int) - expected)[inside].max() <= 1


def test_apply_randaugment_applies_the_drawn_layer():
    """The policy draws the layer that the tests above compare with Pillow."""
    rng, faces = make_rng(COUNT, seed=4), np.broadcast_to(FACE[None, ..., None], (COUNT, 48, 48, 1))
    alone = randaugment.draw_layer(rng.fold_in(0), randaugment.PAPER, 6.0)
    expected = ops.compose([alone], randaugment.PAPER, 48)
    expected = expected._replace(sharpness=randaugment.sharpness(alone, randaugment.PAPER))
    drawn = ops.apply_randaugment(rng, 48, layers=1, magnitude=6.0)
    np.testing.assert_array_equal(ops.apply(faces, [drawn]), ops.apply(faces, [expected]))


def test_apply_randaugment_applies_both_layers():
    faces = np.broadcast_to(FACE[None, ..., None], (512, 48, 48, 1))
    rng = make_rng(512, seed=1)
    first, second = (randaugment.draw_layer(rng.fold_in(layer), randaugment.PAPER, 9.0) for layer in (0, 1))
    both = np.flatnonzero(first.drawn["brightness"].numpy() & second.drawn["posterize"].numpy())
    assert len(both)
    changed = ops.apply(faces, [ops.apply_randaugment(rng, 48)]).numpy()[..., 0]
    for index in both:
        bright = ImageEnhance.Brightness(Image.fromarray(FACE)).enhance(1 + 0.9 * float(first.strength[index]))
        ours, theirs = changed[index].astype(int), np.asarray(bright).astype(int)
        step = 2 ** round(4 * 0.9)
        assert (ours % step == 0).all()
        assert np.abs(ours - theirs).max() <= step


def test_policy_gives_the_eager_bytes_in_a_graph():
    text = "flip|randaugment(2,9)|gamma|blur|erase(0.5)|choose(mixup(0.2),cutmix(1.0))"
    faces = np.random.default_rng(0).integers(0, 256, (32, 48, 48, 1), dtype=np.uint8)
    targets = tf.one_hot(np.arange(32) % 7, 7)
    augment = policy.augmenter(text)
    expected, expected_targets = augment(faces, targets, make_rng(32))
    function = tf.function(lambda seed: augment(faces, targets, BatchRng(seed, tf.range(32), 32)), autograph=False)
    images, mixed = function(tf.constant([0, 0]))
    np.testing.assert_array_equal(images, expected)
    np.testing.assert_allclose(mixed, expected_targets, atol=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        "gamma|erase(0.5)",
        pytest.param("flip|randaugment(2,9)|gamma|blur|erase(0.5)", marks=pytest.mark.extended),
    ],
)
def test_policy_gives_the_same_bytes_each_time_when_compiled_by_xla(text):
    """The eager bytes differ, as XLA draws other numbers. Mixing is left out: XLA has no stateless_gamma."""
    faces = np.random.default_rng(0).integers(0, 256, (32, 48, 48, 1), dtype=np.uint8)
    augment = policy.augmenter(text, xla=True)

    def changed(seed: tf.Tensor) -> tf.Tensor:
        return augment(faces, tf.zeros([32, 7]), BatchRng(seed, tf.range(32), 32))[0]

    function = tf.function(changed, jit_compile=True, autograph=False)
    images = function(tf.constant([0, 0])).numpy()
    np.testing.assert_array_equal(function(tf.constant([0, 0])), images)
    assert (images != faces).any(axis=(1, 2, 3)).mean() > 0.9
    assert (function(tf.constant([0, 1])).numpy() != images).any()


def test_apply_randaugment_ignores_other_images_of_the_batch():
    faces = np.random.default_rng(0).integers(0, 256, (32, 48, 48, 1), dtype=np.uint8)
    others = np.concatenate([faces[:1], 255 - faces[1:]])
    for seed in range(4):
        change = [ops.apply_randaugment(make_rng(32, seed), 48)]
        np.testing.assert_array_equal(ops.apply(faces, change)[0], ops.apply(others, change)[0])


def test_apply_randaugment_changes_examples_alike_on_one_and_two_replicas():
    faces = np.random.default_rng(0).integers(0, 256, (32, 48, 48, 1), dtype=np.uint8)
    whole = ops.apply(faces, [ops.apply_randaugment(make_rng(32), 48)])
    for part in (slice(16), slice(16, 32)):
        rng = make_rng(32)._replace(positions=tf.range(32)[part])
        np.testing.assert_array_equal(ops.apply(faces[part], [ops.apply_randaugment(rng, 48)]), whole[part])
