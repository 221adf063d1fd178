"""Pretrained weights from Keras' cache and from files; real ones where they are available."""

import dataclasses
import pathlib
import re
import shutil
import sys
import zipfile
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from fer.config import Model
from fer.errors import UserError
from fer.labels import CLASSES
from fer.models import classifier, pretrained, registry, weights
from tests.evaluation import factories

FACES = np.random.default_rng(0).integers(0, 256, (2, 48, 48, 1), dtype=np.uint8)
data_utils = sys.modules[tf.keras.utils.get_file.__module__]  # of Keras 2, or of tf-keras, which carries it on
REAL = pathlib.Path(__file__).resolve().parents[3] / "shared" / "weights"


def loaded(**settings) -> tf.keras.Model:
    config = Model(**settings)
    model = classifier.build(config, "float32", seed=7)
    pretrained.load(model, config)
    return model


def features(model: tf.keras.Model) -> np.ndarray:
    return tf.keras.Model(model.input, model.get_layer("pool").input)(FACES).numpy()


class Donor(NamedTuple):
    """Published network with weights and its preprocessing."""

    name: str  # of the backbone in the registry
    network: tf.keras.Model
    preprocess: Callable[[tf.Tensor], tf.Tensor]  # grey in [0, 255], float32 [B, h, w, 1], to what the network takes

    def features(self, side: int) -> np.ndarray:
        return self.network(self.preprocess(tf.image.resize(FACES, [side, side]))).numpy()


def tiny_donor() -> Donor:
    """Returns the backbone `tiny` with random weights, those of its normalization included."""
    network, random = registry.backbone_spec("tiny").build(32, 1), np.random.default_rng(3)
    network.set_weights([random.uniform(0.5, 1, weight.shape).astype(np.float32) for weight in network.weights])
    return Donor("tiny", network, lambda grey: (grey - 129.5) / 65)


def mobilenet_donor() -> Donor:
    tf.keras.utils.set_random_seed(3)
    network = tf.keras.applications.MobileNet(include_top=False, weights=None, input_shape=(32, 32, 3))
    preprocess = tf.keras.applications.mobilenet.preprocess_input
    return Donor("mobilenet", network, lambda grey: preprocess(np.repeat(grey, 3, axis=-1)))


@pytest.fixture(scope="module")
def tiny() -> Donor:
    return tiny_donor()


@pytest.fixture(
    scope="module",
    params=[tiny_donor, pytest.param(mobilenet_donor, marks=pytest.mark.extended)],
    ids=["tiny", "mobilenet"],
)
def donor(request) -> Donor:
    return request.param()


@pytest.mark.parametrize(
    "kind", ["get_weights.npz", "unnamed.npz", "weights.h5", "layers.weights.h5", "model.keras", "by_layer.npz"]
)
def test_load_of_any_file_format_gives_the_network_features(donor, tmp_path, kind):
    path, network = str(tmp_path / kind), donor.network
    if kind == "get_weights.npz":
        np.savez(path, **{f"{place:03d}": array for place, array in enumerate(network.get_weights())})
    elif kind == "unnamed.npz":
        np.savez(path, *network.get_weights())
    elif kind == "by_layer.npz":
        arrays = {f"{x.name}/{i}": w for x in network.layers for i, w in enumerate(x.get_weights())}
        np.savez(path, **arrays, **{"old_head/0": np.zeros([3, 3])})
    elif kind == "model.keras":
        network.save(path)
    else:
        network.save_weights(path)
    expected = donor.features(32)
    model = loaded(name=donor.name, image_size=32, weights=path)
    np.testing.assert_allclose(features(model), expected, rtol=1e-3, atol=1e-4 * max(1, np.abs(expected).max()))


def numbered(side: int, channels: int) -> tf.keras.Model:
    """Builds a network whose layers Keras names, by its count of the layers in the process."""
    layers = tf.keras.layers
    x = inputs = tf.keras.Input([side, side, channels])
    for width in (4, 8, 16):
        x = layers.BatchNormalization()(layers.Conv2D(width, 3, use_bias=False)(x))
    return tf.keras.Model(inputs, layers.ReLU()(x), name="numbered")


@pytest.mark.parametrize(
    ("name", "side", "preprocess"),
    [
        ("numbered", 24, lambda grey: (grey - 129.5) / 65),
        pytest.param(
            "inception_v3",
            75,
            lambda grey: tf.keras.applications.inception_v3.preprocess_input(np.repeat(grey, 3, axis=-1)),
            marks=pytest.mark.extended,
        ),
    ],
)
def test_layers_that_keras_numbers_are_found_whatever_was_built_before(name, side, preprocess, tmp_path, monkeypatch):
    """In a process of its own the first is conv2d, and here the donor's are numbered after the classifier's."""
    monkeypatch.setitem(registry.BACKBONES, "numbered", dataclasses.replace(registry.BACKBONES["tiny"], build=numbered))
    chosen = registry.backbone_spec(name)
    source = chosen.build(side, chosen.channels)
    path = str(tmp_path / "fresh.npz")
    weighted = [layer for layer in source.layers if layer.weights]
    named = [re.fullmatch(r"(conv2d|batch_normalization)_?([0-9]*)", layer.name).groups() for layer in weighted]
    arrays = {}
    for layer, (family, number) in zip(weighted, named):
        place = int(number or 0) - min(int(other or 0) for kind, other in named if kind == family)
        for index, array in enumerate(layer.get_weights()):
            arrays[f"{family}_{place}/{index}" if place else f"{family}/{index}"] = array
    np.savez(path, **arrays)
    model = loaded(name=name, image_size=side, weights=path)
    expected = Donor(name, source, preprocess).features(side)
    np.testing.assert_allclose(features(model), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def numbered_arrays(first: int, count: int) -> dict[str, np.ndarray]:
    """Returns arrays of `numbered`, whose convolutions count from `first`; each holds the number of its layer."""
    shapes = [(3, 3, 3, 4), (3, 3, 4, 8), (3, 3, 8, 16), (3, 3, 16, 16)][:count]
    arrays = {f"conv2d_{first + i}/0": np.full(shape, first + i, np.float32) for i, shape in enumerate(shapes)}
    norms = {f"batch_normalization_{i}/{j}": np.ones(shapes[i][3], np.float32) for i in range(3) for j in range(4)}
    return {**arrays, **norms}


def test_set_arrays_matches_numbered_layers_by_order_only_if_the_file_has_as_many():
    donor = numbered(24, 3)
    pretrained.set_arrays(donor, numbered_arrays(100, 3), "weights.npz")
    kernels = [layer.get_weights()[0] for layer in donor.layers if isinstance(layer, tf.keras.layers.Conv2D)]
    assert [float(kernel.flat[0]) for kernel in kernels] == [100, 101, 102]
    first = next(layer.name for layer in donor.layers if isinstance(layer, tf.keras.layers.Conv2D))
    with pytest.raises(UserError, match=rf"weights\.npz holds no {first}/0, which numbered needs"):
        pretrained.set_arrays(donor, numbered_arrays(100, 4), "weights.npz")


def test_set_arrays_needs_no_arrays_of_normalization_layers():
    layers = tf.keras.layers
    inputs = tf.keras.Input([8, 8, 3])
    donor = tf.keras.Model(inputs, layers.Conv2D(2, 1, name="stem")(layers.Normalization(name="normalization")(inputs)))
    pretrained.set_arrays(donor, {"stem/0": np.ones([1, 1, 3, 2]), "stem/1": np.full([2], 5.0)}, "weights.npz")
    assert donor.get_layer("stem").get_weights()[1].tolist() == [5, 5]


def test_load_of_a_whole_classifier_includes_its_head(tmp_path):
    path = str(tmp_path / "w.npz")
    source = classifier.build(Model(name="tiny", image_size=24), "float32", seed=1)
    weights.save(source.weights, path)
    model = loaded(name="tiny", image_size=24, weights=path)
    np.testing.assert_array_equal(model(FACES), source(FACES))


def test_imagenets_weights_are_those_of_the_network_that_the_registry_names(tiny, monkeypatch):
    entry = dataclasses.replace(registry.BACKBONES["tiny"], imagenet=lambda side: {32: tiny.network}[side])
    monkeypatch.setitem(registry.BACKBONES, "tiny", entry)
    expected = tiny.features(32)
    found = features(loaded(name="tiny", image_size=32, weights="imagenet"))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.extended
def test_imagenet_comes_through_keras_cache(tmp_path, monkeypatch):
    path = str(tmp_path / "cached.h5")
    mobilenet_donor().network.save_weights(path)
    monkeypatch.setattr(data_utils, "get_file", lambda *arguments, **named: path)
    one = loaded(name="mobilenet", image_size=32, weights="imagenet")
    other = loaded(name="mobilenet", image_size=32, weights=path)
    np.testing.assert_array_equal(features(one), features(other))


def test_load_offline_error_names_file_and_place(tmp_path, monkeypatch):
    def failing(fname, origin, **_):
        raise Exception(f"URL fetch failure on {origin}: None -- no network")  # the message of Keras' get_file

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(data_utils, "get_file", failing)
    with pytest.raises(UserError) as caught:
        loaded(name="vgg16", image_size=32, weights="imagenet")
    name = "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
    assert f"put it at {tmp_path}/.keras/models/{name}" in str(caught.value)
    assert f"fetch https://storage.googleapis.com/tensorflow/keras-applications/vgg16/{name}" in str(caught.value)


def test_load_rejects_imagenet_for_backbone_without_it():
    with pytest.raises(UserError, match="not published for tiny"):
        loaded(name="tiny", image_size=32, weights="imagenet")


@pytest.fixture(scope="module")
def other() -> tf.keras.Model:
    """Network of another architecture than `tiny`."""
    return registry.backbone_spec("compact_s").build(32, 1)


@pytest.mark.parametrize("kind", ["npz", "h5", "keras"])
def test_load_error_names_difference_of_another_architecture(other, tmp_path, kind):
    path = str(tmp_path / f"other.{kind}")
    if kind == "npz":
        np.savez(path, **{f"{place:03d}": array for place, array in enumerate(other.get_weights())})
    elif kind == "h5":
        other.save_weights(path)
    else:
        other.save(path)
    with pytest.raises(UserError, match=rf"other\.{kind}"):
        loaded(name="tiny", image_size=32, weights=path)


@pytest.mark.parametrize("name", ["absent.npz", "absent.h5", "absent.keras"])
def test_load_error_names_absent_file(name, tmp_path):
    with pytest.raises(UserError, match=f"There is no weights file .*{name}"):
        loaded(name="tiny", image_size=32, weights=str(tmp_path / name))


def test_pickles_and_descriptions_of_models_are_never_run(tiny, tmp_path):
    """Only the arrays of a .keras archive are read; an unreadable description of the model is ignored."""
    good, odd = tmp_path / "good.keras", tmp_path / "odd.keras"
    tiny.network.save(good)
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(odd, "w") as target:
        for entry in source.namelist():
            target.writestr(entry, b"{}" if entry == "config.json" else source.read(entry))
    model = loaded(name="tiny", image_size=32, weights=str(odd))
    np.testing.assert_array_equal(features(model), features(loaded(name="tiny", image_size=32, weights=str(good))))
    np.savez(tmp_path / "pickled.npz", np.array([{"never": "unpickled"}], dtype=object))
    with pytest.raises(UserError, match=r"pickled\.npz"):
        loaded(name="tiny", image_size=32, weights=str(tmp_path / "pickled.npz"))


def real(name: str) -> str:
    if not (REAL / name).exists():
        pytest.skip(f"the real weights are not at hand: no {REAL / name}")
    return str(REAL / name)


@pytest.mark.extended
@pytest.mark.parametrize("grey", ["repeat", "sum"])
@pytest.mark.parametrize(
    ("name", "side", "pixels", "file", "application", "preprocess"),
    [
        ("inception_v3", 80, "unit", "inception_v3_nsfwjs_notop.npz", "InceptionV3", lambda rgb: rgb / 255),
        (
            "mobilenet",
            112,  # at 48 pixels all features of both files are zero
            "caffe",
            "mobilenet_v1_hse_face_notop.npz",
            "MobileNet",
            lambda rgb: rgb[..., ::-1] - [103.939, 116.779, 123.68],
        ),
        (
            "mobilenet",
            112,
            "caffe",
            "mobilenet_v1_hse_faceres_notop.npz",
            "MobileNet",
            lambda rgb: rgb[..., ::-1] - [103.939, 116.779, 123.68],
        ),
    ],
    ids=["inception", "mobilenet", "mobilenet-faceres"],
)
def test_real_weights_give_what_keras_gives(name, side, pixels, file, application, preprocess, grey):
    path = real(file)
    reference = getattr(tf.keras.applications, application)(
        include_top=False, weights=None, input_shape=(side,) * 2 + (3,)
    )
    with np.load(path) as arrays:
        reference.set_weights([arrays[key] for key in sorted(arrays.files)])
    rgb = np.repeat(tf.image.resize(FACES, [side, side]).numpy(), 3, axis=-1)
    expected = reference(preprocess(rgb).astype(np.float32)).numpy()
    assert np.isfinite(expected).all()
    assert expected.std(axis=0).max() > 0
    model = loaded(name=name, image_size=side, normalization=pixels, weights=path, stem_channels=grey)
    np.testing.assert_allclose(features(model), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.extended
def test_real_efficientnet_lite0_gives_what_its_layers_give_by_hand():
    path = real("efficientnet_lite0_imagenet.npz")
    with np.load(path) as archive:
        arrays = dict(archive)
    x = (np.repeat(FACES.astype(np.float32), 3, axis=-1) - 127) / 128
    x = _lite(x, arrays)
    model = loaded(name="efficientnet_lite0", image_size=48, weights=path)
    np.testing.assert_allclose(features(model), x, rtol=1e-3, atol=1e-3)


def _lite(x: tf.Tensor, arrays: dict) -> tf.Tensor:
    """Computes EfficientNet-Lite0 with TensorFlow ops, from the tables of its publication."""

    def norm(x: tf.Tensor, name: str) -> tf.Tensor:
        gamma, beta, mean, variance = (arrays[f"{name}/{index}"] for index in range(4))
        return (x - mean) / np.sqrt(variance + 1e-3) * gamma + beta

    def convolution(x: tf.Tensor, name: str, stride: int = 1) -> tf.Tensor:
        return tf.nn.conv2d(x, arrays[f"{name}/0"], stride, "SAME")

    x = tf.nn.relu6(norm(convolution(x, "stem_conv", 2), "stem_bn"))
    strides = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1]
    for block, stride in enumerate(strides):
        name, inputs = f"block{block}", x
        if block:
            x = tf.nn.relu6(norm(convolution(x, f"{name}_expand_conv"), f"{name}_expand_bn"))
        x = tf.nn.depthwise_conv2d(x, arrays[f"{name}_dwconv/0"], [1, stride, stride, 1], "SAME")
        x = tf.nn.relu6(norm(x, f"{name}_dw_bn"))
        x = norm(convolution(x, f"{name}_project_conv"), f"{name}_project_bn")
        x = x + inputs if x.shape == inputs.shape else x
    return tf.nn.relu6(norm(convolution(x, "head_conv"), "head_bn"))


@pytest.fixture(scope="module")
def own_run(tmp_path_factory) -> str:
    """Returns the weights file of a run with three classes of its own."""
    folder = tmp_path_factory.mktemp("own") / "run"
    factories.run(folder, seed=1, classes=("bored", "happy", "tired"))
    return str(folder / "checkpoints" / "best-00000012.npz")


def test_load_keeps_random_head_when_file_has_other_classes(own_run, tmp_path, capsys):
    """The second set has the same number of classes, and the last file lies beside no config.json."""
    alone = str(shutil.copy(own_run, tmp_path))
    saved = list(weights.read(own_run).values())
    for path, classes, line in (
        (own_run, CLASSES, f"{own_run} has the classes bored, happy, tired, and the data have angry, disgust, fear, "),
        (own_run, ("x", "y", "z"), f"{own_run} has the classes bored, happy, tired, and the data have x, y, z."),
        (alone, CLASSES, f"{alone} has another number of classes than the data, which have 7."),
    ):
        config = dataclasses.replace(factories.EXPERIMENT.model, weights=path)
        model = classifier.build(config, "float32", seed=7, classes=len(classes))
        head = [weight.numpy() for weight in model.get_layer("logits").weights]
        pretrained.load(model, config, classes)
        assert capsys.readouterr().out.startswith(f"The head is new: {line}")
        for weight, before in zip(model.get_layer("logits").weights, head):
            np.testing.assert_array_equal(weight, before)
        for weight, array in list(zip(model.weights, saved))[:-2]:
            np.testing.assert_array_equal(weight, array)


@pytest.mark.extended
def test_load_keeps_auxiliary_heads_when_file_has_other_classes(tmp_path, capsys):
    config = Model(name="googlenet", image_size=48, aux_logits=True, weights=str(tmp_path / "googlenet.npz"))
    weights.save(classifier.build(config, "float32", seed=1, classes=3).weights, config.weights)
    model = classifier.build(config, "float32", seed=7)
    before = model.get_layer("auxiliary1_logits").get_weights()
    pretrained.load(model, config)
    assert "The head is new" in capsys.readouterr().out
    np.testing.assert_array_equal(model.get_layer("auxiliary1_logits").get_weights()[0], before[0])
    theirs = classifier.build(config, "float32", seed=1, classes=3)
    np.testing.assert_array_equal(
        model.get_layer("auxiliary1_dense").get_weights()[0], theirs.get_layer("auxiliary1_dense").get_weights()[0]
    )


def test_load_takes_the_head_of_the_same_classes(own_run, capsys):
    config = dataclasses.replace(factories.EXPERIMENT.model, weights=own_run)
    model = classifier.build(config, "float32", seed=7, classes=3)
    pretrained.load(model, config, ("bored", "happy", "tired"))
    assert capsys.readouterr().out == ""
    for weight, array in zip(model.weights, weights.read(own_run).values()):
        np.testing.assert_array_equal(weight, array)
