"""Import of MobileFaceNet: it computes the same as the file's network and is trainable."""

import functools
import os
import pathlib

import flatbuffers
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema

from fer.config import Model
from fer.errors import UserError
from fer.models import classifier, pretrained, weights
from fer.models.backbones import mobilefacenet
from fer.models.importers import mobilefacenet_tflite

SHARED = pathlib.Path(os.environ.get("FER_SHARED", "../shared")) / "weights" / "mobilefacenet_ms1m.npz"
FACES = np.random.default_rng(0).integers(0, 256, (6, 48, 48, 1), dtype=np.uint8)


@functools.cache
def network() -> tf.keras.Model:
    """Returns the network at its smallest size; the fixture `loaded` puts weights into it."""
    return mobilefacenet.mobilefacenet(97, 3)


@functools.cache
def random_tensors() -> dict[str, np.ndarray]:
    """Returns the tensors of a file by name, with random values that keep the scale of features."""
    random, tensors = np.random.default_rng(1), {}
    for name, kernel, scope in mobilefacenet_tflite._sources():
        layer = network().get_layer(f"{name}_conv")
        height, width, channels, filters = layer.weights[0].shape
        depthwise = isinstance(layer, tf.keras.layers.DepthwiseConv2D)
        shape = (1, height, width, channels) if depthwise else (filters, height, width, channels)
        kind, bias = ("depthwise_weights", "depthwise_bias") if depthwise else ("weights", "Conv2D_bias")
        fan_in = height * width * (1 if depthwise else channels)
        tensors[f"{kernel}/{kind}/read"] = random.normal(0, fan_in**-0.5, shape).astype(np.float32)
        out = channels if depthwise else filters
        tensors[f"{scope}/{bias}"] = random.normal(0, 0.1, out).astype(np.float32)
        if name.endswith(("conv1", "conv7", "_expand", "_dw")) and name != "global_dw":
            tensors[f"{scope}/mul"] = random.uniform(-0.4, 0.4, out).astype(np.float32)
    return tensors


def encode_as_tflite(tensors: dict[str, np.ndarray]) -> bytes:
    """Encodes a TFLite file that holds the tensors, without operations."""
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.subgraphs, model.buffers, graph.tensors = 3, [graph], [schema.BufferT()], []
    for name, values in tensors.items():
        tensor, buffer = schema.TensorT(), schema.BufferT()
        buffer.data = np.frombuffer(values.astype("<f4").tobytes(), np.uint8)
        tensor.name, tensor.shape, tensor.buffer = name, np.array(values.shape, np.int32), len(model.buffers)
        tensor.type = schema.TensorType.FLOAT32
        model.buffers.append(buffer)
        graph.tensors.append(tensor)
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("mobilefacenet") / "network.tflite"
    path.write_bytes(encode_as_tflite(random_tensors()))
    return str(path)


@pytest.fixture(scope="module")
def loaded(file) -> tf.keras.Model:
    mobilefacenet_tflite.load(network(), file, FACES)
    return network()


def normalized_faces() -> np.ndarray:
    return (tf.image.resize(np.repeat(FACES, 3, axis=-1), [97, 97]) / 128 - 127.5 / 128).numpy()


def compute_as_tflite(images: np.ndarray, tensors: dict[str, np.ndarray]) -> np.ndarray:
    """Computes the graph of MobileFaceNet.tflite, whose operations were listed from the published file."""

    def convolve(x: tf.Tensor, kernel: str, scope: str, stride: int = 1) -> tf.Tensor:
        values = tensors[f"MobileFaceNet/{kernel}/weights/read"].transpose(1, 2, 3, 0)
        return tf.nn.conv2d(x, values, stride, "SAME") + tensors[f"MobileFaceNet/{scope}/Conv2D_bias"]

    def depthwise(x: tf.Tensor, kernel: str, scope: str, stride: int = 1, padding: str = "SAME") -> tf.Tensor:
        values = tensors[f"MobileFaceNet/{kernel}/depthwise_weights/read"].transpose(1, 2, 3, 0)
        x = tf.nn.depthwise_conv2d(x, values, [1, stride, stride, 1], padding)
        return x + tensors[f"MobileFaceNet/{scope}/depthwise_bias"]

    def activate(x: tf.Tensor, scope: str) -> tf.Tensor:
        return tf.nn.relu(x) + tensors[f"MobileFaceNet/{scope}/mul"] * (x - abs(x))

    inner = "MobileFaceNet/"
    x = activate(convolve(tf.constant(images), "Conv2d_0", inner + "Conv2d_0", 2), inner + "Conv2d_0")
    x = activate(depthwise(x, "SeparableConv2d", inner + "SeparableConv2d"), inner + "SeparableConv2d")
    x, number = convolve(x, "Conv", inner + "Conv"), 0
    for stage, blocks, down in ((2, 5, True), (3, 1, True), (4, 6, False), (5, 1, True), (6, 2, False)):
        for block in range(blocks):
            scope, number = f"{inner}Conv2d_{stage}_InvResBlock_{block}", number + 1
            stride = 2 if down and not block else 1
            change = activate(convolve(x, f"Conv_{2 * number - 1}", f"{scope}/Conv"), f"{scope}/Conv")
            change = depthwise(change, f"SeparableConv2d_{number}", f"{scope}/SeparableConv2d", stride)
            change = activate(change, f"{scope}/SeparableConv2d")
            change = convolve(change, f"Conv_{2 * number}", f"{scope}/Conv_1")
            x = change if stride == 2 else x + change
    x = activate(convolve(x, "Conv2d_7", inner + "Conv2d_7"), inner + "Conv2d_7")
    x = depthwise(x, "Logits/SeparableConv2d", "Logits/SeparableConv2d", padding="VALID")
    x = convolve(x, "Logits/Conv", "Logits/Conv")
    return convolve(x, "Logits/LinearConv1x1", "Logits/LinearConv1x1").numpy()


def test_mobilefacenet_computes_the_graph_of_the_tflite_file(loaded):
    expected = compute_as_tflite(normalized_faces(), random_tensors())
    assert expected.shape == (6, 1, 1, 192)
    np.testing.assert_allclose(loaded(normalized_faces()), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_mobilefacenet_output_is_unchanged_with_batch_statistics_of_the_faces(loaded):
    """The maps of 1x1 have six values a channel, whose statistics are those that were measured."""
    expected = loaded(normalized_faces()).numpy()
    np.testing.assert_allclose(
        loaded(normalized_faces(), training=True), expected, rtol=1e-2, atol=1e-2 * np.abs(expected).max()
    )


@pytest.mark.parametrize(("side", "positions"), [(32, 2), (96, 6), (97, 1), (112, 1), (160, 4)])
def test_mobilefacenet_has_one_position_from_97_to_112_pixels(monkeypatch, side, positions):
    # One block of each stage: the further blocks, two thirds of the time, keep the size of the map.
    monkeypatch.setattr(mobilefacenet, "STAGES", [(1, *stage[1:]) for stage in mobilefacenet.STAGES])
    assert mobilefacenet.mobilefacenet(side, 1).output_shape == (None, positions, positions, 192)


@pytest.mark.extended
@pytest.mark.skipif(not SHARED.exists(), reason=f"needs {SHARED}")
def test_mobilefacenet_reproduces_the_reference_output_of_the_published_weights():
    arrays = np.load(SHARED)
    model = mobilefacenet.mobilefacenet(112, 3)
    tensors = {key.replace("|", "/"): arrays[key] for key in arrays.files}
    mobilefacenet_tflite.load_tensors(model, tensors, "mobilefacenet_ms1m.npz", FACES)
    found = model(arrays["reference_input"]).numpy()[:, 0, 0]
    np.testing.assert_allclose(found, arrays["reference_output"], atol=1e-4)


@pytest.mark.extended
@pytest.mark.parametrize(("size", "truncate_at"), [(112, ""), (128, "conv7")])
def test_mobilefacenet_weights_load_into_a_classifier(loaded, tmp_path, size, truncate_at):
    path = str(tmp_path / "weights.npz")
    weights.save(loaded.weights, path)
    settings = Model(name="mobilefacenet", image_size=size, truncate_at=truncate_at, weights=path, stem_channels="sum")
    model = classifier.build(settings, "float32")
    pretrained.load(model, settings)
    for part in ("block15_dw_conv", "conv7_prelu"):
        found = classifier.get_backbone(model).get_layer(part).get_weights()
        np.testing.assert_array_equal(found[0], loaded.get_layer(part).get_weights()[0])
    assert np.isfinite(model(FACES)).all()


@pytest.mark.parametrize("keep", [0, 6, 20, 5_000, 100_000])
def test_mobilefacenet_rejects_early_end(file, tmp_path, keep):
    short = tmp_path / "short.tflite"
    short.write_bytes(pathlib.Path(file).read_bytes()[:keep])
    with pytest.raises(UserError, match=r"short\.tflite is (no TFLite file|damaged|not MobileFaceNet)"):
        mobilefacenet_tflite.load(network(), str(short), FACES)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (None, "has no tensor MobileFaceNet/Conv_3/weights/read; the network needs shape [128, 1, 1, 64]."),
        (
            np.zeros([64, 1, 1, 64]),
            "has MobileFaceNet/Conv_3/weights/read with shape [64, 1, 1, 64]; the network needs",
        ),
        (np.full([128, 1, 1, 64], np.nan), "is damaged: MobileFaceNet/Conv_3/weights/read has values that are not"),
    ],
)
def test_mobilefacenet_error_names_tensor(tmp_path, values, message):
    tensors = {**random_tensors(), "MobileFaceNet/Conv_3/weights/read": values}
    if values is None:
        tensors.pop("MobileFaceNet/Conv_3/weights/read")
    path = tmp_path / "other.tflite"
    path.write_bytes(encode_as_tflite(tensors))
    with pytest.raises(UserError) as error:
        mobilefacenet_tflite.load(network(), str(path), FACES)
    assert str(path) in str(error.value)
    assert message in str(error.value)


def test_mobilefacenet_error_names_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"There is no weights file .*absent\.tflite"):
        mobilefacenet_tflite.read(str(tmp_path / "absent.tflite"))
