"""Tests of `fer.models.importers.tfjs` and of the importers that read its models, on made-up files."""

from __future__ import annotations

import base64
import functools
import json
import os
import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf

from fer.errors import UserError
from fer.models import registry
from fer.models.importers import faceres, inception_v3, tfjs
from fer.models.importers.efficientnet_lite0 import load as load_lite0
from tests.synthetic_faces import FACES

# A folder with the contents of the packages that docs/reproduce.md lists, and the arrays made from them.
PACKAGES = pathlib.Path(os.environ.get("FER_PACKAGES", "packages"))
SHARED = pathlib.Path(os.environ.get("FER_SHARED", "../shared")) / "weights"


def write_json(folder: pathlib.Path, arrays: dict[str, np.ndarray], dtype: str = "float32") -> str:
    """Writes a model as a JSON file with a binary file of one dtype."""
    entries = []
    for name, values in arrays.items():
        scaling = {} if dtype == "float32" else {"quantization": {"dtype": dtype, "original_dtype": "float32"}}
        entries.append({"name": name, "shape": list(values.shape), "dtype": "float32", **scaling})
    content = {"weightsManifest": [{"paths": ["a.bin"], "weights": entries}]}
    (folder / "model.json").write_text(json.dumps(content))
    (folder / "a.bin").write_bytes(b"".join(values.astype(dtype).tobytes() for values in arrays.values()))
    return str(folder / "model.json")


def write_script(folder: pathlib.Path, entries: list[tuple[str, list[int], float, float]], content: bytes) -> str:
    """Writes a model as nsfwjs does: uint8 with a scale, in two files of JavaScript."""
    texts = ",".join(
        f'{{name:"{name}",shape:{json.dumps(shape, separators=(",", ":"))},dtype:"float32",'
        f'quantization:{{min:{low},scale:{scale},dtype:"uint8"}}}}'.replace(":0.", ":.").replace(":-0.", ":-.")
        for name, shape, low, scale in entries
    )
    script = f'f(function(){{e.exports={{weightsManifest:[{{paths:["shard1of2","shard2of2"],weights:[{texts}]}}]}}}})'
    (folder / "model.min.js").write_text(script)
    for number, part in enumerate((content[:5], content[5:]), start=1):
        text = base64.b64encode(part).decode()
        (folder / f"shard{number}of2.min.js").write_text(f'f(function(){{e.exports="{text}"}})')
    return str(folder / "model.min.js")


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_read_returns_the_weights_of_a_json_model(tmp_path, dtype):
    arrays = {"a/kernel": np.arange(6.0).reshape(2, 3), "b": np.array([-0.5])}
    found = tfjs.read(write_json(tmp_path, arrays, dtype))
    assert list(found) == ["a/kernel", "b"]
    for name, values in arrays.items():
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], values)


def test_read_scales_the_integers_of_a_script(tmp_path):
    entries = [("a/kernel", [2, 3], -0.5, 0.25), ("b/bias", [2], 1.5, 2e-7)]
    found = tfjs.read(write_script(tmp_path, entries, bytes([0, 1, 2, 3, 4, 255, 7, 0])))
    np.testing.assert_array_equal(found["a/kernel"], [[-0.5, -0.25, 0], [0.25, 0.5, 63.25]])
    np.testing.assert_array_equal(found["b/bias"], np.array([1.5 + 7 * 2e-7, 1.5]).astype(np.float32))


def test_read_error_names_the_damaged_file(tmp_path):
    path = write_script(tmp_path, [("a", [9], 0.5, 0.25)], bytes(8))
    with pytest.raises(UserError, match=r"model\.min\.js is no TensorFlow\.js model, or is damaged"):
        tfjs.read(path)
    (tmp_path / "shard2of2.min.js").write_text('e.exports="AB"')
    with pytest.raises(UserError, match=r"shard2of2\.min\.js is damaged: its string is not base64"):
        tfjs.read(path)
    (tmp_path / "shard2of2.min.js").unlink()
    with pytest.raises(UserError, match=r"There is no .*shard2of2\.min\.js, which the model needs"):
        tfjs.read(path)


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{",
        '{"weightsManifest": [{"paths": ["../a.bin"], "weights": []}]}',
        '{"weightsManifest": [{"paths": ["a.bin"], "weights": []}]}',
        '{"weightsManifest": [{"paths": ["a.bin"], "weights": [{"name": "a", "shape": [3], "dtype": "string"}]}]}',
    ],
)
def test_read_rejects_other_json(tmp_path, content):
    (tmp_path / "a.bin").write_bytes(b"abc")
    (tmp_path / "model.json").write_text(content)
    with pytest.raises(UserError, match=r"model\.json is no TensorFlow\.js model, or is damaged"):
        tfjs.read(str(tmp_path / "model.json"))


@functools.cache
def mobilenet() -> tf.keras.Model:
    """Returns the network, built once; tests load weights into it."""
    return registry.backbone_spec("mobilenet").build(32, 3)


def folded_mobilenet() -> dict[str, np.ndarray]:
    """Returns random weights of MobileNet, with batch normalization folded, under the names of faceres.json."""
    rng = np.random.default_rng(0)
    arrays = {}
    for layer in mobilenet().layers:
        if not layer.name.startswith("conv") or not layer.weights or layer.name.endswith("_bn"):
            continue
        shape = layer.weights[0].shape
        filters = layer.output_shape[-1:]
        depthwise = "_dw_" in layer.name
        kernel = "depthwise_kernel" if depthwise else "convolution/merged_input"
        arrays[f"{layer.name}/{kernel}"] = rng.normal(
            0, np.prod(shape[:3] if not depthwise else shape[:2]) ** -0.5, shape
        )
        if depthwise:
            arrays[f"{layer.name}_bn/batchnorm_1/mul"] = rng.uniform(0.5, 2, [1, 1, *filters])
        arrays[f"{layer.name}_bn/batchnorm_1/sub"] = rng.normal(1, 0.1, filters)
    return {name: values.astype(np.float32) for name, values in arrays.items()}


def test_faceres_computes_the_folded_network(tmp_path):
    arrays = folded_mobilenet()
    model = mobilenet()
    faceres.load(model, write_json(tmp_path, arrays), FACES)
    for layer in model.layers:
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            name = layer.name.removesuffix("_bn")
            gamma, beta, mean, variance = layer.get_weights()
            factor = gamma / np.sqrt(variance + layer.epsilon)
            kernel = model.get_layer(name).get_weights()[0]
            if "_dw_" in name:
                expected = arrays[f"{name}/depthwise_kernel"] * arrays[f"{layer.name}/batchnorm_1/mul"].reshape(-1, 1)
                kernel = kernel * factor[:, np.newaxis]
            else:
                expected, kernel = arrays[f"{name}/convolution/merged_input"], kernel * factor
            np.testing.assert_allclose(kernel, expected, rtol=1e-4, atol=1e-6)
            shift = arrays[f"{layer.name}/batchnorm_1/sub"]
            np.testing.assert_allclose(beta - mean * factor, shift, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("conv_dw_3_bn/batchnorm_1/mul", None, "has no conv_dw_3_bn/batchnorm_1/mul; the network needs shape [128]."),
        ("conv1/convolution/merged_input", np.zeros([3, 3, 1, 32]), "with shape [3, 3, 1, 32]; the network needs"),
        ("conv1_bn/batchnorm_1/sub", np.full(32, np.nan), "conv1_bn/batchnorm_1/sub has values that are not finite."),
    ],
)
def test_faceres_error_names_the_weight(tmp_path, name, values, message):
    arrays = {**folded_mobilenet(), name: values}
    path = write_json(tmp_path, {key: value for key, value in arrays.items() if value is not None})
    with pytest.raises(UserError) as error:
        faceres.load(mobilenet(), path, FACES)
    assert message in str(error.value)


def build_numbered() -> tf.keras.Model:
    """Builds a network of twelve layers that Keras numbers, as those of Inception-v3, which takes seconds.

    Branches have different lengths, so that the order of the layers in the network is not that of their numbers.
    """
    layers = tf.keras.layers

    def convolve(x: tf.Tensor) -> tf.Tensor:
        return layers.BatchNormalization(scale=False)(layers.Conv2D(2, 1, use_bias=False)(x))

    x = inputs = tf.keras.Input([4, 4, 3])
    for _ in range(4):
        x = layers.Concatenate()([convolve(x), convolve(convolve(x))])
    return tf.keras.Model(inputs, x)


def test_inception_v3_orders_weights_by_the_numbers_of_their_layers(tmp_path, monkeypatch):
    """The file counts layers from 1, and lists them by name."""
    model = build_numbered()
    kinds = {1: ["kernel"], 3: ["beta", "moving_mean", "moving_variance"]}
    listed, counts = {}, {"conv2d": 0, "batch_normalization": 0}
    rng = np.random.default_rng(0)
    weighted = [layer for layer in model.layers if layer.weights]
    for layer in sorted(weighted, key=lambda each: int(re.sub(r"\D", "", each.name.replace("conv2d", "")) or 0)):
        family = "conv2d" if isinstance(layer, tf.keras.layers.Conv2D) else "batch_normalization"
        counts[family] += 1
        for kind, weight in zip(kinds[len(layer.weights)], layer.weights):
            listed[f"{family}_{counts[family]}/{kind}"] = layer.name, rng.uniform(size=weight.shape).astype(np.float32)
    monkeypatch.setattr(
        tfjs, "read", lambda _: {name: listed[name][1] for name in sorted(listed)} | {"dense_3/bias": np.zeros(5)}
    )
    inception_v3.load(model, "model.min.js")
    for name, (layer, values) in listed.items():
        place = inception_v3.PLACES[name.rpartition("/")[2]]
        np.testing.assert_array_equal(model.get_layer(layer).get_weights()[place], values)


@pytest.mark.skipif(
    not PACKAGES.exists() or not SHARED.exists(), reason=f"needs {PACKAGES} (FER_PACKAGES) and {SHARED}"
)
@pytest.mark.parametrize(
    ("network", "load", "pattern", "arrays"),
    [
        ("inception_v3", inception_v3.load, "**/inception_v3/model.min.js", "inception_v3_nsfwjs_notop.npz"),
        ("efficientnet_lite0", load_lite0, "**/efficientnet-lite0-57934424.pth", "efficientnet_lite0_imagenet.npz"),
    ],
)
def test_importers_reproduce_recorded_arrays_of_the_packages(network, load, pattern, arrays):
    model = registry.backbone_spec(network).build(96, 3)
    load(model, str(next(PACKAGES.glob(pattern))))
    recorded = np.load(SHARED / arrays)
    named = [
        (f"{layer.name}/{place}", values) for layer in model.layers for place, values in enumerate(layer.get_weights())
    ]
    if "/" in recorded.files[0]:
        expected = [recorded[name] for name, _ in named]
    else:
        named, expected = list(enumerate(model.get_weights())), [recorded[name] for name in sorted(recorded.files)]
    for (name, values), other in zip(named, expected):
        np.testing.assert_array_equal(values, other, err_msg=str(name))
