"""Every backbone of the registry: it builds, trains, survives its file, and sees the pixels that it should."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from fer import config
from fer.config import Model
from fer.models import classifier, dropout, heads, layer_groups, layer_surgery, pretrained, registry, weights
from fer.models.backbones import keras_cv_presets
from fer.models.normalization import NORMALIZATIONS
from fer.rng import BatchRng

FACES = np.random.default_rng(0).integers(0, 256, (2, 48, 48, 1), dtype=np.uint8)
# Cheap ones, which each `make test` builds; of each file or family one of the `EXTENDED`, for `make test-all`; the
# others are for `make test-models`.
CHEAP = ["tiny", "compact_s"]
EXTENDED = [
    "mini_xception",
    "googlenet",
    "googlenet_lrn",
    "resnet18",
    "dlib_resnet",
    "mobilefacenet",
    "mobilenet",
    "mobilenet_v3_small",
    "efficientnet_lite0",
    "efficientnet_v2_b0",
    "vgg16",
    "keras_cv/resnet18_v2",
]
ALL = [*registry.BACKBONES, *(f"keras_cv/{name}" for name in keras_cv_presets.PRESETS)]


def extended(*values) -> object:
    """Returns parameters of a test that `make test-all` runs, because it builds large networks."""
    return pytest.param(*values, marks=pytest.mark.extended)


def marked(name: str) -> object:
    return name if name in CHEAP else extended(name) if name in EXTENDED else pytest.param(name, marks=pytest.mark.slow)


@pytest.mark.parametrize("name", map(marked, ALL))
def test_backbone_trains_a_step_and_reloads_from_its_file(name, tmp_path):
    tf.keras.backend.clear_session()
    # At 32 pixels, features of 1x1 leave BatchNormalization two values a channel, and gradients explode.
    settings, path = (
        Model(name=name, image_size=max(registry.backbone_spec(name).min_size, 64)),
        str(tmp_path / "w.npz"),
    )
    model = classifier.build(settings, "float32", seed=1)
    with tf.GradientTape() as tape, dropout.dropout_rng(BatchRng(tf.constant([0, 0]), tf.range(2), 2)):
        losses = heads.losses(
            model(FACES, training=True), lambda logits: tf.nn.sparse_softmax_cross_entropy_with_logits([0, 3], logits)
        )
    gradients = tape.gradient(losses, model.trainable_variables)
    assert all(gradient is not None for gradient in gradients)
    optimizer = tf.keras.optimizers.SGD(1e-3, global_clipnorm=1.0, jit_compile=False)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables))
    logits = model(FACES).numpy()
    assert np.isfinite(logits).all()
    weights.save(model.weights, path)
    again = classifier.build(settings, "float32", seed=2)
    weights.load(again, path)
    np.testing.assert_array_equal(again(FACES), logits)
    _holds_no_hidden_chance(model)
    _is_divided_into_groups(model, settings)


def _holds_no_hidden_chance(model: tf.keras.Model) -> None:
    """Keras' and KerasCV's own dropout keeps a hidden state, which a resumed run would not have."""
    chance = (tf.keras.layers.Dropout, tf.keras.layers.GaussianNoise)
    found = [part.name for part in model.submodules if isinstance(part, chance) or "Stochastic" in type(part).__name__]
    assert found == []


def _is_divided_into_groups(model: tf.keras.Model, settings: Model) -> None:
    order = layer_groups.groups(model, settings)
    assert len({group.name for group in order}) == len(order) >= (3 if settings.name == "tiny" else 6)
    grouped = [id(weight) for group in order for weight in group.variables]
    assert sorted(grouped) == sorted(id(weight) for weight in model.weights)
    assert [group.depth for group in order] == list(range(len(order) - 1, -1, -1))


@pytest.mark.extended
@pytest.mark.parametrize(
    ("name", "parameters"),
    [("resnet18", 11_689_512), ("efficientnet_lite0", 4_652_008), ("googlenet_lrn", 6_998_552)],
)
def test_parameters_are_those_published(name, parameters):
    """With ImageNet's 1000 classes, trained ones only; GoogLeNet's of Caffe's model without auxiliary heads."""
    network = registry.backbone_spec(name).build(64, 3)
    trained = sum(weight.shape.num_elements() for weight in network.trainable_weights)
    assert trained + network.output_shape[-1] * 1000 + 1000 == parameters


@pytest.mark.extended
def test_mini_xception_has_the_parameters_of_its_authors():
    assert classifier.build(Model(name="mini_xception"), "float32").count_params() == 58_423


@pytest.mark.extended
@pytest.mark.parametrize("name", ["resnet18", "resnet18_v2", "efficientnetv2_b0"])
def test_presets_of_keras_cv_have_the_parameters_that_it_states(name):
    import keras_cv  # takes a second or more, which other tests need not spend

    kind = getattr(keras_cv.models, keras_cv_presets.PRESETS[name].kind)
    stated = kind.presets[name]["metadata"]["params"]
    assert keras_cv_presets.build(name, 32, 3).count_params() == stated


def features(model: tf.keras.Model) -> np.ndarray:
    return tf.keras.Model(model.input, model.get_layer("pool").input)(FACES).numpy()


@pytest.mark.parametrize(
    ("name", "application", "preprocess"),
    [
        extended("efficientnet_b0", "EfficientNetB0", lambda rgb: rgb),
        extended("efficientnet_v2_b0", "EfficientNetV2B0", lambda rgb: rgb),
        extended("mobilenet_v3_small", "MobileNetV3Small", lambda rgb: rgb),
        extended("convnext_tiny", "ConvNeXtTiny", lambda rgb: rgb),
        extended("mobilenet_v2", "MobileNetV2", tf.keras.applications.mobilenet_v2.preprocess_input),
        ("vgg16", "VGG16", tf.keras.applications.vgg16.preprocess_input),
    ],
)
def test_pixels_are_normalised_as_keras_own_model_does(name, application, preprocess):
    """The reference is the application with its own normalisation, given RGB in [0, 255]."""
    settings = Model(name=name, image_size=48)
    ours = classifier.build(settings, "float32", seed=1)
    reference = getattr(tf.keras.applications, application)(include_top=False, weights=None, input_shape=(48, 48, 3))
    pretrained.copy_weights(reference, classifier.get_backbone(ours), None)
    if name == "efficientnet_b0":  # ImageNet's statistics come with its weights: without them it is the identity
        norm = next(layer for layer in reference.layers if isinstance(layer, tf.keras.layers.Normalization))
        norm.set_weights([np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]) ** 2, np.array(0)])
    rgb = np.repeat(FACES.astype(np.float32), 3, axis=-1)
    np.testing.assert_allclose(features(ours), reference(preprocess(rgb)), rtol=1e-3, atol=1e-4)


@pytest.mark.extended
def test_efficientnet_from_random_weights_sees_normalised_pixels():
    """The trap: without ImageNet's weights Keras' own network leaves pixels in [0, 1]."""
    model = classifier.build(Model(name="efficientnet_b0", image_size=48), "float32")
    seen = tf.keras.Model(model.input, model.get_layer("pixels").output)(FACES).numpy()
    np.testing.assert_allclose(seen[..., 0], (FACES[..., 0] / 255 - 0.485) / 0.229, rtol=1e-5, atol=1e-5)
    assert seen.std() > 1


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("tiny_rgb", 24),
        extended("mobilenet", 48),
        extended("resnet50", 48),
        extended("efficientnet_b0", 47),
        extended("efficientnet_lite0", 48),
    ],
)
def test_summed_stem_kernels_give_what_three_channels_give(name, side, monkeypatch):
    """Also at the border, where zeros are padded after the normalisation, and with means that differ by channel."""
    in_colour = dataclasses.replace(registry.BACKBONES["tiny"], channels=3, normalization="torch")
    monkeypatch.setitem(registry.BACKBONES, "tiny_rgb", in_colour)
    repeat, grey = (Model(name=name, image_size=side, stem_channels=grey) for grey in ("repeat", "sum"))
    donor = registry.backbone_spec(name).build(side, 3)
    models = [classifier.build(settings, "float32") for settings in (repeat, grey)]
    for model, settings in zip(models, (repeat, grey)):
        pretrained.copy_weights(donor, classifier.get_backbone(model), classifier.channel_mixing(settings))
    first, second = (features(model) for model in models)
    np.testing.assert_allclose(first, second, rtol=1e-3, atol=1e-4 * np.abs(first).max())
    assert models[1].count_params() < models[0].count_params()


def test_config_names_of_normalizations_match_the_implemented_ones():
    assert tuple(NORMALIZATIONS) == config.NORMALIZATIONS


@pytest.mark.parametrize(
    ("name", "size", "cut", "channels", "blocks_before", "blocks_after"),
    [
        ("tiny", 24, "half", 8, ["half"], ["quarter"]),
        extended("inception_v3", 96, "mixed8", 1280, [f"mixed{n}" for n in range(9)], ["mixed9", "mixed10"]),
    ],
)
def test_truncate_ends_a_network_after_a_block(name, size, cut, channels, blocks_before, blocks_after):
    whole = classifier.build(Model(name=name, image_size=size), "float32")
    part = classifier.build(Model(name=name, image_size=size, truncate_at=cut), "float32")
    assert classifier.get_backbone(part).output_shape[-1] == channels
    for model, expected in ((whole, blocks_before + blocks_after), (part, blocks_before)):
        found = layer_surgery.split_into_blocks(
            classifier.get_backbone(model), registry.backbone_spec(name).block_end_pattern
        )
        assert [block.name for block in found] == expected
    assert part.count_params() < whole.count_params()


@pytest.mark.extended
def test_truncate_ends_a_network_after_a_nested_stem():
    model = classifier.build(Model(name="convnext_tiny", image_size=64, truncate_at="stem"), "float32")
    assert classifier.get_backbone(model).output_shape[1:] == (16, 16, 96)
    assert model(FACES).shape == (2, 7)


@pytest.mark.extended
def test_googlenets_auxiliary_heads_are_seen_in_training_only():
    model = classifier.build(Model(name="googlenet", image_size=64, aux_logits=True), "float32")
    assert model(FACES).shape == (2, 7)
    with dropout.dropout_rng(BatchRng(tf.constant([0, 0]), tf.range(2), 2)):
        outputs = model(FACES, training=True)
    assert [output.shape for output in outputs] == [(2, 7)] * 3
    assert {output.dtype for output in outputs} == {tf.float32}
    mean = [tf.reduce_mean(output, axis=1).numpy() for output in outputs]
    summed = heads.losses(outputs, lambda logits: tf.reduce_mean(logits, axis=1)).numpy()
    np.testing.assert_allclose(summed, mean[0] + 0.3 * (mean[1] + mean[2]), rtol=1e-5)
