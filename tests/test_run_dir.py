"""Checks the run directory, which belongs to one config and one dataset."""

import csv
import dataclasses
import json
import pathlib
import shutil
import subprocess

import numpy as np
import pytest

import fer
from fer import config, run_dir
from fer.config import Experiment, Model, Train
from fer.errors import UserError
from fer.labels import CLASSES
from fer.models import classifier, loading, weights

SOURCES = {"weights": "none", "label_source": "fer", "teacher_runs": ""}


@pytest.fixture
def experiment() -> Experiment:
    return Experiment(model=Model(name="tiny", image_size=24), train=Train(precision="float32"))


@pytest.fixture
def folder(tmp_path, experiment, synthetic_shards):
    opened = run_dir.RunDir(str(tmp_path / "run"))
    opened.write_config(experiment, synthetic_shards)
    return opened


def check_run_dir(folder: run_dir.RunDir, experiment: Experiment, shards) -> None:
    run_dir.check_run_dir(folder, folder.find_config(), experiment, shards)


def test_write_config_records_config_data_and_versions(folder, experiment, synthetic_shards):
    record = json.load(open(f"{folder.path}/config.json"))
    assert record["config"] == experiment.to_dict()
    assert record["config_sha256"] == experiment.sha256()
    assert record["data"]["manifest_sha256"] == synthetic_shards.sha256
    assert record["data"]["examples_per_split"]["train"] == 320
    assert set(record["versions"]) >= {"fer", "python", "tensorflow"}


def test_check_run_dir_accepts_same_config_and_data(folder, experiment, synthetic_shards):
    check_run_dir(folder, experiment, synthetic_shards)


def test_check_run_dir_rejects_another_config_and_names_difference(folder, experiment, synthetic_shards):
    experiment.optimizer.learning_rate = 0.5
    with pytest.raises(UserError, match=r"another config \(optimizer.learning_rate: 0.1 -> 0.5\)"):
        check_run_dir(folder, experiment, synthetic_shards)


def test_check_run_dir_rejects_other_data(folder, experiment, synthetic_shards):
    other = dataclasses.replace(synthetic_shards, sha256="f" * 64)
    with pytest.raises(UserError, match="other data"):
        check_run_dir(folder, experiment, other)


def test_check_run_dir_rejects_folder_without_run_and_keeps_its_files(tmp_path, experiment, synthetic_shards):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="holds no run"):
        check_run_dir(run_dir.RunDir(str(tmp_path)), experiment, synthetic_shards)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]


def test_open_run_loads_best_weights_of_training(folder, experiment):
    model = classifier.build(experiment.model, "float32", seed=5)
    for step in (10, 20):
        folder.write_best(weights.to_bytes(model.weights), {"step": step, "epoch": 1, "validation_accuracy": 0.5})
    loaded = loading.open_run(folder.path)
    assert (loaded.step, loaded.selected_on) == (20, "validation")
    faces = np.random.default_rng(0).integers(0, 256, (3, 48, 48, 1), dtype=np.uint8)
    np.testing.assert_array_equal(loaded.model(faces), model(faces))


def test_check_run_dir_accepts_config_without_newer_fields(folder, experiment, synthetic_shards):
    path = f"{folder.path}/config.json"
    record = json.load(open(path))
    for name in ("tf32", "steps_per_execution", "label_source", "on_nan", "profile_steps"):
        del record["config"]["train"][name]
    record["config_sha256"] = config.sha256(record["config"])
    json.dump(record, open(path, "w"))
    experiment.train.steps_per_execution = 1  # as a CPU resolves `auto`; older versions had no `auto`
    check_run_dir(folder, experiment, synthetic_shards)
    folder.write_best(
        weights.to_bytes(classifier.build(experiment.model, "float32").weights),
        {"step": 10, "epoch": 1, "validation_accuracy": 0.5},
    )
    assert loading.open_run(folder.path).config_sha256 == record["config_sha256"]
    experiment.train.label_source = "ferplus"
    with pytest.raises(UserError, match=r"another config \(train\.label_source: 'fer' -> 'ferplus'\)"):
        check_run_dir(folder, experiment, synthetic_shards)


def test_write_best_keeps_only_the_latest_weights(folder, experiment, tmp_path):
    model = classifier.build(experiment.model, "float32")
    for step in (10, 20):
        folder.write_best(weights.to_bytes(model.weights), {"step": step, "epoch": 1, "validation_accuracy": 0.5})
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["best-00000020.npz"]


def test_read_history_omits_epochs_after_the_checkpoint(folder):
    history = [{"epoch": epoch, "step": 10 * epoch, **FIGURES} for epoch in (1, 2, 3)]
    folder.write_history(history, b"")
    assert folder.read_history(until_step=25) == history[:2]


def write_states(folder: run_dir.RunDir, steps: list[int]) -> dict[str, bytes]:
    """Writes what a run has after the epochs that end at `steps`; returns the files by their relative paths."""
    history = [{**dict.fromkeys(run_dir.EPOCH_FIELDS, 0.5), "epoch": step // 100, "step": step} for step in steps]
    folder.write_history(history, b"")
    folder.write_best(b"weights %d" % steps[-1], history[-1])
    state = pathlib.Path(folder.checkpoints, run_dir.checkpoint_name(steps[-1]))
    state.mkdir()
    (state / "state.index").write_bytes(b"state")
    (state / run_dir.CHECKPOINT_FILE).write_text("{}")
    return {str(path.relative_to(folder.path)): path.read_bytes() for path in pathlib.Path(folder.path).rglob("*.*")}


def test_upload_rank_puts_no_checkpoint_before_the_epochs_and_best_weights_that_its_resumption_needs(folder, tmp_path):
    """A process may be killed after each file of an upload."""
    store = write_states(folder, [100])
    later = write_states(folder, [100, 200])
    for name in sorted(later, key=lambda name: (run_dir.upload_rank(name), name)):
        store[name] = later[name]
        states = (pathlib.Path(part).parent.name for part in store if part.endswith(run_dir.CHECKPOINT_FILE))
        resumed = max(map(run_dir.parse_checkpoint_name, states))
        history = [entry["step"] for entry in json.loads(store[run_dir.HISTORY_FILE]) if entry["step"] <= resumed]
        assert history == list(range(100, resumed + 1, 100)), name
        best = json.loads(store[run_dir.BEST_FILE])
        assert best["step"] >= resumed, name
        assert f"checkpoints/best-{best['step']:08}.npz" in store, name


@pytest.mark.parametrize("step", [1, 99_999_999, 2**31 - 1])
def test_parse_checkpoint_name_reads_every_step_of_a_run(step):
    assert run_dir.parse_checkpoint_name(run_dir.checkpoint_name(step)) == step


def test_write_history_writes_same_numbers_as_json_and_csv(folder):
    """The entry of an earlier version lacks a field; a value without a number is an empty cell in CSV."""
    first = {"epoch": 1, "step": 10, **FIGURES, "train_loss": 0.1 + 0.2}
    second = {"epoch": 2, "step": 20, **FIGURES, "validation_cohen_kappa": None, "replicas": 2}
    for history in ([first], [first, second], [first]):  # a rollback may remove an entry
        folder.write_history(history, b"")
        text = pathlib.Path(folder.path, "history.csv").read_text()
        rows = [
            {name: json.loads(value) for name, value in row.items() if value}
            for row in csv.DictReader(text.splitlines())
        ]
        recorded = json.loads(pathlib.Path(folder.path, "history.json").read_text())
        assert rows == [{name: value for name, value in each.items() if value is not None} for each in recorded]
    assert text.splitlines()[0].startswith("epoch,step,learning_rate,train_loss,")


@pytest.mark.parametrize("sha256", [None, 3, {}, ["a"]])
def test_read_config_error_names_config_without_hash_of_data(folder, sha256):
    path = pathlib.Path(folder.path, "config.json")
    record = json.loads(path.read_text())
    record["data"]["manifest_sha256"] = sha256
    path.write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"config\.json has no manifest_sha256 of type str"):
        folder.read_config()


@pytest.mark.parametrize("teachers", [3, [3], [{}]])
def test_record_error_names_damaged_teachers(folder, experiment, synthetic_shards, teachers):
    path = pathlib.Path(folder.path, "config.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "teachers": teachers}))
    with pytest.raises(UserError, match=r"config\.json has no valid field teachers"):
        folder.write_config(experiment, synthetic_shards)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"step": "1"}, "step"),
        ({"trained_on": {"name": "faces"}}, "manifest_sha256"),
        ({"learned_from": {"weights": "none", "label_source": "fer"}}, "teacher_runs"),
        ({"learned_from": {**SOURCES, "init_from": {"run": "runs/a"}}}, "weights_sha256"),
    ],
)
def test_read_config_error_names_damaged_field_of_initial_run(folder, change, field):
    record = {"run": "runs/b", "weights_sha256": "a", "config_sha256": "b", "step": 1}
    record |= {"trained_on": {"name": "faces", "manifest_sha256": "c"}, "learned_from": SOURCES}
    path = pathlib.Path(folder.path, "config.json")
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "initialized_from": record}))
    assert folder.read_config().initialized_from == record
    path.write_text(json.dumps({**content, "initialized_from": {**record, **change}}))
    with pytest.raises(UserError, match=rf"config\.json has no {field} of type"):
        folder.read_config()


FIGURES = {
    "learning_rate": 0.1,
    "train_loss": 1.0,
    "train_accuracy": 0.5,
    "validation_loss": 1.0,
    "validation_accuracy": 0.5,
    "validation_macro_f1": 0.5,
    "images_per_second": 100.0,
    "seconds": 1.0,
}


def test_read_config_returns_classes_of_the_data(tmp_path, experiment, synthetic_shards):
    shards = dataclasses.replace(synthetic_shards, classes=("happy", "bored"))
    opened = run_dir.RunDir(str(tmp_path / "run"))
    opened.write_config(experiment, shards)
    assert opened.read_config().classes == ("happy", "bored")
    assert opened.read_config().sha256 == experiment.sha256()


def test_read_config_without_classes_means_those_of_fer2013(folder):
    path = pathlib.Path(folder.config_file)
    record = json.loads(path.read_text())
    assert tuple(record.pop("classes")) == CLASSES
    path.write_text(json.dumps(record))
    assert folder.read_config().classes == CLASSES


@pytest.mark.parametrize("classes", [["happy"], ["happy", "happy"], ["happy", 3], "happy"])
def test_read_config_error_names_file_with_wrong_classes(folder, classes):
    path = pathlib.Path(folder.config_file)
    path.write_text(json.dumps({**json.loads(path.read_text()), "classes": classes}))
    with pytest.raises(UserError, match=r"config\.json .*classes"):
        folder.read_config()


def test_find_classes_reads_the_config_of_a_weights_file(folder):
    assert run_dir.find_classes(f"{folder.checkpoints}/best-00000001.npz") == CLASSES
    assert run_dir.find_classes(f"{folder.path}/weights.npz") == CLASSES
    assert run_dir.find_classes(f"{folder.path}-other/weights.npz") is None


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
@pytest.mark.parametrize(("package", "recorded"), [("fer", True), ("site-packages/fer", False)])
def test_git_commit_is_that_of_the_package_only(tmp_path, monkeypatch, package, recorded):
    """A package that is installed in an environment within another project has no commit of its own."""
    (tmp_path / package).mkdir(parents=True)
    (tmp_path / package / "__init__.py").touch()
    for command in (
        ["init", "--quiet"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message=first"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "tag", "--annotate", "v1", "--message=first"],
    ):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    monkeypatch.setattr(fer, "__file__", str(tmp_path / package / "__init__.py"))
    commit = subprocess.run(["git", "-C", str(tmp_path), "rev-parse", "HEAD"], capture_output=True, text=True).stdout
    assert run_dir.git_commit() == (commit.strip() if recorded else None)
