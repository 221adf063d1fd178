"""Checks whole runs: results, resumption after a kill at any moment, and that the test split is never read."""

import contextlib
import csv
import json
import os
import pathlib
import shutil
import signal

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.autograph.impl import api as autograph
from tensorflow.python.framework import config as framework_config

from fer import config
from fer.data import manifest
from fer.errors import Stopped, UserError
from fer.train import checkpoints, eval_step, metric_logging, preemption, trainer
from fer.train.distributed.cluster_resolver import Cluster
from tests.scripts import run_script
from tests.shared import shared_folder
from tests.train import factories, launch
from tests.train.factories import final_state


@pytest.fixture(scope="module", params=[pytest.param("in_memory", marks=pytest.mark.extended), "streaming"])
def settings(request):
    experiment = factories.augmented_experiment(max_steps=40, save_every_steps=3, ema_decay=0.9)  # 20 steps per epoch
    experiment.data.mode, experiment.data.shuffle_buffer_size = request.param, 96
    if request.param == "streaming":
        experiment.train.steps_per_execution, experiment.train.profile_steps = 4, "5-6"
    return experiment


@pytest.fixture(scope="module")
def uninterrupted(settings, synthetic_shards, tmp_path_factory) -> pathlib.Path:
    """Returns an uninterrupted run; converted.json beside it lists the modules that AutoGraph converted. Read only."""
    converted, convert = [], autograph._convert_actual

    def record(function, context):
        converted.append(function.__module__)
        return convert(function, context)

    def train(folder: pathlib.Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(autograph, "_convert_actual", record)
            trainer.train(settings, synthetic_shards.folder, str(folder / "run"), "one")
        framework_config.disable_op_determinism()
        (folder / "converted.json").write_text(json.dumps(converted))

    return shared_folder(tmp_path_factory, f"uninterrupted-{settings.data.mode}", train) / "run"


@pytest.mark.parametrize("kills", [(6,), pytest.param((6, 23), marks=pytest.mark.extended)], ids=["once", "twice"])
def test_run_ends_with_same_bits_when_killed_and_resumed(settings, synthetic_shards, uninterrupted, tmp_path, kills):
    """Guarantee 1 with SIGKILL: weights, averages, momentum and metrics of the epoch."""
    workdir, config = tmp_path / "run", launch.write_config(tmp_path, settings)
    flags = [f"--config={config}", f"--data={synthetic_shards.folder}", f"--workdir={workdir}"]
    for after in kills:  # within the first epoch and within the second
        process = run_script.start(launch.QUICK, tmp_path, *flags)
        launch.wait_for_step([process], workdir, after, launch.LIMIT)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    process = run_script.start(launch.QUICK, tmp_path, *flags)
    output, errors = process.communicate(launch.LIMIT)
    assert process.returncode == 0, errors
    assert "Resuming after step" in output
    expected, found = final_state(uninterrupted, 40), final_state(workdir, 40)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    for figure in ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "validation_cohen_kappa"):
        histories = [json.load(open(run / "history.json")) for run in (uninterrupted, workdir)]
        assert [entry[figure] for entry in histories[0]] == [entry[figure] for entry in histories[1]], figure
        tables = [list(csv.DictReader(open(run / "history.csv"))) for run in (uninterrupted, workdir)]
        assert [row[figure] for row in tables[0]] == [row[figure] for row in tables[1]], figure
    best = [json.load(open(run / "best.json")) for run in (uninterrupted, workdir)]
    assert best[0] == best[1]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.extended)]
)
def test_run_stopped_by_signal_leaves_checkpoint_and_resumes(synthetic_shards, tmp_path, number, code):
    """Runs the program, to check its exit code and its message."""
    workdir = tmp_path / "run"
    config = launch.write_config(tmp_path, factories.experiment(max_steps=400, save_every_steps=3, ema_decay=0.0))
    flags = [f"--config={config}", f"--data={synthetic_shards.folder}", f"--workdir={workdir}"]
    process = run_script.start("train.py", tmp_path, *flags)
    launch.wait_for_step([process], workdir, 3, launch.LIMIT)
    process.send_signal(number)
    _, errors = process.communicate(launch.LIMIT)
    assert process.returncode == code, errors
    last_step = checkpoints.list_steps(str(workdir / "checkpoints"))[-1]
    assert f"Stopped after step {last_step} of 400 as requested" in errors
    assert "the same command resumes" in errors
    assert "Traceback" not in errors


def test_run_writes_record_weights_and_plots(uninterrupted):
    names = set(os.listdir(uninterrupted))
    assert names == {"config.json", "history.json", "history.csv", "curves.png", "best.json", "checkpoints", "events"}
    history = json.load(open(uninterrupted / "history.json"))
    assert [(entry["epoch"], entry["step"]) for entry in history] == [(1, 20), (2, 40)]
    table = list(csv.DictReader(open(uninterrupted / "history.csv")))
    assert [{name: json.loads(value) for name, value in row.items()} for row in table] == history
    assert all(0 <= entry["input_wait_share"] < 1 for entry in history)
    assert all(
        -1 <= entry[name] <= 1 for entry in history for name in ("validation_cohen_kappa", "validation_matthews")
    )
    assert not [path for path in uninterrupted.rglob("*") if ".tmp" in path.name]


def test_run_events_match_its_history(settings, uninterrupted):
    folder = uninterrupted / "events"
    values = {
        ((file.parent.relative_to(folder) / value.tag).as_posix(), event.step): value
        for file in folder.rglob("events.*")
        for event in tf.compat.v1.train.summary_iterator(str(file))
        for value in event.summary.value
    }
    for entry in json.load(open(uninterrupted / "history.json")):
        for name, (writer, tag) in metric_logging.EPOCH_SCALARS.items():
            found = tf.make_ndarray(values[f"{writer}/{tag}", entry["step"]].tensor)
            assert found == pytest.approx(entry[name], abs=1e-4)
        assert ("validation/confusion_matrix", entry["step"]) in values
    steps = {step for tag, step in values if tag == "train/step/gradient_norm"}
    assert steps == {20, 40}
    assert {tag for tag, _ in values} >= {
        "train/step/loss_scale",
        "train/step/images_per_second",
        "augmented",
        "validation/mistakes",
        "config",
    }
    traces = list((uninterrupted / "events").rglob("*.xplane.pb"))
    assert len(traces) == (1 if settings.train.profile_steps else 0)
    assert all(b"Conv2DBackpropFilter" in trace.read_bytes() for trace in traces)


def test_run_converts_no_function_of_fer_with_autograph(uninterrupted):
    """AutoGraph changes nothing in these functions, but its conversion took seconds at every start."""
    converted = json.loads((uninterrupted.parent / "converted.json").read_text())
    assert not [module for module in converted if module.split(".")[0] == "fer"]


def test_run_reports_completion_and_changes_nothing_when_repeated(settings, synthetic_shards, uninterrupted, capsys):
    before = {path: path.stat().st_mtime_ns for path in uninterrupted.rglob("*") if path.is_file()}
    trainer.train(settings, synthetic_shards.folder, str(uninterrupted), "one")
    assert "is complete: 40 steps" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in uninterrupted.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("model.name", "resnet", "no model 'resnet'"),
        ("augment.policy", "flop", "no operation 'flop'"),
        ("train.global_batch_size", 999, "the train split has only 320 examples"),
        ("finetune.trainable_blocks", 99, "config.finetune.trainable_blocks is 99"),
    ],
)
def test_run_that_cannot_start_leaves_no_files(synthetic_shards, tmp_path, field, value, message):
    settings = factories.experiment()
    holder, _, name = field.partition(".")
    setattr(getattr(settings, holder), name, value)
    with pytest.raises(UserError, match=message):
        trainer.train(settings, synthetic_shards.folder, str(tmp_path / "run"), "one")
    assert not (tmp_path / "run").exists()


def test_train_rejects_single_device_strategy_with_several_workers(synthetic_shards, tmp_path):
    workers = Cluster(("127.0.0.1:1", "127.0.0.1:2"), 1)
    with pytest.raises(UserError, match="--strategy=one trains on this machine alone, but there are 2 workers"):
        trainer.train(factories.experiment(), synthetic_shards.folder, str(tmp_path / "run"), "one", workers=workers)
    assert not (tmp_path / "run").exists()


def test_run_stops_and_keeps_last_checkpoint_when_loss_is_nan(synthetic_shards, tmp_path):
    settings = factories.experiment(max_steps=60, save_every_steps=1, ema_decay=0.0)
    settings.optimizer.learning_rate = 1e9
    with pytest.raises(
        UserError, match=r"NaN or infinite at step \d+\. .*The last checkpoint, of step \d+, is unchanged"
    ):
        trainer.train(settings, synthetic_shards.folder, str(tmp_path / "run"), "one")
    saved_steps = checkpoints.list_steps(str(tmp_path / "run" / "checkpoints"))
    assert saved_steps
    for weights in final_state(tmp_path / "run", saved_steps[-1]).values():
        if isinstance(weights, np.ndarray) and weights.dtype == np.float32:
            assert not np.isnan(weights).any()


def test_run_stops_with_same_message_when_validation_loss_is_infinite(synthetic_shards, tmp_path, monkeypatch):
    infinite = eval_step.Score(float("inf"), np.eye(7, dtype=np.int64))
    monkeypatch.setattr(eval_step, "make_scorer", lambda *_: lambda: infinite)
    with pytest.raises(UserError, match=r"NaN or infinite at step 4\. .*The last checkpoint, of step 2, is unchanged"):
        trainer.train(factories.experiment(), synthetic_shards.folder, str(tmp_path / "run"), "one")


def test_run_stops_after_epoch_when_requested_in_its_last_call(synthetic_shards, tmp_path, monkeypatch):
    stop = preemption.StopRequest()
    stop.exit_code = 128 + signal.SIGTERM
    monkeypatch.setattr(preemption, "stop_on_signals", lambda: contextlib.nullcontext(stop))
    settings = factories.experiment(
        max_steps=60, steps_per_execution=20, save_every_steps=100, ema_decay=0.0
    )  # 20 steps per epoch
    with pytest.raises(Stopped, match="Stopped after step 20 of 60 as requested, with a checkpoint"):
        trainer.train(settings, synthetic_shards.folder, str(tmp_path / "run"), "one")
    assert checkpoints.list_steps(str(tmp_path / "run" / "checkpoints")) == [20]
    assert len(json.loads((tmp_path / "run" / "history.json").read_text())) == 1


def test_train_rejects_batch_that_replicas_cannot_share(synthetic_shards, tmp_path):
    settings = factories.experiment(global_batch_size=15, num_replicas=2)
    with pytest.raises(UserError, match="15, which 2 replicas cannot share evenly; choose 14"):
        trainer.train(settings, synthetic_shards.folder, str(tmp_path / "run"), "mirrored")


@pytest.mark.parametrize("mode", ["in_memory", "streaming"])
@pytest.mark.parametrize("damage", ["cut", "bit", "missing", "no manifest"])
def test_run_stops_before_first_step_when_data_is_damaged(synthetic_shards, tmp_path, damage, mode):
    data = tmp_path / "shards"
    data.mkdir()
    for path in pathlib.Path(synthetic_shards.folder).glob("*"):
        (data / path.name).write_bytes(path.read_bytes())
    shard = data / manifest.read_manifest(str(data)).split("train").shards[0].file
    content = bytearray(shard.read_bytes())
    if damage == "cut":
        shard.write_bytes(content[:-100])
    elif damage == "bit":
        content[5000] ^= 4
        shard.write_bytes(content)
    elif damage == "missing":
        shard.unlink()
    else:
        (data / "manifest.json").unlink()
    settings = factories.experiment()
    settings.data.mode = mode
    with pytest.raises(UserError) as caught:
        trainer.train(settings, str(data), str(tmp_path / "run"), "one")
    assert ("manifest.json" if damage == "no manifest" else shard.name) in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_train_rejects_faces_without_label(synthetic_shards, tmp_path):
    data = shutil.copytree(synthetic_shards.folder, tmp_path / "shards")
    content = json.loads((data / "manifest.json").read_text())
    content["splits"]["train"]["class_counts"]["fear"] -= 3
    manifest.write_manifest(str(data), content)
    with pytest.raises(UserError, match=r"The train split of .* has 3 faces without a label"):
        trainer.train(factories.experiment(), str(data), str(tmp_path / "run"), "one")


def test_run_gives_same_weights_without_test_split(synthetic_shards, trained_run, tmp_path):
    """Guarantee 3: no shard of the test split is opened, not even to verify its hash."""
    data = shutil.copytree(synthetic_shards.folder, tmp_path / "shards")
    test_shards = list(data.glob("test-*"))
    assert test_shards
    for shard in test_shards:
        shard.unlink()
    settings = config.from_dict(json.loads((trained_run / "config.json").read_text())["config"])
    trainer.train(settings, str(data), str(tmp_path / "without"), "one")
    one, other = (json.loads((run / "best.json").read_text()) for run in (trained_run, tmp_path / "without"))
    assert one == other


@pytest.mark.parametrize(
    ("message", "raised", "text"),
    [
        (
            "OOM when allocating tensor with shape[8192,64,96,96]",
            UserError,
            r"too little memory .*shape\[8192.*Lower config\.train\.global_batch_size",
        ),
        ("events/a.profile; No space left on device", tf.errors.ResourceExhaustedError, "No space left"),
    ],
)
def test_train_reports_a_device_without_memory_as_user_error(
    synthetic_shards, tmp_path, monkeypatch, message, raised, text
):
    def fail(*_arguments):
        raise tf.errors.ResourceExhaustedError(None, None, message)

    monkeypatch.setattr(trainer.Trainer, "_train_epoch", fail)
    with pytest.raises(raised, match=text):
        trainer.train(factories.experiment(), synthetic_shards.folder, str(tmp_path / "run"), "one")
