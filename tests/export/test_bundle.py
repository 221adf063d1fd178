"""Tests of the bundled network: made from a run, evaluated again, described by a card made from its eval.json."""

import dataclasses
import html
import json
import pathlib
import re
import shutil

import numpy as np
import pytest
from markdown_it import MarkdownIt

from fer.config import Train
from fer.errors import UserError
from fer.evaluation import eval_json, inference
from fer.evaluation.eval_options import EvalRequest
from fer.export import bundle, model_card
from fer.models import loading, precision, weights
from fer.run_dir import RunDir, Teacher
from tests.evaluation import factories
from tests.evaluation.test_eval_json import build

COUNT = 40
LABELS = np.arange(COUNT) % 7
PRECISION = "mixed_float16" if precision.is_computable("mixed_float16") else "float32"  # of the run; opening checks it
EXPERIMENT = dataclasses.replace(factories.EXPERIMENT, seed=5, train=Train(precision=PRECISION))


def faces() -> np.ndarray:
    """Returns the images of the validation split; the first one is also in the train split."""
    return factories.images(COUNT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("bundle")
    factories.run(folder / "run", seed=3, experiment=EXPERIMENT)
    factories.shards(folder / "faces", {"train": (faces()[:1], LABELS[:1]), "validation": (faces(), LABELS)})
    return folder


@pytest.fixture(scope="module")
def bundled(folder) -> bundle.Bundle:
    return bundle.make_bundle(str(folder / "run"), str(folder / "faces"), str(folder / "weights"))


@pytest.fixture
def in_package(bundled, folder, monkeypatch) -> None:
    """Makes the bundle that of the package."""
    monkeypatch.setattr(loading, "bundle_folder", lambda: str(folder / "weights"))


def test_bundle_weights_are_those_of_run_in_float16(bundled, folder):
    exact = weights.read(str(folder / "run" / "checkpoints" / "best-00000012.npz"))
    rounded = weights.read(str(folder / "weights" / "weights.npz"))
    assert list(exact) == list(rounded)
    for name, array in rounded.items():
        np.testing.assert_array_equal(array, exact[name].astype(np.float16))
        assert array.dtype == np.float16
    assert bundled.bytes == (folder / "weights" / "weights.npz").stat().st_size


def test_bundled_opens_network_of_package_in_float32(in_package, folder):
    opened = loading.open_run("bundled")
    assert (opened.workdir, opened.precision, opened.step) == ("bundled", "float32", 12)
    assert {layer.compute_dtype for layer in opened.model.layers} <= {"float32", "uint8"}
    rounded = list(weights.read(str(folder / "weights" / "weights.npz")).values())
    for variable, array in zip(opened.model.get_weights(), rounded):
        np.testing.assert_array_equal(variable, array.astype(np.float32))


def test_bundle_eval_json_is_of_float16_weights(in_package, folder):
    content = eval_json.read_eval(str(folder / "weights" / "eval.json"))
    opened = loading.open_run("bundled")
    member = content["protocol"]["members"][0]
    assert (member["workdir"], member["weights_sha256"]) == ("bundled", opened.weights_sha256)
    assert content["accuracy"] == accuracy(opened)


def accuracy(opened: loading.LoadedRun) -> float:
    """Returns the accuracy of a run on the validation split."""
    return float((inference.predict([opened.model], faces()).probabilities.argmax(axis=1) == LABELS).mean())


def test_bundle_accuracy_loss_is_difference_to_float32_weights(bundled, folder):
    exact, rounded = (accuracy(loading.open_folder(str(folder / name), "float32")) for name in ("run", "weights"))
    assert bundled.accuracy_loss == pytest.approx(exact - rounded)


def test_card_depends_on_eval_json_and_config_json_only(bundled, folder):
    content = eval_json.read_eval(str(folder / "weights" / "eval.json"))
    config = RunDir(str(folder / "run")).read_config()
    card = (folder / "weights" / "MODEL_CARD.md").read_text()
    assert card == model_card.build_card(content, config)
    low, high = content["accuracy_ci95"]
    assert f"| accuracy | {content['accuracy']:.4f} | {low:.4f}-{high:.4f} |" in card
    for name, scores in content["per_class"].items():
        assert f"| {name} | {scores['support']} | {scores['precision']:.4f} | {scores['recall']:.4f} |" in card
    assert "1 of the evaluated faces are also in the train split of the same shards" in " ".join(card.split())
    content["data"]["manifest_sha256"] = config.trained_on["manifest_sha256"]
    card = model_card.build_card(content, config)
    assert "1 of the evaluated faces are also in the training data" in " ".join(card.split())
    assert re.findall(r"^## (.+)$", card, re.MULTILINE) == [
        "Model details",
        "Intended use",
        "Out-of-scope use",
        "Training data",
        "Evaluation",
        "Metrics",
        "Limitations and biases",
        "License",
    ]
    assert max(map(len, card.splitlines())) <= 120


def test_card_states_accuracy_without_train_photographs(bundled, folder):
    content = eval_json.read_eval(str(folder / "weights" / "eval.json"))
    config = RunDir(str(folder / "run")).read_config()
    assert "Shared photographs" not in model_card.build_card(content, config)
    content["excluding_train_photos"] = {"num_duplicates": 1009, "accuracy": 0.6702, "lookup_accuracy": 0.7317}
    card = " ".join(model_card.build_card(content, config).split())
    assert "1,009 of the evaluated faces are cut from photographs that are also in the train split" in card
    assert "Without them, the accuracy is 67.0 %." in card


def test_card_states_when_all_faces_are_in_train_split(bundled, folder):
    content = eval_json.read_eval(str(folder / "weights" / "eval.json"))
    config = RunDir(str(folder / "run")).read_config()
    data = {**content["data"], "examples_per_split": {"train": 100, "validation": 60}}
    leaked = {**content, "data": data, "excluding_train_duplicates": None, "excluding_train_photos": None}
    card = " ".join(model_card.build_card(leaked, config).split())
    assert "all of the evaluated faces are also in" in card
    assert "all of the evaluated faces are cut from photographs that are in" in card


def test_card_of_own_classes_states_nothing_about_fer2013(bundled, folder):
    config = dataclasses.replace(RunDir(str(folder / "run")).read_config(), classes=("bored *b*", "happy <b>"))
    content = {**build(classes=config.classes), "excluding_train_duplicates": None}
    card = " ".join(model_card.build_card(content, config).split())
    assert "Output: two logits in the order bored \\*b\\*, happy &lt;b&gt;." in card
    assert "predicts which of two words" in card
    assert "with 2 classes of its own" in card
    assert not re.findall("FER-2013|Goodfellow|seven|2013 showed", card)


def test_card_names_teacher_of_distilled_network(bundled, folder):
    content = eval_json.read_eval(str(folder / "weights" / "eval.json"))
    config = RunDir(str(folder / "run")).read_config()
    assert "distillation" not in model_card.build_card(content, config)
    assert "on those images and are offered" in " ".join(model_card.build_card(content, config).split())
    config = dataclasses.replace(config, teachers=(Teacher("f00d", "beef", 8),))
    config.experiment.train.teacher_runs, config.experiment.train.distill_weight = "runs/first", 0.7
    text = "the label has weight 30% in the target, the prediction of the teacher `runs/first` the rest"
    card = " ".join(model_card.build_card(content, config).split())
    assert f"{text} (weights SHA-256 `f00d`)." in card
    assert (
        "on those images, and indirectly on the data of other networks (sources and terms: docs/reproduce.md)," in card
    )
    config = dataclasses.replace(config, teachers=(Teacher("f00d", began_with="faces.npz"),))
    card = " ".join(model_card.build_card(content, config).split())
    assert f"{text} (weights SHA-256 `f00d`; initial weights `faces.npz`)." in card


def make_initial_run(**fields) -> dict:
    """Makes the record of an initial run on the data of `factories.run`, from random weights."""
    sources = {"weights": "none", "label_source": "fer", "teacher_runs": ""}
    record = {"run": "runs/first", "weights_sha256": 64 * "a", "config_sha256": 64 * "b", "step": 1234}
    return {**record, "trained_on": dict(factories.TRAINED_ON), "learned_from": sources, **fields}


def test_bundle_records_runs_that_its_run_started_from(folder, tmp_path):
    sources = {"weights": "faces.npz", "label_source": "posterior", "teacher_runs": "runs/teacher"}
    before = make_initial_run(run="runs/zero", learned_from=sources)
    record = make_initial_run()
    record["learned_from"]["init_from"] = before
    workdir, output = shutil.copytree(folder / "run", tmp_path / "run"), tmp_path / "bundle"
    config = json.loads((workdir / "config.json").read_text())
    (workdir / "config.json").write_text(json.dumps({**config, "initialized_from": record}))
    bundle.make_bundle(str(workdir), str(folder / "faces"), str(output))
    assert json.loads((output / "config.json").read_text())["initialized_from"] == record
    (member,) = eval_json.read_eval(str(output / "eval.json"))["protocol"]["members"]
    assert member["learned_from"]["init_from"] == record
    assert loading.open_folder(str(output)).initialized_from == record
    assert (
        f"Initial weights: the best weights of the run `runs/first` (step 1,234, SHA-256 `{64 * 'a'}`; trained on "
        f"`faces`, labels `fer`); its initial weights: the best weights of the run `runs/zero` (step 1,234, SHA-256 "
        f"`{64 * 'a'}`; trained on `faces`, labels `posterior`; distilled from `runs/teacher`); its initial weights: "
        "`faces.npz` (source and terms: docs/reproduce.md)."
    ) in " ".join((output / "MODEL_CARD.md").read_text().split())


OTHER_DATA = {"name": "other", "manifest_sha256": 64 * "1"}


@pytest.mark.parametrize(
    ("fields", "initial", "uses_others"),
    [
        ({}, "random", False),
        ({"learned_from": {"weights": "a.npz", "label_source": "fer", "teacher_runs": ""}}, "`a.npz` (source", True),
        ({"learned_from": {"weights": "none", "label_source": "fer", "teacher_runs": "runs/b"}}, "random", True),
        ({"trained_on": OTHER_DATA}, "random", True),
        ({"learned_from": {}}, "not recorded", True),
    ],
    ids=["images of the run", "weights", "teacher", "other data", "not recorded"],
)
def test_card_license_depends_on_sources_of_initial_run(bundled, folder, fields, initial, uses_others):
    content = eval_json.read_eval(str(folder / "weights" / "eval.json"))
    config = RunDir(str(folder / "run")).read_config()
    config = dataclasses.replace(config, initialized_from=make_initial_run(**fields))
    card = " ".join(model_card.build_card(content, config).split())
    assert f"; its initial weights: {initial}" in card
    assert ("and indirectly on the data of other networks" in card) == uses_others


def test_card_states_ferplus_votes_in_targets(bundled, folder):
    content = eval_json.read_eval(str(folder / "weights" / "eval.json"))
    config = RunDir(str(folder / "run")).read_config()
    assert "votes of FER+" not in model_card.build_card(content, config)
    config.experiment.train.label_source = "posterior"
    assert "The training targets include the votes of FER+" in " ".join(model_card.build_card(content, config).split())


def test_card_shows_texts_of_others_as_text(bundled, folder):
    content = eval_json.read_eval(str(folder / "weights" / "eval.json"))
    config = RunDir(str(folder / "run")).read_config()
    hostile = "<img src=x>`|</td>[a](http://b)\n# c\x1b[2J"
    trained_on = {"name": hostile, "manifest_sha256": hostile}
    teachers = (Teacher(hostile, began_with=hostile),)
    sources = {"weights": hostile, "label_source": hostile, "teacher_runs": hostile}
    initial = make_initial_run(run=hostile, weights_sha256=hostile, trained_on=trained_on, learned_from=sources)
    config = dataclasses.replace(config, trained_on=trained_on, teachers=teachers, versions={hostile: hostile})
    config = dataclasses.replace(config, initialized_from=initial)
    config.experiment.train.teacher_runs = config.experiment.model.weights = hostile
    config.experiment.augment.policy = hostile
    content["model"] = content["data"]["name"] = hostile
    page = MarkdownIt("commonmark").enable("table").parse(model_card.build_card(content, config))
    inline = [child for block in page for child in block.children or []]
    assert not [token.type for token in [*page, *inline] if token.type.startswith(("html", "link", "image"))]
    shown = html.unescape(" ".join(" ".join(token.content for token in inline).split()))
    assert shown.count("<img src=x>`|</td>[a](http://b)\\n# c\\x1b[2J") >= 15


def test_card_wraps_no_text_into_another_block(bundled, folder):
    content = eval_json.read_eval(str(folder / "weights" / "eval.json"))
    config = RunDir(str(folder / "run")).read_config()
    before = [block.type for block in MarkdownIt("commonmark").parse(model_card.build_card(content, config))]
    for start in ("# ", "- ", "1. ", "> ", "--- ", "== ", "``` "):
        config.trained_on["name"] = start * 100
        blocks = [block.type for block in MarkdownIt("commonmark").parse(model_card.build_card(content, config))]
        assert blocks == before, start


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("versions", None, "versions of type dict"),
        ("data", {**factories.TRAINED_ON}, "examples_per_split of type dict"),
        ("teachers", [{}], "valid field teachers"),
        ("teachers", 3, "valid field teachers"),
    ],
)
def test_make_bundle_error_names_invalid_field_of_config_json(folder, tmp_path, field, value, named):
    workdir = shutil.copytree(folder / "run", tmp_path / "run")
    record = json.loads((workdir / "config.json").read_text())
    (workdir / "config.json").write_text(json.dumps({**record, field: value}))
    with pytest.raises(UserError, match=rf"config\.json has no {named}"):
        bundle.make_bundle(str(workdir), str(folder / "faces"), str(tmp_path / "out"))


def test_bundle_holds_no_local_path(bundled, folder):
    for name in ("config.json", "best.json", "eval.json", "MODEL_CARD.md"):
        assert str(folder) not in (folder / "weights" / name).read_text()


@pytest.mark.parametrize(
    ("limit", "value", "message"),
    [
        ("MAX_BYTES", 1000, r"take \d\.\d MB in float16; a package carries at most"),
        ("MAX_ACCURACY_LOSS", -1.0, "to float16 loses .* nothing was written"),
    ],
)
def test_make_bundle_rejects_large_or_inaccurate_weights(folder, tmp_path, monkeypatch, limit, value, message):
    monkeypatch.setattr(bundle, limit, value)
    with pytest.raises(UserError, match=message):
        bundle.make_bundle(str(folder / "run"), str(folder / "faces"), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_bundled_error_names_export_command_when_package_has_no_network(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "bundle_folder", lambda: str(tmp_path))
    with pytest.raises(UserError, match=r"carries no network: .*scripts/export\.py --format=bundle"):
        loading.open_run("bundled")


def test_default_output_requires_flag_for_bundled_network(in_package, folder):
    with pytest.raises(UserError, match="--output is missing: bundled names a network within the package"):
        EvalRequest(["bundled"], str(folder / "faces")).default_output()


def test_make_bundle_rejects_bundle(in_package, folder, tmp_path):
    with pytest.raises(UserError, match="is already a bundle"):
        bundle.make_bundle("bundled", str(folder / "faces"), str(tmp_path / "out"))


PACKAGED = pathlib.Path(loading.bundle_folder())
packaged = pytest.mark.skipif(
    not (PACKAGED / "best.json").exists(), reason="this copy of the package carries no network"
)


@packaged
def test_bundled_network_opens_and_takes_at_most_10_megabytes():
    opened = loading.open_run("bundled")
    assert opened.parameters == opened.model.count_params()
    assert (PACKAGED / "weights.npz").stat().st_size <= 10_000_000
    by_graph, by_keras = (predict(network) for network in (loading.open_network("bundled"), opened.model))
    np.testing.assert_allclose(by_graph, by_keras, rtol=0, atol=inference.BATCH_TOLERANCE)


def predict(network) -> np.ndarray:
    """Returns the probabilities [2, 7] of two faces."""
    return inference.predict([network], faces()[:2]).probabilities


def test_network_of_a_bundle_is_read_from_its_graph(in_package):
    network = loading.open_network("bundled")
    assert not isinstance(network, type(loading.open_run("bundled").model))
    np.testing.assert_array_equal(predict(network), predict(loading.open_run("bundled").model))


def test_network_of_a_bundle_without_a_graph_is_built(bundled, folder, tmp_path, monkeypatch):
    place = shutil.copytree(folder / "weights", tmp_path / "weights")
    best = json.loads((place / "best.json").read_text())
    (place / "best.json").write_text(json.dumps({key: best[key] for key in best if not key.startswith("graph")}))
    (place / "graph.pb").unlink()
    monkeypatch.setattr(loading, "bundle_folder", lambda: str(place))
    network = loading.open_network("bundled")
    assert isinstance(network, type(loading.open_run("bundled").model))
    np.testing.assert_array_equal(
        predict(network), predict(loading.open_folder(str(folder / "weights"), "float32").model)
    )


@pytest.mark.parametrize(
    ("content", "message"), [(b"other", "is not the file that best.json names"), (None, "no graph")]
)
def test_load_bundled_rejects_missing_or_foreign_graph(bundled, folder, tmp_path, monkeypatch, content, message):
    place = shutil.copytree(folder / "weights", tmp_path / "weights")
    (place / "graph.pb").unlink()
    if content:
        (place / "graph.pb").write_bytes(content)
    monkeypatch.setattr(loading, "bundle_folder", lambda: str(place))
    with pytest.raises(UserError, match=message):
        loading.open_network("bundled")


@packaged
def test_card_of_package_equals_card_built_from_its_eval_json():
    content = eval_json.read_eval(str(PACKAGED / "eval.json"))
    config = RunDir(str(PACKAGED)).read_config()
    assert (PACKAGED / "MODEL_CARD.md").read_text() == model_card.build_card(content, config)
    member = content["protocol"]["members"][0]
    assert member["weights_sha256"] == json.loads((PACKAGED / "best.json").read_text())["sha256"]
    assert member["config_sha256"] == config.sha256


def test_make_bundle_rejects_folder_of_exports(bundled, folder, tmp_path):
    (tmp_path / "exports").mkdir()
    (tmp_path / "exports" / "export.json").write_text("{}")
    with pytest.raises(UserError, match=r"exports holds exports; choose another --output, such as .*exports/bundle"):
        bundle.make_bundle(str(folder / "run"), str(folder / "faces"), str(tmp_path / "exports"))
    assert [path.name for path in (tmp_path / "exports").iterdir()] == ["export.json"]


@pytest.mark.parametrize("name", ["weights.npz", "config.json"])
def test_make_bundle_rejects_foreign_file(folder, tmp_path, name):
    (tmp_path / name).write_text("the user's")
    with pytest.raises(UserError, match=rf"{name} exists, and no complete export wrote it"):
        bundle.make_bundle(str(folder / "run"), str(folder / "faces"), str(tmp_path))
    assert [path.read_text() for path in tmp_path.iterdir()] == ["the user's"]


def test_make_bundle_overwrites_bundle_but_no_run(bundled, folder, tmp_path):
    other = pathlib.Path(factories.run(tmp_path / "other", seed=4, experiment=EXPERIMENT))
    before = {path: path.read_bytes() for path in other.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=r"other is a run folder; choose another --output, such as .*other/bundle"):
        bundle.make_bundle(str(folder / "run"), str(folder / "faces"), str(other))
    assert {path: path.read_bytes() for path in other.rglob("*") if path.is_file()} == before
    (other / "best.json").unlink()  # as in a run before its first validation
    with pytest.raises(UserError, match="other is a run folder"):
        bundle.make_bundle(str(folder / "run"), str(folder / "faces"), str(other))
    shutil.copytree(folder / "weights", tmp_path / "bundle")
    again = bundle.make_bundle(str(folder / "run"), str(folder / "faces"), str(tmp_path / "bundle"))
    assert {pathlib.Path(path) for path in again.paths} == set((tmp_path / "bundle").iterdir())
