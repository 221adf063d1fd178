"""Run directories open as trained, or raise an error that names the fault."""

import dataclasses
import hashlib
import json
import pathlib
import random
import shutil

import numpy as np
import pytest
import tensorflow as tf

from fer.config import Train
from fer.errors import UserError
from fer.labels import CLASSES
from fer.models import classifier, loading, precision, weights
from fer.run_dir import EPOCH_FIELDS, RunDir
from tests.evaluation import factories


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> str:
    return factories.run(tmp_path_factory.mktemp("runs") / "run", seed=3)


@pytest.fixture
def workdir(trained, tmp_path) -> pathlib.Path:
    return pathlib.Path(shutil.copytree(trained, tmp_path / "run"))


def change(path: pathlib.Path, **fields) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_loaded_model_computes_the_trained_output(workdir):
    trained = classifier.build(factories.EXPERIMENT.model, "float32", seed=3)
    faces = factories.images(4)
    np.testing.assert_array_equal(loading.open_run(str(workdir)).model(faces), trained(faces))


def test_open_run_does_not_reset_the_global_random_state(workdir):
    def draw(seed: int) -> tuple[float, ...]:
        tf.keras.utils.set_random_seed(seed)
        loading.open_run(str(workdir))
        return random.random(), np.random.random(), float(tf.random.uniform([]))

    assert all(first != second for first, second in zip(draw(1), draw(2)))


def test_loaded_run_states_origin_of_its_weights(workdir):
    opened = loading.open_run(str(workdir))
    assert (opened.step, opened.selected_on, opened.trained_on) == (12, "validation", factories.TRAINED_ON)
    assert opened.config == factories.EXPERIMENT


def test_read_history_returns_what_was_written(workdir):
    assert RunDir(str(workdir)).read_history(required=True) == json.loads((workdir / "history.json").read_text())


def test_open_run_error_names_absent_folder(tmp_path):
    with pytest.raises(UserError, match=r"no run folder .*nowhere"):
        loading.open_run(str(tmp_path / "nowhere"))


def test_open_run_without_best_checkpoint_asks_to_train_first(workdir):
    (workdir / "best.json").unlink()
    with pytest.raises(UserError, match="train first"):
        loading.open_run(str(workdir))


def test_open_run_error_names_missing_weights(workdir):
    (workdir / "checkpoints" / "best-00000012.npz").unlink()
    with pytest.raises(UserError, match=r"no weights file .*best-00000012\.npz"):
        loading.open_run(str(workdir))


def test_open_run_rejects_weights_with_a_flipped_bit(workdir):
    file = workdir / "checkpoints" / "best-00000012.npz"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"best-00000012\.npz is not the file that best\.json names"):
        loading.open_run(str(workdir))


def test_open_run_rejects_weights_of_another_architecture(workdir):
    file = workdir / "checkpoints" / "best-00000012.npz"
    weights.save(tf.keras.Sequential([tf.keras.Input([48, 48, 1]), tf.keras.layers.Conv2D(8, 3)]).weights, str(file))
    change(workdir / "best.json", sha256=hashlib.sha256(file.read_bytes()).hexdigest())
    with pytest.raises(UserError, match="another architecture"):
        loading.open_run(str(workdir))


def test_open_run_rejects_config_edited_by_hand(workdir):
    config = {**factories.EXPERIMENT.to_dict(), "seed": 1}
    change(workdir / "config.json", config=config)
    with pytest.raises(UserError, match=r"config\.json was changed by hand"):
        loading.open_run(str(workdir))


def test_open_run_rejects_config_with_unknown_fields(workdir):
    change(workdir / "config.json", config={**factories.EXPERIMENT.to_dict(), "colour": "blue"})
    with pytest.raises(UserError, match=r"another version of fer: .*colour"):
        loading.open_run(str(workdir))


def test_open_run_resolves_precision_auto(workdir, monkeypatch):
    monkeypatch.setattr(precision, "best_precision", lambda: ("float32", "this test runs on any machine"))
    experiment = dataclasses.replace(factories.EXPERIMENT, train=Train(precision="auto"))
    change(workdir / "config.json", config=experiment.to_dict(), config_sha256=experiment.sha256())
    opened = loading.open_run(str(workdir))
    assert opened.precision == "float32"
    assert opened.model(factories.images(2)).dtype == tf.float32


def test_open_run_computes_in_float32_what_this_machine_cannot_compute_otherwise(workdir, monkeypatch):
    experiment = dataclasses.replace(factories.EXPERIMENT, train=Train(precision="mixed_bfloat16"))
    change(workdir / "config.json", config=experiment.to_dict(), config_sha256=experiment.sha256())
    monkeypatch.setattr(precision, "is_computable", lambda name: name == "float32")
    assert loading.open_run(str(workdir)).precision == "float32"


@pytest.mark.parametrize("field", list(EPOCH_FIELDS))
@pytest.mark.parametrize("value", [None, "1", -1, True, [], {"a": 1}, float("nan"), float("inf"), 10**400])
def test_read_history_error_names_the_field_of_a_damaged_entry(workdir, field, value):
    (entry,) = json.loads((workdir / "history.json").read_text())
    (workdir / "history.json").write_text(json.dumps([entry, {**entry, field: value}]))
    with pytest.raises(UserError, match=rf"history\.json, entry 2: {field} is .*, which no epoch has: it is damaged"):
        RunDir(str(workdir)).read_history(required=True)
    (workdir / "history.json").write_text(json.dumps([{name: entry[name] for name in entry if name != field}]))
    with pytest.raises(UserError, match=rf"history\.json, entry 1: {field} is None"):
        RunDir(str(workdir)).read_history(required=True)


@pytest.mark.parametrize("file", ["config.json", "best.json", "history.json"])
@pytest.mark.parametrize("content", ['{"cut": ', "[]", "{}", "3"], ids=["cut", "list", "empty", "number"])
def test_open_run_error_names_damaged_record(workdir, file, content):
    (workdir / file).write_text(content)
    with pytest.raises(UserError, match=file.replace(".", r"\.")):
        RunDir(str(workdir)).read_history(required=True) if file == "history.json" else loading.open_run(str(workdir))


def test_open_run_finds_run_beside_an_export(workdir):
    (workdir.parent / "export.json").write_text("{}")
    assert loading.results_folder(str(workdir)) == str(workdir)


@pytest.mark.parametrize("place", ["../best.npz", "{folder}/best.npz", "checkpoints/../../best.npz"])
def test_best_json_that_leads_out_of_the_run_is_rejected(workdir, place):
    name = json.loads((workdir / "best.json").read_text())["file"]
    shutil.copy(workdir / name, workdir.parent / "best.npz")
    change(workdir / "best.json", file=place.format(folder=workdir.parent))
    with pytest.raises(
        UserError, match=r"best\.json names the file '.*best\.npz', which is not in .*: it is damaged or not"
    ):
        loading.open_run(str(workdir))


OWN = ("bored", "happy")


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> str:
    """Returns a run with two classes of its own."""
    return factories.run(tmp_path_factory.mktemp("own") / "run", seed=3, classes=OWN)


def test_open_run_builds_a_logit_for_each_recorded_class(own, trained):
    opened = loading.open_run(own)
    assert (opened.classes, opened.model.output_shape) == (OWN, (None, 2))
    assert loading.open_run(trained).classes == CLASSES  # not recorded


def test_read_classes_error_names_networks_with_different_classes(own, trained):
    assert loading.read_classes([own]) == OWN
    assert loading.read_classes([trained, "bundled"]) == CLASSES
    with pytest.raises(UserError, match=f"^{own} has the classes bored, happy, and bundled has angry, disgust, fear, "):
        loading.read_classes([own, "bundled"])


def test_check_same_classes_names_order_to_convert_to():
    loading.check_same_classes("a", OWN, "b", list(OWN))
    with pytest.raises(UserError, match=r"their order differs; convert the data again with --classes=bored,happy\.$"):
        loading.check_same_classes("a", OWN, "b", OWN[::-1])
    many = [f"class {number}" for number in range(100)]
    with pytest.raises(
        UserError, match=r"^a has the classes class 0, .*, class 11 and 88 more, and b has bored, happy: "
    ):
        loading.check_same_classes("a", many, "b", OWN)
