"""RandAugment: who gets which operation, and that each image is changed as by that operation alone."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from fer.augment import augmix, ops, policy, randaugment
from fer.rng import BatchRng

MANY = 13_000
# Smooth images, so that resamplers differ by little, with levels all over the range.
ROWS, COLUMNS = np.mgrid[:48, :48]
FACE = (127 + 90 * np.sin(ROWS / 7) * np.cos(COLUMNS / 9) + 30 * (COLUMNS - 24) / 24).astype(np.uint8)


def draws(count: int, seed: int = 0) -> BatchRng:
    return BatchRng(tf.constant([seed, 0]), tf.range(count), count)


@pytest.mark.parametrize("reach", [*randaugment.SETS.values(), augmix.CHAIN], ids=[*randaugment.SETS, "augmix"])
def test_operations_come_equally_often(reach):
    """Chi-square, at the 99.9th percentile."""
    layer = randaugment.draw(draws(MANY), reach, 9.0)
    counts = np.array([layer.name[name].numpy().sum() for name in reach.operations])
    assert counts.sum() == MANY
    expected = MANY / len(counts)
    percentile = {13: 32.9, 11: 29.6, 9: 26.1}[len(counts)]
    assert ((counts - expected) ** 2 / expected).sum() < percentile


def test_both_directions_come_equally_often():
    strength = randaugment.draw(draws(MANY), randaugment.PAPER, 9.0).strength.numpy()
    assert set(np.unique(np.abs(strength))) == {np.float32(0.9)}
    assert abs((strength > 0).mean() - 0.5) < 5 * np.sqrt(0.25 / MANY)


def test_magnitude_zero_moves_nothing_and_keeps_strengths_at_one():
    faces = np.broadcast_to(FACE[None, ..., None], (64, 48, 48, 1))
    names = [name for name in randaugment.PAPER.operations if name not in ("autocontrast", "equalize")]
    layer = randaugment.draw(draws(64), randaugment.PAPER, 0.0)
    changed = ops.apply(faces, [ops.apply_randaugment(draws(64), 48, layers=1, magnitude=0.0)])
    for name in names:
        chosen = randaugment.draw(draws(64).fold_in(0), randaugment.PAPER, 0.0).name[name].numpy()
        np.testing.assert_array_equal(changed.numpy()[chosen], faces[chosen])
    assert float(tf.reduce_max(tf.abs(layer.strength))) == 0


def pillow(name: str, strength: float) -> np.ndarray:
    """One operation of the paper's set on FACE, by Pillow."""
    image = Image.fromarray(FACE)
    factor, strong = 1 + 0.9 * strength, abs(strength)
    affine = {
        "shear_x": (1, -0.3 * strength, 0.3 * strength * 24, 0, 1, 0),
        "shear_y": (1, 0, 0, -0.3 * strength, 1, 0.3 * strength * 24),
        "translate_x": (1, 0, -0.45 * 48 * strength, 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, -0.45 * 48 * strength),
    }
    done = {
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
    return np.asarray(done[name]())


COUNT = 260


@pytest.fixture(scope="module")
def layer() -> randaugment.Layer:
    """Drawn outside of what is compiled: XLA would draw other numbers."""
    return randaugment.draw(draws(COUNT, seed=4), randaugment.PAPER, 6.0)


@pytest.fixture(scope="module")
def changed(layer) -> dict[str, np.ndarray]:
    """FACE by what each image drew: eagerly, in a graph, and compiled by XLA."""
    faces = tf.tile(FACE[None, ..., None], [COUNT, 1, 1, 1])

    def change(xla: bool) -> tf.Tensor:
        chained = ops.compose([layer], randaugment.PAPER, 48)
        sharp = randaugment.sharpness(layer, randaugment.PAPER)
        return ops.apply(faces, [chained._replace(sharpness=sharp)], xla)[..., 0]

    return {
        "eager": change(xla=False).numpy(),
        "tf.function": tf.function(lambda: change(xla=False), autograph=False)().numpy(),
        "jit_compile": tf.function(lambda: change(xla=True), jit_compile=True, autograph=False)().numpy(),
    }


@pytest.mark.parametrize("mode", ["eager", "tf.function", "jit_compile"])
@pytest.mark.parametrize("name", randaugment.PAPER.operations)
def test_an_image_is_changed_as_pillow_does_by_the_operation_it_drew(name, mode, layer, changed):
    chosen = np.flatnonzero(layer.name[name])
    assert len(chosen) >= 5
    inside = np.s_[:]
    if name in ("rotate", "shear_x", "shear_y", "translate_x", "translate_y"):
        inside = np.s_[18:30, 18:30]  # the resamplers treat what lies outside differently
    for index in chosen[:5]:
        expected = pillow(name, float(layer.strength[index])).astype(int)
        assert np.abs(changed[mode][index].astype(int) - expected)[inside].max() <= 1


def test_one_layer_is_what_was_drawn_for_it():
    """What the policy draws is the layer that the tests above hold against Pillow."""
    given, faces = draws(COUNT, seed=4), np.broadcast_to(FACE[None, ..., None], (COUNT, 48, 48, 1))
    alone = randaugment.draw(given.fold_in(0), randaugment.PAPER, 6.0)
    expected = ops.compose([alone], randaugment.PAPER, 48)
    expected = expected._replace(sharpness=randaugment.sharpness(alone, randaugment.PAPER))
    drawn = ops.apply_randaugment(given, 48, layers=1, magnitude=6.0)
    np.testing.assert_array_equal(ops.apply(faces, [drawn]), ops.apply(faces, [expected]))


def test_two_layers_are_both_applied():
    faces = np.broadcast_to(FACE[None, ..., None], (512, 48, 48, 1))
    given = draws(512, seed=1)
    first, second = (randaugment.draw(given.fold_in(layer), randaugment.PAPER, 9.0) for layer in (0, 1))
    both = np.flatnonzero(first.name["brightness"].numpy() & second.name["posterize"].numpy())
    assert len(both)
    changed = ops.apply(faces, [ops.apply_randaugment(given, 48)]).numpy()[..., 0]
    for index in both:
        bright = ImageEnhance.Brightness(Image.fromarray(FACE)).enhance(1 + 0.9 * float(first.strength[index]))
        ours, theirs = changed[index].astype(int), np.asarray(bright).astype(int)
        step = 2 ** round(4 * 0.9)
        assert (ours % step == 0).all()
        assert np.abs(ours - theirs).max() <= step


def test_in_a_graph_it_gives_the_eager_bytes():
    text = "flip|randaugment(2,9)|gamma|blur|erase(0.5)|choose(mixup(0.2),cutmix(1.0))"
    faces = np.random.default_rng(0).integers(0, 256, (32, 48, 48, 1), dtype=np.uint8)
    targets = tf.one_hot(np.arange(32) % 7, 7)
    augment = policy.augmenter(text)
    expected, expected_targets = augment(faces, targets, draws(32))
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
def test_xla_compiles_it_and_gives_the_same_bytes_each_time(text):
    """Not the eager ones: XLA's stateless numbers are others. Mixing stays outside: XLA has no stateless_gamma."""
    faces = np.random.default_rng(0).integers(0, 256, (32, 48, 48, 1), dtype=np.uint8)
    augment = policy.augmenter(text, xla=True)

    def changed(seed: tf.Tensor) -> tf.Tensor:
        return augment(faces, tf.zeros([32, 7]), BatchRng(seed, tf.range(32), 32))[0]

    function = tf.function(changed, jit_compile=True, autograph=False)
    images = function(tf.constant([0, 0])).numpy()
    np.testing.assert_array_equal(function(tf.constant([0, 0])), images)
    assert (images != faces).any(axis=(1, 2, 3)).mean() > 0.9
    assert (function(tf.constant([0, 1])).numpy() != images).any()


def test_an_image_does_not_feel_its_batch_mates():
    rng = np.random.default_rng(0)
    faces = rng.integers(0, 256, (32, 48, 48, 1), dtype=np.uint8)
    others = np.concatenate([faces[:1], 255 - faces[1:]])
    for seed in range(4):
        change = [ops.apply_randaugment(draws(32, seed), 48)]
        np.testing.assert_array_equal(ops.apply(faces, change)[0], ops.apply(others, change)[0])


def test_two_replicas_change_the_examples_as_one_does():
    faces = np.random.default_rng(0).integers(0, 256, (32, 48, 48, 1), dtype=np.uint8)
    whole = ops.apply(faces, [ops.apply_randaugment(draws(32), 48)])
    for part in (slice(16), slice(16, 32)):
        given = draws(32)._replace(positions=tf.range(32)[part])
        np.testing.assert_array_equal(ops.apply(faces[part], [ops.apply_randaugment(given, 48)]), whole[part])
