"""Checks which runs can be made longer, and that a longer run equals one that had its length from the start."""

import copy
import dataclasses
import json
import pathlib
import re
import shutil
import types

import numpy as np
import pytest
import tensorflow as tf

from fer import config, run_dir
from fer.config import Experiment, Model, Train
from fer.errors import UserError
from fer.evaluation import eval_json
from fer.export import model_card
from fer.models import classifier, loading, precision
from fer.run_dir import CheckpointRecord, RunDir
from fer.train import assembly, preflight, train_state, trainer
from tests.evaluation.factories import run as write_run
from tests.scripts import run_script
from tests.train import factories
from tests.train.factories import final_state


def make_experiment(**train) -> Experiment:
    """Makes an experiment whose epoch has 20 steps."""
    experiment = factories.experiment(save_every_steps=100, **{"ema_decay": 0.9, **train})
    experiment.optimizer.schedule = "constant"
    return experiment


def read_config(workdir) -> dict:
    return json.loads((workdir / "config.json").read_text())


@pytest.mark.extended
@pytest.mark.parametrize("schedule", ["constant", "step"])
def test_run_made_longer_ends_with_bits_of_long_run_and_records_both_configs(
    synthetic_shards, tmp_path, capsys, schedule
):
    long, extended = tmp_path / "long", tmp_path / "extended"
    longer, first = (preflight.resolve_execution(make_experiment(max_steps=0, epochs=epochs)) for epochs in (2, 1))
    for settings in (longer, first):
        settings.optimizer.schedule, settings.optimizer.decay_epochs = schedule, 0.7
    trainer.train(longer, synthetic_shards.folder, str(long), "one")
    trainer.train(first, synthetic_shards.folder, str(extended), "one")
    capsys.readouterr()
    trainer.train(longer, synthetic_shards.folder, str(extended), "one")
    assert "Resuming after step 20 of 40" in capsys.readouterr().out
    expected, found = final_state(long, 40), final_state(extended, 40)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    record = read_config(extended)
    (earlier,) = record["earlier_configs"]
    assert (earlier["config"], earlier["last_step"]) == (first.to_dict(), 20)
    assert earlier["config_sha256"] == config.sha256(earlier["config"]) == first.sha256()
    assert record["config_sha256"] == config.sha256(record["config"]) == longer.sha256()
    assert loading.open_run(str(extended)).config_sha256 == longer.sha256()
    assert record["data"] == read_config(long)["data"]
    trainer.train(longer, synthetic_shards.folder, str(extended), "one")
    assert read_config(extended) == record
    with pytest.raises(UserError, match=r"a run of 40 steps, which cannot be changed to 20 .*can only become longer"):
        trainer.train(first, synthetic_shards.folder, str(extended), "one")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("optimizer.schedule", "cosine", "the schedule cosine decays the learning rate over the length of the run"),
        ("optimizer.schedule", "one_cycle", "the schedule one_cycle decays the learning rate over the length"),
        ("augment.mixup_off_epochs", 1, "its last 1 epochs train without mixup"),
        ("optimizer.warmup_epochs", 3.0, "its warm-up was shortened to this length"),
        ("optimizer.schedule", "constant", "it ended, and was validated, within an epoch"),
    ],
)
def test_longer_run_error_names_init_from_when_steps_depended_on_length(
    synthetic_shards, tmp_path, field, value, message
):
    settings, workdir = make_experiment(max_steps=2), tmp_path / "run"
    settings.augment.policy = "flip|mixup"
    section, _, name = field.partition(".")
    setattr(getattr(settings, section), name, value)
    run = preflight.check_run(settings, synthetic_shards.folder, str(workdir), "one", None, "")
    run.folder.write_config(run.experiment, run.shards)
    write_checkpoint(run.folder, 2)  # the length is checked before the state is read
    before = {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}
    settings.train.max_steps = 30
    expected = f"a run of 2 steps, which cannot go on to 30: {message}.*--init_from={re.escape(str(workdir))}"
    with pytest.raises(UserError, match=expected):
        trainer.train(settings, synthetic_shards.folder, str(workdir), "one")
    assert {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()} == before


def write_checkpoint(folder: RunDir, step: int) -> None:
    """Writes a checkpoint without a state."""
    path = pathlib.Path(folder.checkpoints, run_dir.checkpoint_name(step))
    path.mkdir(parents=True)
    run_dir.write_checkpoint_record(str(path), CheckpointRecord(step, files={}))


def check_longer(experiment: Experiment, synthetic_shards, tmp_path, steps: int, longer: int) -> None:
    """Checks whether a run of 100 steps with a checkpoint after `steps` steps can go on to `longer` steps."""
    before, after = (
        dataclasses.replace(experiment, train=dataclasses.replace(experiment.train, max_steps=each))
        for each in (100, longer)
    )
    folder = RunDir(str(tmp_path / str(steps)))
    folder.write_config(before, synthetic_shards)
    write_checkpoint(folder, steps)
    preflight.check_length(folder, before, after, synthetic_shards)


def test_check_length_accepts_run_stopped_before_its_epochs_without_mixup(synthetic_shards, tmp_path):
    experiment = make_experiment()
    experiment.augment.policy, experiment.augment.mixup_off_epochs = "flip|mixup", 2
    for steps in (0, 40, 60):
        check_longer(experiment, synthetic_shards, tmp_path, steps, 200)
    with pytest.raises(UserError, match=r"100 steps, which cannot go on to 200: its last 2 epochs train without mixup"):
        check_longer(experiment, synthetic_shards, tmp_path, 61, 200)
    experiment.augment.policy = "flip"
    check_longer(experiment, synthetic_shards, tmp_path, 100, 200)


def start_from(run: str) -> trainer.RunOptions:
    return trainer.RunOptions(init_from=run)


@pytest.mark.extended
def test_init_from_starts_new_run_from_best_weights_and_resumes_without_them(synthetic_shards, tmp_path):
    first, second, data = tmp_path / "first", tmp_path / "second", synthetic_shards.folder
    settings = make_experiment(max_steps=2)
    trainer.train(settings, data, str(first), "one")
    best = loading.open_run(str(first))
    settings.optimizer.learning_rate = 1e-12  # the weights do not move
    settings.train.save_every_steps = 1
    trainer.train(settings, data, str(second), "one", options=start_from(str(first)))
    for name, ours, theirs in zip(
        (weight.name for weight in best.model.weights),
        loading.open_run(str(second)).model.trainable_weights,
        best.model.trainable_weights,
    ):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-6, err_msg=name)
    record = read_config(second)
    assert record["initialized_from"] == {
        "run": str(first),
        "weights_sha256": best.weights_sha256,
        "config_sha256": best.config_sha256,
        "step": 2,
        "trained_on": {name: record["data"][name] for name in ("name", "manifest_sha256")},
        "learned_from": {"weights": "none", "label_source": "fer", "teacher_runs": ""},
    }
    member = eval_json.describe_member(loading.open_run(str(second)))
    assert member["learned_from"]["init_from"] == record["initialized_from"]
    trainer.train(settings, data, str(tmp_path / "third"), "one", options=start_from(str(second)))
    member = eval_json.describe_member(loading.open_run(str(tmp_path / "third")))
    assert [each["run"] for each in eval_json.ancestors(member)] == [str(second), str(first)]
    shutil.rmtree(first)
    shutil.rmtree(second / "checkpoints" / run_dir.checkpoint_name(2))
    trainer.train(settings, data, str(second), "one", options=start_from(str(first)))
    assert read_config(second)["initialized_from"] == record["initialized_from"]
    with pytest.raises(UserError, match=r"a run that started with --init_from=.*first: leave --init_from out"):
        trainer.train(settings, data, str(second), "one", options=start_from("bundled"))


def test_init_from_uses_weights_of_a_precision_that_cannot_be_computed_here(synthetic_shards, tmp_path, monkeypatch):
    write_run(tmp_path / "first", experiment=make_experiment(precision="mixed_bfloat16"))

    def check_computable(name: str) -> None:
        if name != "float32":
            raise UserError(f"config.train.precision={name} cannot be computed here")

    monkeypatch.setattr(precision, "check_computable", check_computable)
    initial = assembly.load_initial_run(str(tmp_path / "first"), make_experiment(precision="float32"))
    assert initial.precision == "float32"


def test_init_from_accepts_another_image_size_and_dropout(synthetic_shards, tmp_path):
    write_run(tmp_path / "first", experiment=make_experiment())
    larger = make_experiment()
    larger.model.image_size, larger.model.dropout = 32, 0.5
    initial = assembly.load_initial_run(str(tmp_path / "first"), larger)
    weights = assembly.get_initial_weights(initial, initial.classes)
    state = train_state.create_train_state(tf.distribute.OneDeviceStrategy("CPU:0"), larger, 4, 4, weights)
    assert classifier.get_backbone(state.model).input_shape[1] == 32
    for ours, theirs in zip(state.model.get_weights(), initial.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_init_from_rejects_another_image_size_with_auxiliary_heads(tmp_path, monkeypatch):
    settings = make_experiment()
    settings.model.name, settings.model.aux_logits, settings.model.image_size = "googlenet", True, 96
    first = types.SimpleNamespace(config=copy.deepcopy(settings), export=None)
    monkeypatch.setattr(loading, "open_run", lambda *_: first)
    settings.model.image_size = 128
    with pytest.raises(UserError, match=r"is another network: config\.model\.image_size is 128, not 96"):
        assembly.load_initial_run("first", settings)


def test_hash_settings_names_the_field_whose_auto_depends_on_the_device(synthetic_shards):
    def hash_settings(**train) -> dict[str, str]:
        settings = preflight.resolve_execution(make_experiment(**train))
        return preflight.hash_settings(preflight.CheckedRun(settings, synthetic_shards, None, None, None, "", True))

    first, second = hash_settings(precision="float32"), hash_settings(precision="mixed_bfloat16")
    assert [name for name in first if first[name] != second[name]] == ["config.train.precision", "config"]


def test_train_checks_the_recorded_config_again_under_the_lock(synthetic_shards, tmp_path, monkeypatch):
    """Another process starts a run here between the first check and the lock."""
    hold, other = trainer.run_lock.hold, make_experiment(max_steps=2)
    other.seed = 1

    def hold_after_other_start(workdir: str):
        lock = hold(workdir)
        lock.__enter__()
        RunDir(workdir).write_config(preflight.resolve_execution(other), synthetic_shards)
        lock.__exit__(None, None, None)
        return hold(workdir)

    monkeypatch.setattr(trainer.run_lock, "hold", hold_after_other_start)
    with pytest.raises(UserError, match=r"belongs to another config \(seed: 1 -> 0\)"):
        trainer.train(make_experiment(max_steps=2), synthetic_shards.folder, str(tmp_path / "run"), "one")
    assert read_config(tmp_path / "run")["config"]["seed"] == 1


def test_init_from_error_names_differing_fields_of_model(synthetic_shards, tmp_path):
    settings = make_experiment(max_steps=2)
    with pytest.raises(UserError, match=r"--init_from=bundled is another network: config.model.name is 'tiny', not '"):
        trainer.train(settings, synthetic_shards.folder, str(tmp_path / "run"), "one", options=start_from("bundled"))
    assert not (tmp_path / "run").exists()


@pytest.mark.extended
def test_init_from_bundled_trains_bundled_network_and_records_its_origin(synthetic_shards, tmp_path):
    bundled = loading.open_run("bundled")
    settings = make_experiment(max_steps=1, ema_decay=0.0)
    settings.model = dataclasses.replace(bundled.config.model, weights="none")
    settings.optimizer.learning_rate = 1e-12  # the weights do not move
    trainer.train(settings, synthetic_shards.folder, str(tmp_path / "run"), "one", options=start_from("bundled"))
    trained = loading.open_run(str(tmp_path / "run"))
    for ours, theirs in zip(trained.model.trainable_weights, bundled.model.trainable_weights):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-6, err_msg=theirs.name)
    assert trained.initialized_from == bundled.as_initial_run()
    card = " ".join(
        model_card.build_card(
            eval_json.read_eval(RunDir(loading.bundle_folder()).eval_file), RunDir(str(tmp_path / "run")).read_config()
        ).split()
    )
    assert "Initial weights: the best weights of the run `bundled` (step 8,064, SHA-256" in card
    assert "its initial weights: `weights/bundled.npz` (source and terms: docs/reproduce.md)" in card
    assert "and indirectly on the data of other networks (sources and terms: docs/reproduce.md)" in card


@pytest.mark.extended
def test_init_from_loads_weights_again_when_run_has_no_checkpoint_and_rejects_changed_ones(synthetic_shards, tmp_path):
    first, second, data = tmp_path / "first", tmp_path / "second", synthetic_shards.folder
    settings = make_experiment(max_steps=2)
    trainer.train(settings, data, str(first), "one")
    trainer.train(settings, data, str(second), "one", options=start_from(str(first)))
    expected = final_state(second, 2)
    shutil.rmtree(second / "checkpoints")  # simulates a kill before the first checkpoint
    trainer.train(settings, data, str(second), "one")
    for name, value in final_state(second, 2).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
    shutil.rmtree(second / "checkpoints")
    shutil.rmtree(first)
    settings.seed, longer, recorded = 1, make_experiment(max_steps=3), read_config(second)
    trainer.train(settings, data, str(first), "one")
    with pytest.raises(UserError, match=r"started with other weights in --init_from=.*first: restore"):
        trainer.train(longer, data, str(second), "one")
    assert read_config(second) == recorded


def test_check_run_needs_no_weights_file_when_a_checkpoint_has_the_weights(synthetic_shards, tmp_path):
    settings, folder = make_experiment(), RunDir(str(tmp_path / "run"))
    settings.model.weights = str(tmp_path / "absent.npz")
    folder.write_config(preflight.resolve_execution(settings), synthetic_shards)

    def check() -> preflight.CheckedRun:
        return preflight.check_run(settings, synthetic_shards.folder, folder.path, "one", None)

    with pytest.raises(UserError, match=r"There is no weights file .*absent\.npz"):
        check()
    write_checkpoint(folder, 1)
    resumed = check()
    assert not resumed.loads_weights
    assert resumed.experiment.model.weights == settings.model.weights  # as recorded


def test_init_from_with_other_classes_loads_all_but_the_head(synthetic_shards, tmp_path, capsys):
    settings = factories.experiment()
    initial = write_run(tmp_path / "initial", 3, settings, ("bored", "happy"))
    run = preflight.check_run(settings, synthetic_shards.folder, str(tmp_path / "run"), "one", None, initial)
    parts = assembly.assemble(run)
    assert (
        f"The head is new: {initial} has the classes bored, happy, and the data have angry" in capsys.readouterr().out
    )
    model, theirs = parts.context.state.model, loading.open_run(initial).model
    np.testing.assert_array_equal(
        classifier.get_backbone(model).get_weights()[0], classifier.get_backbone(theirs).get_weights()[0]
    )
    fresh = classifier.build(settings.model, "float32", settings.seed).get_layer("logits").get_weights()
    np.testing.assert_array_equal(model.get_layer("logits").get_weights()[0], fresh[0])
    assert parts.initialized_from["run"] == initial


def test_init_from_needs_no_file_of_model_weights_and_neither_does_its_resumption(synthetic_shards, tmp_path):
    settings, workdir = factories.experiment(), str(tmp_path / "run")
    initial = write_run(tmp_path / "initial", 3, settings)
    settings.model.weights = str(tmp_path / "absent.npz")

    def check(init_from: str) -> preflight.CheckedRun:
        return preflight.check_run(settings, synthetic_shards.folder, workdir, "one", None, init_from)

    with pytest.raises(UserError, match=r"There is no weights file .*absent\.npz"):
        check("")
    run = check(initial)
    parts = assembly.assemble(run)
    for own, theirs in zip(parts.context.state.model.get_weights(), loading.open_run(initial).model.get_weights()):
        np.testing.assert_array_equal(own, theirs)
    run.folder.write_config(run.experiment, run.shards, initialized_from=parts.initialized_from)
    write_checkpoint(run.folder, 1)
    resumed = check("")
    assert resumed.init_from == ""
    assembly.assemble(resumed)  # the weights come from the checkpoint


@pytest.mark.parametrize(
    ("gpus", "settings", "jit_compile", "steps"),
    [
        (0, {}, False, 1),
        (1, {}, True, 20),
        (1, {"deterministic": True}, False, 20),  # XLA has no deterministic gradient of max-pooling
        (1, {"deterministic": False, "jit_compile": False, "steps_per_execution": 3}, False, 3),
        (0, {"jit_compile": True, "steps_per_execution": 3}, True, 3),
    ],
)
def test_resolve_execution_replaces_auto_by_device(monkeypatch, gpus, settings, jit_compile, steps):
    monkeypatch.setattr(preflight.tf.config, "list_physical_devices", lambda kind: ["GPU:0"] * gpus)
    experiment = Experiment(train=Train(**settings))
    resolved = preflight.resolve_execution(experiment).train
    assert (resolved.jit_compile, resolved.steps_per_execution) == (jit_compile, steps)
    assert resolved.deterministic is settings.get("deterministic", not gpus)
    assert experiment == Experiment(train=Train(**settings))  # unchanged


def test_resolve_execution_keeps_values_of_a_run_that_goes_on(monkeypatch):
    monkeypatch.setattr(preflight.tf.config, "list_physical_devices", lambda kind: ["GPU:0"])
    begun = Experiment(train=Train(jit_compile=False, steps_per_execution=1, deterministic=True))
    resolved = preflight.resolve_execution(Experiment(), begun).train
    assert (resolved.jit_compile, resolved.steps_per_execution, resolved.deterministic) == (False, 1, True)
    other = preflight.resolve_execution(Experiment(train=Train(steps_per_execution=4)), begun).train
    assert other.steps_per_execution == 4  # the command names it, so that the run refuses it


def test_resolve_execution_compiles_nothing_with_synchronized_batch_norm(monkeypatch):
    monkeypatch.setattr(preflight.tf.config, "list_physical_devices", lambda kind: ["GPU:0", "GPU:1"])
    experiment = Experiment(model=Model(sync_batch_norm=True))
    assert preflight.resolve_execution(experiment).train.jit_compile is False


def test_resolve_execution_compiles_nothing_with_old_cudnn(monkeypatch):
    monkeypatch.setattr(preflight.tf.config, "list_physical_devices", lambda kind: ["GPU:0"])
    monkeypatch.setattr(preflight, "find_old_cudnn", lambda: "9.3.0")
    assert preflight.resolve_execution(Experiment()).train.jit_compile is False


def test_describe_execution_states_why_deterministic_ops_are_off(monkeypatch):
    monkeypatch.setattr(preflight.tf.config, "list_physical_devices", lambda kind: ["GPU:0"])
    resolved = preflight.resolve_execution(Experiment()).train
    expected = "20 steps per call, XLA on, deterministic ops off (slower on GPUs)"
    assert assembly.describe_execution(resolved) == expected
    resolved.deterministic = True
    assert assembly.describe_execution(resolved) == "20 steps per call, XLA on, deterministic ops on"


def test_recorded_config_and_banner_have_the_resolved_values(trained_run):
    train = RunDir(str(trained_run)).read_config().experiment.train
    assert (train.jit_compile, train.steps_per_execution, train.deterministic) == (False, 1, True)
    assert "execution 1 step per call, XLA off, deterministic ops on" in run_script.printed(trained_run)


@pytest.mark.parametrize(("steps", "accepted"), [("", True), ("20-90", True), ("21-30", False)])
def test_check_profile_steps_rejects_steps_beyond_the_run(steps, accepted):
    train = Train(profile_steps=steps)
    if accepted:
        preflight.check_profile_steps(train, 20)
    else:
        with pytest.raises(UserError, match=r"profile_steps is '21-30', and the run has 20 steps"):
            preflight.check_profile_steps(train, 20)
