"""What holds for every operation of a policy that changes images one by one."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from fer.augment import policy, xla_support
from fer.rng import BatchRng

BATCH = 16
POLICIES = {
    "flip": "flip",
    "affine": "affine(rotate=15,scale=0.1,shift=0.08,shear=0.1)",
    "crop": "crop(40)",
    "brightness": "brightness",
    "contrast": "contrast",
    "gamma": "gamma",
    "solarize": "solarize",
    "posterize": "posterize",
    "invert": "invert",
    "autocontrast": "autocontrast",
    "equalize": "equalize",
    "sharpen": "sharpen",
    "blur": "blur",
    "randaugment": "randaugment(2,9)",
    "randaugment, faces": "randaugment(2,9,faces)",
    "erase": "erase(0.5)",
    "augmix": "augmix",
}
# Changes whose jumps turn a difference of one level before them into a greater one after them.
CHAINS = {"randaugment", "randaugment, faces", "augmix"}
# About 1,000 and 5,000 operations, which take seconds to trace; test_randaugment.py traces "randaugment" too.
HEAVY_TO_TRACE = {"randaugment", "randaugment, faces", "augmix"}
# A warp, and what goes by histograms; test_randaugment.py compiles the other passes.
COMPILED_BY_DEFAULT = {"affine", "equalize"}
RANDOM = np.random.default_rng(0)
FACES = np.kron(RANDOM.integers(10, 240, (BATCH, 12, 12, 1)), np.ones((1, 4, 4, 1))).astype(np.uint8)
TARGETS = tf.one_hot(np.arange(BATCH) % 7, 7)


class Outside:
    """Draws made outside of what XLA compiles, which would draw other numbers."""

    def __init__(self, draws: BatchRng):
        self.draws = draws

    def fold_in(self, salt: int) -> "Outside":
        with tf.init_scope():
            return Outside(self.draws.fold_in(salt))

    def uniform(self, count: int) -> tf.Tensor:
        with tf.init_scope():
            return self.draws.uniform(count)


def draws(positions=range(BATCH), seed: int = 5) -> BatchRng:
    return BatchRng(tf.constant([seed, 1]), tf.constant(list(positions), tf.int32), BATCH)


def changed(
    name: str, faces: np.ndarray = FACES, given: BatchRng = None, targets=TARGETS, xla: bool = False
) -> tf.Tensor:
    return policy.augmenter(POLICIES[name], xla=xla)(faces, targets, given or draws())[0]


@functools.cache
def eager(name: str) -> np.ndarray:
    """Returns FACES as a policy changes them eagerly, computed once for all tests."""
    return changed(name).numpy()


def policies(extended: set[str]) -> list:
    """Returns the names of all policies as parameters of a test; some are marked extended."""
    return [pytest.param(name, marks=pytest.mark.extended) if name in extended else name for name in POLICIES]


def test_no_operation_is_left_out():
    named = {policy.parse(text)[0].name for text in POLICIES.values()}
    assert named == set(policy.KNOWN) - set(policy.MIX_OPS)


@pytest.mark.parametrize("name", POLICIES)
def test_it_changes_some_faces_and_keeps_them_uint8(name):
    after = eager(name)
    assert after.dtype == np.uint8
    assert after.shape == ((BATCH, 40, 40, 1) if name == "crop" else FACES.shape)
    if name != "crop":
        assert (after != FACES).any()


@pytest.mark.parametrize("name", POLICIES)
def test_a_face_does_not_feel_its_batch_mates(name):
    others = FACES.copy()
    others[::2] = 255 - others[::2]
    np.testing.assert_array_equal(eager(name)[1::2], changed(name, others)[1::2])


@pytest.mark.parametrize("name", POLICIES)
def test_two_replicas_change_the_faces_as_one_does(name):
    halves = [
        changed(name, FACES[part], draws(range(BATCH)[part]), TARGETS[part]) for part in (slice(8), slice(8, BATCH))
    ]
    np.testing.assert_array_equal(tf.concat(halves, 0), eager(name))


@pytest.mark.parametrize("name", policies(extended=HEAVY_TO_TRACE))
def test_in_a_graph_it_gives_the_eager_bytes(name):
    function = tf.function(lambda seed: changed(name, given=draws()._replace(seed=seed)), autograph=False)
    np.testing.assert_array_equal(function(tf.constant([5, 1])), eager(name))


@pytest.mark.parametrize("name", policies(extended=POLICIES.keys() - COMPILED_BY_DEFAULT))
def test_compiled_by_xla_the_same_draws_change_the_faces_alike(name):
    faces, given = tf.constant(FACES), Outside(draws())
    compiled = tf.function(lambda: changed(name, faces, given, xla=True), jit_compile=True, autograph=False)()
    difference = np.abs(compiled.numpy().astype(int) - eager(name))
    if name in CHAINS:
        assert (difference > 1).mean() < 0.002
    else:
        assert difference.max() <= 1


@pytest.mark.parametrize("name", POLICIES)
def test_as_it_is_built_for_a_gpu_it_changes_the_faces_alike(name):
    with xla_support.as_on_gpu():
        built = changed(name).numpy()
    difference = np.abs(built.astype(int) - eager(name))
    if name in CHAINS:
        assert (difference > 1).mean() < 0.002
    else:  # the warp is TensorFlow's kernel there, which rounds otherwise; all else gives the same bytes
        assert difference.max() <= (1 if name == "affine" else 0)


@pytest.mark.parametrize("name", ["flip", "solarize", "posterize", "invert", "autocontrast", "equalize", "blur"])
def test_as_many_faces_are_changed_as_asked(name):
    many = 2000
    faces = np.broadcast_to(FACES[:1], (many, 48, 48, 1))
    given = BatchRng(tf.constant([1, 2]), tf.range(many), many)
    after, _ = policy.augmenter(f"{name}(p=0.25)")(faces, tf.zeros([many, 7]), given)
    share = (after.numpy() != faces).any(axis=(1, 2, 3)).mean()
    assert abs(share - 0.25) < 5 * np.sqrt(0.25 * 0.75 / many)


@pytest.mark.parametrize("to", [40, 41])
def test_a_crop_is_a_window_of_the_face_and_every_window_can_be_drawn(to):
    count = 2000
    numbered = np.arange(48 * 48).reshape(48, 48)
    faces = (numbered % 251).astype(np.uint8)
    given = BatchRng(tf.constant([1, 2]), tf.range(count), count)
    after, _ = policy.augmenter(f"crop({to})")(
        np.broadcast_to(faces[None, ..., None], (count, 48, 48, 1)), tf.zeros([count, 7]), given
    )
    windows = np.lib.stride_tricks.sliding_window_view(faces, (to, to)).reshape(-1, to, to)
    place = {window.tobytes(): number for number, window in enumerate(windows)}
    found = np.array([place[each[..., 0].tobytes()] for each in after.numpy()])  # KeyError: no window of the face
    counts = np.bincount(found, minlength=len(windows))
    assert counts.min() > 0
    assert ((counts - count / len(windows)) ** 2 / (count / len(windows))).sum() < len(windows) + 5 * np.sqrt(
        2 * len(windows)
    )
