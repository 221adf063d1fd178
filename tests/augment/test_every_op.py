"""Properties of every op of a policy that changes images one by one."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from fer.augment import policy, registry, xla_support
from fer.benchmark import launches
from fer.benchmark.augment import FULL_POLICY
from fer.rng import BatchRng

BATCH = 16
POLICIES = {
    **{name: name for name, op in registry.OPS.items() if op.kind != "mix"},
    "affine": "affine(rotate=15,scale=0.1,shift=0.08,shear=0.1)",  # its defaults change nothing
    "randaugment, faces": "randaugment(2,9,faces)",
}
# Chains of ops whose jumps amplify a difference of one level.
CHAINS = {"randaugment", "randaugment, faces", "augmix"}
# Graphs of about 1,000 and 5,000 nodes, which take seconds to trace; test_randaugment.py traces "randaugment" too.
HEAVY_TO_TRACE = {"randaugment", "randaugment, faces", "augmix"}
# A warp, and an op that uses histograms; test_randaugment.py compiles the other passes.
COMPILED_BY_DEFAULT = {"affine", "equalize"}
RANDOM = np.random.default_rng(0)
FACES = np.kron(RANDOM.integers(10, 240, (BATCH, 12, 12, 1)), np.ones((1, 4, 4, 1))).astype(np.uint8)
TARGETS = tf.one_hot(np.arange(BATCH) % 7, 7)


def make_rng(positions=range(BATCH), seed: int = 5) -> BatchRng:
    return BatchRng(tf.constant([seed, 1]), tf.constant(list(positions), tf.int32), BATCH)


def augment(name: str, faces: np.ndarray = FACES, rng: BatchRng = None, targets=TARGETS) -> tf.Tensor:
    return policy.augmenter(POLICIES[name])(faces, targets, rng or make_rng())[0]


@functools.cache
def augment_eagerly(name: str) -> np.ndarray:
    """Returns FACES augmented eagerly by a policy, computed once for all tests."""
    return augment(name).numpy()


def mark_policies(extended: set[str]) -> list:
    """Returns the names of all policies as parameters of a test; some are marked extended."""
    return [pytest.param(name, marks=pytest.mark.extended) if name in extended else name for name in POLICIES]


@pytest.mark.parametrize("name", POLICIES)
def test_op_changes_some_faces_and_keeps_them_uint8(name):
    after = augment_eagerly(name)
    assert after.dtype == np.uint8
    assert after.shape == ((BATCH, 40, 40, 1) if name == "crop" else FACES.shape)
    if name != "crop":
        assert (after != FACES).any()


@pytest.mark.parametrize("name", POLICIES)
def test_op_ignores_other_images_of_the_batch(name):
    others = FACES.copy()
    others[::2] = 255 - others[::2]
    np.testing.assert_array_equal(augment_eagerly(name)[1::2], augment(name, others)[1::2])


@pytest.mark.parametrize("name", POLICIES)
def test_op_changes_faces_alike_on_one_and_two_replicas(name):
    halves = [
        augment(name, FACES[part], make_rng(range(BATCH)[part]), TARGETS[part]) for part in (slice(8), slice(8, BATCH))
    ]
    np.testing.assert_array_equal(tf.concat(halves, 0), augment_eagerly(name))


@pytest.mark.parametrize("name", mark_policies(extended=HEAVY_TO_TRACE))
def test_op_gives_the_eager_bytes_in_a_graph(name):
    function = tf.function(lambda seed: augment(name, rng=make_rng()._replace(seed=seed)), autograph=False)
    np.testing.assert_array_equal(function(tf.constant([5, 1])), augment_eagerly(name))


@pytest.mark.parametrize("name", mark_policies(extended=POLICIES.keys() - COMPILED_BY_DEFAULT))
def test_op_changes_faces_alike_on_a_gpu(name):
    """There, XLA compiles the policy, and the same random numbers are drawn outside."""
    with xla_support.as_on_gpu():
        compiled = augment(name).numpy()
    difference = np.abs(compiled.astype(int) - augment_eagerly(name))
    if name in CHAINS:
        assert (difference > 1).mean() < 0.002
    else:
        assert difference.max() <= 1


@pytest.mark.parametrize(
    ("text", "means"),
    [
        (
            "flip|affine(rotate=15,scale=0.15,shift=0.08,shear=0.1)|erase(p=0.4,high=0.2)",
            "114.2 126.4 119.1 106.2 110.7 104.0 118.8 122.0 112.4 122.9 112.4 89.7 118.7 108.2 107.8 113.5",
        ),
        (
            "brightness|contrast|solarize|posterize|autocontrast|equalize|sharpen",
            "132.3 135.6 132.8 133.3 139.6 139.7 73.1 148.3 137.0 130.8 94.2 119.0 61.3 115.0 132.9 153.5",
        ),
        (
            "randaugment(2,9)|mixup(0.2)",
            "107.2 111.0 115.9 137.6 73.2 91.3 124.0 140.3 133.0 123.8 79.8 96.8 138.5 115.5 113.9 124.1",
        ),
        pytest.param(
            "augmix|cutmix",
            "128.4 128.2 127.2 108.7 121.3 124.4 128.1 122.8 124.3 132.0 130.2 116.5 128.0 122.0 124.0 124.6",
            marks=pytest.mark.extended,
        ),
    ],
)
def test_seed_gives_the_recorded_images(text, means):
    """The mean of each image is that of version 0.1.0; other processors may round single pixels differently."""
    images, _ = policy.augmenter(text)(FACES, TARGETS, make_rng())
    found = images.numpy().mean((1, 2, 3), dtype=float)
    np.testing.assert_allclose(found, [float(mean) for mean in means.split()], atol=0.3)


@pytest.mark.parametrize("text", ["flip|affine(rotate=15)|erase(p=0.4)|choose(mixup(0.2),cutmix(1.0))"])
def test_policy_mixes_alike_on_a_gpu(text):
    expected, expected_targets = policy.augmenter(text)(FACES, TARGETS, make_rng())
    with xla_support.as_on_gpu():
        images, targets = policy.augmenter(text)(FACES, TARGETS, make_rng())
    assert np.abs(images.numpy().astype(int) - expected).max() <= 1
    np.testing.assert_allclose(targets, expected_targets, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "most"),
    [
        ("flip|affine(rotate=15,scale=0.15,shift=0.08,shear=0.1)|erase(p=0.4,high=0.2)", 20),
        pytest.param(FULL_POLICY, 60, marks=pytest.mark.extended),
    ],
    ids=["compact", "full"],
)
def test_policy_launches_few_kernels_on_a_gpu(text, most):
    def apply(images: tf.Tensor, targets: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return policy.augmenter(text)(images, targets, BatchRng(seed, tf.range(256), 256))

    specs = [tf.TensorSpec([256, 48, 48, 1], tf.uint8), tf.TensorSpec([256, 7]), tf.TensorSpec([2], tf.int32)]
    with xla_support.as_on_gpu(), tf.device("CPU:1"):
        function = tf.function(apply, autograph=False).get_concrete_function(*specs)
    assert 0 < sum(launches.count_launches(function).values()) <= most


@pytest.mark.parametrize("name", ["flip", "solarize", "posterize", "invert", "autocontrast", "equalize", "blur"])
def test_op_changes_the_requested_fraction_of_faces(name):
    many = 2000
    faces = np.broadcast_to(FACES[:1], (many, 48, 48, 1))
    rng = BatchRng(tf.constant([1, 2]), tf.range(many), many)
    after, _ = policy.augmenter(f"{name}(p=0.25)")(faces, tf.zeros([many, 7]), rng)
    share = (after.numpy() != faces).any(axis=(1, 2, 3)).mean()
    assert abs(share - 0.25) < 5 * np.sqrt(0.25 * 0.75 / many)


@pytest.mark.parametrize("to", [40, 41])
def test_crop_draws_all_windows_of_the_face_uniformly(to):
    count = 2000
    numbered = np.arange(48 * 48).reshape(48, 48)
    faces = (numbered % 251).astype(np.uint8)
    rng = BatchRng(tf.constant([1, 2]), tf.range(count), count)
    after, _ = policy.augmenter(f"crop({to})")(
        np.broadcast_to(faces[None, ..., None], (count, 48, 48, 1)), tf.zeros([count, 7]), rng
    )
    windows = np.lib.stride_tricks.sliding_window_view(faces, (to, to)).reshape(-1, to, to)
    place = {window.tobytes(): number for number, window in enumerate(windows)}
    found = np.array([place[each[..., 0].tobytes()] for each in after.numpy()])  # KeyError: no window of the face
    counts = np.bincount(found, minlength=len(windows))
    assert counts.min() > 0
    assert ((counts - count / len(windows)) ** 2 / (count / len(windows))).sum() < len(windows) + 5 * np.sqrt(
        2 * len(windows)
    )
