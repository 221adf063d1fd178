"""Tests of delta weights, on a network with small arrays and one large array."""

import dataclasses
import json
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf

from fer.config import Experiment, Model, Train
from fer.errors import UserError
from fer.export import weight_delta
from fer.models import classifier, loading, registry, weights
from fer.run_dir import RunDir
from tests.evaluation import factories

MODEL = Model(name="small", image_size=32, stem_channels="sum", truncate_at="block2")
EXPERIMENT = Experiment(model=MODEL, train=Train(precision="float32"))


def build_small(side: int, channels: int) -> tf.keras.Model:
    """Builds a backbone of four convolutions, because each test builds several, and a published one takes a second.

    The convolution of the second block is the only large array before the truncation, and is most of the weights.
    """
    inputs = tf.keras.Input([side, side, channels])
    x = inputs
    for name, width in (("stem", 16), ("block1", 24), ("block2", 128), ("block3", 16)):
        x = tf.keras.layers.Conv2D(width, 3, strides=2, use_bias=False, padding="same", name=f"{name}_conv")(x)
        x = tf.keras.layers.ReLU(name=f"{name}_relu")(tf.keras.layers.BatchNormalization(name=f"{name}_bn")(x))
    return tf.keras.Model(inputs, x, name="small")


@pytest.fixture(scope="module", autouse=True)
def register_small():
    """Registers the backbone with three channels in the network as published."""
    backbone = dataclasses.replace(
        registry.BACKBONES["mobilenet"], build=build_small, block_end_pattern=r"(stem|block\d+)_relu"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.BACKBONES, "small", backbone)
        yield


def save_base(path: pathlib.Path, seed: int) -> str:
    """Writes random weights of the whole backbone with three channels, as `fer-import-weights` does."""
    spec = registry.backbone_spec("small")
    model = spec.build(32, spec.channels)
    random = np.random.default_rng(seed)
    model.set_weights([random.normal(size=array.shape).astype(np.float32) for array in model.get_weights()])
    weights.save(model.weights, str(path))
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, register_small) -> pathlib.Path:
    """Returns a folder with base weights, a run that was fine-tuned from them, its delta and the restored run."""
    folder = tmp_path_factory.mktemp("delta")
    base = save_base(folder / "base.npz", seed=0)
    factories.run(folder / "run", experiment=EXPERIMENT)
    initial = weight_delta._load_base(EXPERIMENT, base, factories.CLASSES).get_weights()
    random = np.random.default_rng(1)
    trained = [array + random.normal(scale=0.01, size=array.shape).astype(np.float32) for array in initial]
    model = classifier.build(MODEL, "float32")
    model.set_weights(trained)
    RunDir(str(folder / "run")).write_best(
        weights.to_bytes(model.weights), {"step": 12, "epoch": 1, "validation_accuracy": 0.5}
    )
    weight_delta.make_delta(str(folder / "run"), base, str(folder / "delta"))
    weight_delta.apply_delta(str(folder / "delta"), base, str(folder / "restored"))
    return folder


def test_restored_run_has_the_weights_of_the_run_up_to_rounding_of_the_differences(folder):
    run, restored = (loading.open_run(str(folder / name)).model.get_weights() for name in ("run", "restored"))
    large = [array.size >= weight_delta.MIN_ROUNDED for array in run]
    assert any(large)
    assert not all(large)
    for ours, theirs, is_large in zip(run, restored, large):
        # Differences are below 0.1; float16 has a relative precision of 2^-11, float32 of 2^-24.
        np.testing.assert_allclose(theirs, ours, rtol=0, atol=0.1 * 2**-11 if is_large else 1e-6)


def test_delta_holds_no_array_of_the_base_or_of_the_run(folder):
    """But the head, which the base does not have."""
    differences = list(weights.read(str(folder / "delta" / "delta.npz")).values())
    run = loading.open_run(str(folder / "run")).model.get_weights()
    assert all(np.linalg.norm(each) < 0.2 * np.linalg.norm(whole) for each, whole in zip(differences[:-2], run[:-2]))


def test_restored_run_keeps_config_step_and_accuracy(folder):
    run, restored = (loading.open_run(str(folder / name)) for name in ("run", "restored"))
    assert (restored.config_sha256, restored.step, restored.classes) == (run.config_sha256, run.step, run.classes)
    assert RunDir(str(folder / "restored")).read_best().accuracy == 0.5


def test_delta_takes_less_bytes_than_the_weights(folder):
    (best,) = (folder / "run" / "checkpoints").iterdir()
    assert (folder / "delta" / "delta.npz").stat().st_size < 0.75 * best.stat().st_size


def test_open_run_names_the_program_that_restores_a_delta(folder):
    with pytest.raises(UserError, match=r"delta holds the delta of a run: restore the run with .*weight_delta"):
        loading.open_run(str(folder / "delta"))


@pytest.mark.parametrize("share", [pytest.param(0.01, marks=pytest.mark.extended), 0.001])
@pytest.mark.parametrize("seed", range(5))
def test_apply_delta_rejects_base_weights_that_differ_a_little(folder, tmp_path, share, seed):
    """As those of a run that was fine-tuned from the base weights do; `share` is relative to the weights."""
    random = np.random.default_rng(seed)
    arrays = {
        key: array + np.float32(share) * random.normal(size=array.shape).astype(np.float32)
        for key, array in weights.read(str(folder / "base.npz")).items()
    }
    np.savez(tmp_path / "other.npz", **arrays)
    with pytest.raises(
        UserError, match=r"other\.npz holds other weights than the base\.npz that .*delta was made with"
    ):
        weight_delta.apply_delta(str(folder / "delta"), str(tmp_path / "other.npz"), str(tmp_path / "wrong"))
    assert not (tmp_path / "wrong").exists()


def test_apply_delta_accepts_base_weights_that_differ_by_rounding(folder, tmp_path):
    arrays = {key: array * np.float32(1 + 1e-6) for key, array in weights.read(str(folder / "base.npz")).items()}
    np.savez(tmp_path / "base.npz", **arrays)
    weight_delta.apply_delta(str(folder / "delta"), str(tmp_path / "base.npz"), str(tmp_path / "restored"))
    assert loading.open_run(str(tmp_path / "restored")).step == 12


def test_apply_delta_rejects_an_existing_folder(folder):
    with pytest.raises(UserError, match="run exists and is not empty"):
        weight_delta.apply_delta(str(folder / "delta"), str(folder / "base.npz"), str(folder / "run"))


def test_apply_delta_rejects_a_delta_of_another_architecture(folder, tmp_path):
    shutil.copytree(folder / "delta", tmp_path / "delta")
    other = dataclasses.replace(EXPERIMENT, model=dataclasses.replace(MODEL, truncate_at="block1"))
    factories.run(tmp_path / "run", experiment=other)
    shutil.copy(tmp_path / "run" / "config.json", tmp_path / "delta" / "config.json")
    with pytest.raises(UserError, match=r"delta\.npz belongs to another architecture"):
        weight_delta.apply_delta(str(tmp_path / "delta"), str(folder / "base.npz"), str(tmp_path / "restored"))


@pytest.mark.parametrize("present", ["best.json", "checkpoints/step-00000008/checkpoint.json", "config.json"])
def test_make_delta_rejects_another_run_as_output(folder, tmp_path, present):
    (tmp_path / present).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / present).write_text("{}")
    with pytest.raises(UserError, match=r"is a run directory|holds the config\.json of another run"):
        weight_delta.make_delta(str(folder / "run"), str(folder / "base.npz"), str(tmp_path))
    assert (tmp_path / present).read_text() == "{}"
    assert not (tmp_path / "delta.npz").exists()


def test_make_delta_writes_beside_the_records_of_the_same_run(folder, tmp_path):
    for name in ("config.json", "history.json"):
        shutil.copy(folder / "run" / name, tmp_path / name)
    weight_delta.make_delta(str(folder / "run"), str(folder / "base.npz"), str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.json",
        "delta.json",
        "delta.npz",
        "history.json",
    ]


@pytest.mark.parametrize("workdir", ["bundled", loading.bundle_folder()], ids=["name", "folder"])
def test_make_delta_rejects_the_bundled_network(folder, tmp_path, workdir):
    with pytest.raises(UserError, match=f"--workdir={workdir} is a bundle, which is distributed as it is"):
        weight_delta.make_delta(workdir, str(folder / "base.npz"), str(tmp_path / "delta"))


def test_make_delta_rejects_differences_beyond_float16(folder, tmp_path):
    shutil.copytree(folder / "run", tmp_path / "run")
    model = loading.open_run(str(tmp_path / "run")).model
    model.set_weights([array + np.float32(7e4) for array in model.get_weights()])
    RunDir(str(tmp_path / "run")).write_best(
        weights.to_bytes(model.weights), {"step": 12, "epoch": 1, "validation_accuracy": 0.5}
    )
    with pytest.raises(UserError, match="differs from its base weights by more than float16 holds"):
        weight_delta.make_delta(str(tmp_path / "run"), str(folder / "base.npz"), str(tmp_path / "delta"))
    assert not (tmp_path / "delta").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"step": "12"}, r"delta\.json has no step of type int"),
        ({"checksums": [1.0, None]}, r"delta\.json has a checksum that is no number"),
        ({"checksums": []}, "holds other weights"),
    ],
)
def test_apply_delta_error_names_a_damaged_record(folder, tmp_path, changes, message):
    shutil.copytree(folder / "delta", tmp_path / "delta")
    record = json.loads((folder / "delta" / "delta.json").read_text())
    (tmp_path / "delta" / "delta.json").write_text(json.dumps({**record, **changes}))
    with pytest.raises(UserError, match=message):
        weight_delta.apply_delta(str(tmp_path / "delta"), str(folder / "base.npz"), str(tmp_path / "restored"))
