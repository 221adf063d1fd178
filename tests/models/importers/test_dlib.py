"""Import of dlib's face network: it computes the same as the file's network and is trainable."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from fer.errors import UserError
from fer.models import registry
from fer.models.backbones import dlib_resnet
from fer.models.importers import dlib
from fer.models.importers.batch_norm_unfolding import Convolution
from fer.models.normalization import NORMALIZATIONS

SIDE = 103  # the smallest; the rows and columns that dlib's sums pad are among its stages
FACES = np.random.default_rng(0).integers(0, 256, (12, 48, 48, 1), dtype=np.uint8)


@functools.cache
def network() -> tf.keras.Model:
    """Returns the network, built once; the fixture `loaded` puts weights into it."""
    return dlib_resnet.dlib_resnet(SIDE, 3)


def shapes() -> list[tuple[int, ...]]:
    """Returns the shapes of the network's kernels, in its order."""
    return [tuple(layer.kernel.shape) for layer in network().layers if isinstance(layer, tf.keras.layers.Conv2D)]


def random_convolutions() -> list[Convolution]:
    """Returns kernels as small as dlib's trained ones, with scales that compensate."""
    random, shrunk = np.random.default_rng(1), 0.01
    made = []
    for height, width, channels, filters in shapes():
        kernel = random.normal(0, shrunk / np.sqrt(height * width * channels), (height, width, channels, filters))
        bias, shift = random.normal(0, shrunk / 10, filters), random.normal(0, 0.1, filters)
        made.append(
            Convolution(*(np.float32(a) for a in (kernel, bias, random.uniform(0.5, 1, filters) / shrunk, shift)))
        )
    return made


def encode_as_dlib(convolutions: list[Convolution]) -> bytes:
    """Encodes convolutions as dlib does, with descriptions of layers between the tensors."""

    def integer(value: int) -> bytes:
        size = (value.bit_length() + 7) // 8 or 1
        return bytes([size]) + value.to_bytes(size, "little")

    def tensor(values: np.ndarray) -> bytes:
        return b"".join(map(integer, (2, values.size, 1, 1, 1))) + values.astype("<f4").tobytes()

    content = b"\x01\x01\x01\x0dloss_metric_2" + 80 * b"\x02\x01"
    for each in convolutions:
        height, width, channels, filters = each.kernel.shape
        kernel = each.kernel.transpose(3, 2, 0, 1).ravel()
        content += b"\x01\x05con_4" + tensor(np.concatenate([kernel, each.bias]))
        content += b"".join(map(integer, (filters, height, width, 1, 1, filters, channels, height, width)))
        content += b"\x01\x07affine_" + tensor(np.concatenate([each.scale, each.shift]))
        content += b"\x01\x05relu_" + 8 * b"\x01\x02\x01\x00"
    return content + b"\x01\x02fc" + tensor(np.zeros(256 * 128))


@pytest.fixture(scope="module")
def convolutions() -> list[Convolution]:
    return random_convolutions()


@pytest.fixture(scope="module")
def file(convolutions, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("dlib") / "network.dat"
    path.write_bytes(encode_as_dlib(convolutions))
    return str(path)


@pytest.fixture(scope="module")
def loaded(file) -> tf.keras.Model:
    dlib.load(network(), file, FACES)
    return network()


def normalized_faces() -> np.ndarray:
    """Faces after the network's normalization."""
    pixels = NORMALIZATIONS[registry.backbone_spec("dlib_resnet").normalization]
    return (tf.image.resize(FACES, [SIDE, SIDE]) * pixels.scale + pixels.offset).numpy()


def compute_as_dlib(images: np.ndarray, convolutions: list[Convolution]) -> np.ndarray:
    """Computes dlib's output: affine<con<...>> instead of batch normalization, and sums of tensors of two sizes."""
    given = iter(convolutions)

    def affine(x: tf.Tensor, stride: int, padding: str) -> tf.Tensor:
        each = next(given)
        return (tf.nn.conv2d(x, each.kernel, stride, padding) + each.bias) * each.scale + each.shift

    def add_padded(one: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
        """Zeros stand where one of them is smaller, in rows, columns or channels."""
        whole = np.maximum(one.shape, other.shape)
        return sum(tf.pad(x, [(0, size - own) for size, own in zip(whole, x.shape)]) for x in (one, other))

    x = tf.nn.max_pool2d(tf.nn.relu(affine(tf.constant(images), 2, "VALID")), 3, 2, "VALID")
    for blocks, down in ((3, False), (4, True), (3, True), (3, True), (1, True)):
        for block in range(blocks):
            halves = down and block == 0
            change = tf.nn.relu(affine(x, 2, "VALID") if halves else affine(x, 1, "SAME"))
            change = affine(change, 1, "SAME")
            x = tf.nn.relu(add_padded(tf.nn.avg_pool2d(x, 2, 2, "VALID") if halves else x, change))
    return x.numpy()


def test_dlib_network_computes_the_reference_output(loaded, convolutions):
    expected = compute_as_dlib(normalized_faces(), convolutions)
    np.testing.assert_allclose(loaded(normalized_faces()), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_dlib_network_output_is_unchanged_with_batch_statistics_of_the_faces(loaded):
    expected = loaded(normalized_faces())
    np.testing.assert_allclose(
        loaded(normalized_faces(), training=True), expected, rtol=1e-2, atol=1e-3 * np.max(expected)
    )


def test_dlib_network_convolutions_have_unit_variance(loaded):
    outputs = [loaded.get_layer(f"{name}_conv").output for name in dlib_resnet.CONVOLUTIONS]
    for output in tf.keras.Model(loaded.input, outputs)(normalized_faces()):
        np.testing.assert_allclose(tf.math.reduce_variance(output, [0, 1, 2]), 1, rtol=1e-2)


def test_dlib_file_is_read_in_order(file, convolutions):
    for found, expected in zip(dlib.read(file, shapes()), convolutions):
        for name in ("kernel", "bias", "scale", "shift"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize(("keep", "number"), [(100_000, 4), (20_000, 2), (0, 1)])
def test_dlib_file_rejects_early_end(file, tmp_path, keep, number):
    short = tmp_path / "short.dat"
    with open(file, "rb") as whole:
        short.write_bytes(whole.read(keep))
    with pytest.raises(UserError, match=rf"short\.dat is not dlib's .* or is damaged: .* for convolution {number}\."):
        dlib.read(str(short), shapes())


def test_dlib_file_rejects_value_that_is_not_a_number(convolutions, tmp_path):
    convolutions = [*convolutions[:3], Convolution(*(np.full_like(a, np.nan) for a in vars(convolutions[3]).values()))]
    path = tmp_path / "nan.dat"
    path.write_bytes(encode_as_dlib(convolutions))
    with pytest.raises(UserError, match="for convolution 4"):
        dlib.read(str(path), shapes())


def test_dlib_file_error_names_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"There is no weights file .*absent\.dat"):
        dlib.read(str(tmp_path / "absent.dat"), shapes())
