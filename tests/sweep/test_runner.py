"""Tests of fer/sweep/runner.py, report.py and optuna_study.py, and of scripts/sweep.py."""

import contextlib
import dataclasses
import json
import pathlib
import shutil
import signal
import sqlite3
import subprocess
import sys
from unittest import mock

import pytest
import tensorflow as tf

optuna = pytest.importorskip("optuna", reason="sweeps are tested with the extra sweep (optuna)")

from optuna.trial import TrialState

from fer.config import Experiment
from fer.errors import RunInUseError, Stopped, StorageError, UserError
from fer.evaluation import eval_json
from fer.sweep import optuna_study, runner, search_space, trial_leases
from fer.train import checkpoints, preemption, trainer
from tests.scripts import run_script
from tests.shared import shared_folder
from tests.sweep import factories

EPOCHS = 3
FLAGS = [
    "--config=configs/compact.py",
    "--config.model.name=compact_s",
    "--config.model.image_size=24",
    "--config.augment.policy=flip",
    "--config.train.precision=float32",
    "--config.train.global_batch_size=64",
    f"--config.train.epochs={EPOCHS}",
    "--config.optimizer.warmup_epochs=0",
]


def start(root, data: str, output, *flags: str) -> subprocess.Popen:
    command = [sys.executable, str(root / "scripts" / "sweep.py"), f"--data={data}", f"--output={output}"]
    return subprocess.Popen(
        [*command, *FLAGS, *flags], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture(scope="module", params=factories.MODES)
def swept(request, synthetic_shards, tmp_path_factory):
    """Runs a sweep over two seeds and two batch sizes, one of which exceeds the training data."""
    base = factories.experiment(max_steps=0, epochs=2, save_every_steps=100)
    found = search_space.parse_grid("seed=0,1; train.global_batch_size=321,64", base)  # the train split has 320 faces
    plan = optuna_study.Plan(found, True, 4, 0)

    def run(output: pathlib.Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            factories.patch_training(patch, request.param)
            runner.run_sweep(runner.Sweep(base, plan, synthetic_shards.folder, str(output), strategy="one"))

    return shared_folder(tmp_path_factory, f"sweep, {request.param}", run)


def check_trial(folder, seed: int, epochs: int) -> dict:
    """Checks the files of a trial's run directory. Returns the config."""
    recorded = json.loads((folder / "config.json").read_text())["config"]
    assert recorded["seed"] == seed
    evaluation = eval_json.read_eval(str(folder / "eval.json"))
    assert (evaluation["split"], evaluation["examples"]) == ("validation", 40)
    history = json.loads((folder / "history.json").read_text())
    assert [entry["epoch"] for entry in history] == list(range(1, epochs + 1))
    assert evaluation["accuracy"] == max(entry["validation_accuracy"] for entry in history)
    return recorded


def test_trials_have_run_directories_with_evaluations(swept):
    for number, seed in ((1, 0), (3, 1)):
        assert check_trial(swept / f"trial-{number:04d}", seed, epochs=2)["train"]["global_batch_size"] == 64


def test_failed_trial_is_recorded_with_its_reason_and_the_others_continue(swept):
    trials = json.loads((swept / "sweep.json").read_text())["trials"]
    assert [trial["state"] for trial in trials] == ["complete", "complete", "failed", "failed"]
    assert [trial["number"] for trial in trials[2:]] == [0, 2]
    assert all("only 320 examples" in trial["failure"] for trial in trials[2:])


def test_run_sweep_keeps_trial_when_its_directory_cannot_be_written(synthetic_shards, tmp_path):
    base = factories.experiment(max_steps=2)
    (tmp_path / "trial-0000").write_text("a file in place of the run directory")
    plan = optuna_study.Plan(search_space.parse_grid("seed=0,1", base), True, 2, 0)
    sweep = runner.Sweep(base, plan, synthetic_shards.folder, str(tmp_path), strategy="one")
    with pytest.raises(StorageError, match="trial-0000"):
        runner.run_sweep(sweep)
    assert [trial.state for trial in plan.of(sweep.open_study())] == [TrialState.RUNNING]


def test_train_trial_keeps_trial_when_the_data_are_missing(synthetic_shards, tmp_path):
    base, data = factories.experiment(max_steps=2), tmp_path / "shards"
    data.symlink_to(synthetic_shards.folder)
    plan = optuna_study.Plan(search_space.parse_grid("seed=0,1", base), True, 2, 0)
    sweep = runner.Sweep(base, plan, str(data), str(tmp_path / "out"), strategy="one")
    shared = sweep.open_study()
    data.unlink()
    trial = runner._acquire_trial(sweep, shared, preemption.StopRequest())
    with pytest.raises(UserError, match=r"shards has no manifest\.json"):
        runner._train_trial(sweep, shared, trial, preemption.StopRequest())
    assert [trial.state for trial in plan.of(shared)] == [TrialState.RUNNING]


def test_epoch_callback_keeps_trial_when_the_study_is_unreachable(synthetic_shards, tmp_path):
    base = factories.experiment(max_steps=2)
    plan = optuna_study.Plan(search_space.parse_grid("seed=0,1", base), True, 2, 0)
    storage = f"sqlite:///{tmp_path}/study.db?timeout=0.1"
    sweep = runner.Sweep(base, plan, synthetic_shards.folder, str(tmp_path / "out"), storage, strategy="one")
    shared = sweep.open_study()
    trial = runner._acquire_trial(sweep, shared, preemption.StopRequest())
    with contextlib.closing(sqlite3.connect(tmp_path / "study.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(
            StorageError, match=r"The study of the sweep cannot be reached \(.*database is locked.*same"
        ):
            runner._make_epoch_callback(trial)({"validation_accuracy": 0.5, "epoch": 1})
    assert [trial.state for trial in plan.of(shared)] == [TrialState.RUNNING]


def make_trial(synthetic_shards, tmp_path) -> tuple[runner.Sweep, optuna.Study, optuna.Trial]:
    """Returns a sweep of two trials, its study and its first trial."""
    base = factories.experiment(max_steps=2)
    plan = optuna_study.make_grid_plan(search_space.parse_grid("seed=0,1", base))
    sweep = runner.Sweep(base, plan, synthetic_shards.folder, str(tmp_path), strategy="one")
    shared = sweep.open_study()
    return sweep, shared, runner._acquire_trial(sweep, shared, preemption.StopRequest())


@pytest.mark.parametrize(
    ("error", "stops"),
    [
        (tf.errors.InternalError(None, None, "cuDNN cannot run it"), True),
        (tf.errors.UnimplementedError(None, None, "no such kernel"), False),
        (tf.errors.ResourceExhaustedError(None, None, "OOM when allocating a tensor"), False),
    ],
)
def test_train_trial_records_error_of_tensorflow_and_stops_if_the_device_may_fail(
    synthetic_shards, tmp_path, monkeypatch, error, stops
):
    sweep, shared, trial = make_trial(synthetic_shards, tmp_path)
    monkeypatch.setattr(trainer, "train", mock.Mock(side_effect=error))
    expected = pytest.raises(UserError, match="may leave the device unusable") if stops else contextlib.nullcontext()
    with expected:
        runner._train_trial(sweep, shared, trial, preemption.StopRequest())
    (failed,) = sweep.plan.of(shared)
    assert (failed.state, failed.user_attrs[optuna_study.FAILURE]) == (TrialState.FAIL, error.message)


def test_train_trial_keeps_trial_when_the_disk_is_full(synthetic_shards, tmp_path, monkeypatch):
    sweep, shared, trial = make_trial(synthetic_shards, tmp_path)
    error = tf.errors.ResourceExhaustedError(None, None, "No space left on device")
    monkeypatch.setattr(trainer, "train", mock.Mock(side_effect=error))
    with pytest.raises(StorageError, match="No space left on device"):
        runner._train_trial(sweep, shared, trial, preemption.StopRequest())
    assert [trial.state for trial in sweep.plan.of(shared)] == [TrialState.RUNNING]


@pytest.mark.parametrize(
    ("error", "states"),
    [
        (Stopped("stopped", 143), [TrialState.FAIL]),
        (RunInUseError("in use"), [TrialState.RUNNING]),
    ],
)
def test_train_leased_leaves_interrupted_trial_for_another_process(
    synthetic_shards, tmp_path, monkeypatch, error, states
):
    sweep, shared, trial = make_trial(synthetic_shards, tmp_path)

    def train(*_, **__):
        raise error

    monkeypatch.setattr(trainer, "train", train)
    with pytest.raises(Stopped) if isinstance(error, Stopped) else contextlib.nullcontext():
        runner._train_leased(sweep, shared, trial, preemption.StopRequest())
    (left,) = sweep.plan.of(shared)
    assert [left.state] == states
    assert optuna_study.FAILURE not in left.user_attrs
    if isinstance(error, Stopped):
        again = runner._acquire_trial(sweep, shared, preemption.StopRequest())
        assert (again.params, sweep.plan.point(shared, again.number)) == ({"seed": 0}, 0)


def test_train_leased_ends_when_another_process_took_the_trial(synthetic_shards, tmp_path, monkeypatch, capsys):
    sweep, shared, trial = make_trial(synthetic_shards, tmp_path)

    def train(*arguments, options):
        trial_leases.release_trial(shared, trial)  # as `fail_stale_trials` in another process does
        options.on_epoch({"validation_accuracy": 0.5, "epoch": 1})
        raise AssertionError("the callback of the epoch must end the training")

    monkeypatch.setattr(trainer, "train", train)
    runner._train_leased(sweep, shared, trial, preemption.StopRequest())
    assert "another process took it" in capsys.readouterr().out
    assert optuna_study.FAILURE not in sweep.plan.of(shared)[0].user_attrs


def test_run_sweep_checks_all_values_before_training(synthetic_shards, tmp_path):
    base = factories.experiment(max_steps=2)
    for text, message in (
        ("augment.policy=flip,flop", "no operation 'flop'"),
        ("model.name=compact_s,compac", "There is no model 'compac'; the nearest is compact"),
    ):
        for plan in (
            optuna_study.make_grid_plan(search_space.parse_grid(text, base)),
            optuna_study.Plan(search_space.parse_space(text.replace("=", "=choice(") + ")", base), False, 2, 0),
        ):
            with pytest.raises(UserError, match=message):
                runner.run_sweep(
                    runner.Sweep(base, plan, synthetic_shards.folder, str(tmp_path / "out"), strategy="one")
                )
    assert not (tmp_path / "out").exists()


def test_run_sweep_raises_user_error_when_all_trials_fail(synthetic_shards, tmp_path):
    base = factories.experiment(max_steps=2)
    plan = optuna_study.make_grid_plan(search_space.parse_grid("train.global_batch_size=321,400", base))
    with pytest.raises(UserError, match=rf"^All 2 trials failed\. {tmp_path}/sweep\.md lists the reasons"):
        runner.run_sweep(runner.Sweep(base, plan, synthetic_shards.folder, str(tmp_path), strategy="one"))
    assert (tmp_path / "sweep.md").read_text().count("only 320 examples") == 2


def test_evaluate_trial_evaluates_again_only_when_the_weights_changed(
    synthetic_shards, evaluated_run, tmp_path, monkeypatch
):
    factories.disable_plots(monkeypatch)
    run, data = str(tmp_path / "run"), synthetic_shards.folder
    shutil.copytree(evaluated_run, run)
    evaluation = tmp_path / "run" / "eval.json"
    first, before = eval_json.read_eval(str(evaluation))["accuracy"], evaluation.stat().st_mtime_ns
    assert runner._evaluate_trial(run, data) == first
    assert evaluation.stat().st_mtime_ns == before  # the same weights are not evaluated twice
    other = json.loads((tmp_path / "run" / "best.json").read_text())
    stale = json.loads(evaluation.read_text())
    stale["accuracy"], stale["protocol"]["members"][0]["weights_sha256"] = 0.001, 64 * "0"
    evaluation.write_text(json.dumps(stale))
    assert runner._evaluate_trial(run, data) == first
    found = eval_json.read_eval(str(evaluation))
    assert found["protocol"]["members"][0]["weights_sha256"] == other["sha256"]


@pytest.mark.parametrize(
    ("key", "value"), [("split", "test"), ("tta", "flip"), ("labels", "ferplus"), ("manifest_sha256", 64 * "1")]
)
def test_evaluate_trial_evaluates_again_when_the_evaluation_is_of_another_protocol(
    synthetic_shards, evaluated_run, tmp_path, monkeypatch, key, value
):
    factories.disable_plots(monkeypatch)
    run = str(tmp_path / "run")
    shutil.copytree(evaluated_run, run)
    content = json.loads((tmp_path / "run" / "eval.json").read_text())
    expected = content["accuracy"]
    parent = next(each for each in (content, content["protocol"], content["data"]) if key in each)
    content["accuracy"], parent[key] = 0.001, value
    (tmp_path / "run" / "eval.json").write_text(json.dumps(content))
    assert runner._evaluate_trial(run, synthetic_shards.folder) == expected


def check_sweep_stops_after_first_trial(base: Experiment, data: str, output: str) -> None:
    """Runs a sweep of two trials, which SIGTERM ends when the first is complete."""
    plan = optuna_study.make_grid_plan(search_space.parse_grid("seed=0,1", base))
    sweep = runner.Sweep(base, plan, data, output, strategy="one")
    with pytest.raises(Stopped, match="Stopped between two trials") as stopped:
        runner.run_sweep(sweep)
    assert stopped.value.exit_code == 128 + signal.SIGTERM
    assert [trial.state for trial in plan.of(sweep.open_study())] == [TrialState.COMPLETE]


@pytest.mark.extended
def test_signal_during_the_last_validation_ends_the_sweep_after_the_trial(synthetic_shards, tmp_path, monkeypatch):
    saved = checkpoints.save

    def save_and_signal(*arguments, **named):
        signal.raise_signal(signal.SIGTERM)
        return saved(*arguments, **named)

    base = factories.experiment(max_steps=0, epochs=1, global_batch_size=64, save_every_steps=100)
    monkeypatch.setattr(checkpoints, "save", save_and_signal)
    check_sweep_stops_after_first_trial(base, synthetic_shards.folder, str(tmp_path))


def test_signal_at_the_end_of_a_trial_ends_the_sweep_after_the_trial(synthetic_shards, tmp_path, monkeypatch):
    def train(*arguments, **named):
        factories.train(*arguments, **named)
        signal.raise_signal(signal.SIGTERM)

    base = factories.experiment(max_steps=0, epochs=1, global_batch_size=64)
    monkeypatch.setattr(trainer, "train", train)
    check_sweep_stops_after_first_trial(base, synthetic_shards.folder, str(tmp_path))


def test_signal_while_waiting_for_trial_of_another_machine_ends_the_sweep(synthetic_shards, tmp_path, monkeypatch):
    base = factories.experiment(max_steps=2)
    plan = optuna_study.make_grid_plan(search_space.parse_grid("seed=0", base))
    sweep = runner.Sweep(base, plan, synthetic_shards.folder, str(tmp_path), strategy="one")
    sweep.open_study().ask()
    monkeypatch.setattr(trial_leases.time, "sleep", lambda _: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(Stopped, match="Stopped between two trials") as stopped:
        runner.run_sweep(sweep)
    assert stopped.value.exit_code == 128 + signal.SIGTERM


def test_report_has_every_trial_and_the_mean_over_seeds(swept):
    content = json.loads((swept / "sweep.json").read_text())
    one, other = (
        eval_json.read_eval(str(swept / f"trial-{number:04d}" / "eval.json"))["accuracy"] for number in (1, 3)
    )
    assert {trial["number"]: trial["accuracy"] for trial in content["trials"]} == {0: None, 1: one, 2: None, 3: other}
    (group,) = content["over_seeds"]
    assert (group["values"], group["seeds"]) == ({"train.global_batch_size": 64}, 2)
    assert group["mean"] == pytest.approx((one + other) / 2)
    assert group["deviation"] == pytest.approx(abs(one - other) / 2**0.5)
    table = (swept / "sweep.md").read_text()
    assert (table.count("| complete |"), table.count("| failed: ")) == (2, 2)
    assert "| seed | train.global_batch_size |" in table


def test_report_of_small_grid_has_no_plots_of_chance(swept):
    assert not list(swept.glob("*.png"))
    assert "Importances need 10 complete trials that vary at least two fields." in (swept / "sweep.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["", "sqlite:///"])
def test_sweep_resumes_the_trial_of_a_killed_process_in_another_process(root, synthetic_shards, tmp_path, storage):
    output, flags = tmp_path / "out", ["--grid=seed=0,1; model.dropout=0.1,0.3"]
    flags += [f"--storage={storage}{tmp_path}/study.db"] if storage else []
    first, second = (start(root, synthetic_shards.folder, output, *flags) for _ in range(2))
    for line in first.stdout:
        if line.startswith("epoch 2:"):  # a checkpoint exists
            break
    first.send_signal(signal.SIGKILL)
    first.communicate()
    second_output, errors = second.communicate(timeout=600)
    assert second.returncode == 0, errors
    third = start(
        root, synthetic_shards.folder, output, *flags
    )  # the second may have ended before the first was killed
    third_output, errors = third.communicate(timeout=600)
    assert third.returncode == 0, errors
    assert (second_output + third_output).count("Resuming after step") == 1
    for number in range(4):
        recorded = check_trial(output / f"trial-{number:04d}", number // 2, EPOCHS)
        assert recorded["model"]["dropout"] == [0.1, 0.3][number % 2]
    trials = json.loads((output / "sweep.json").read_text())["trials"]
    assert sorted((trial["number"], trial["state"]) for trial in trials) == [(n, "complete") for n in range(4)]


def test_pruned_trial_is_evaluated_and_reported(synthetic_shards, tmp_path, capsys, monkeypatch):
    factories.disable_plots(monkeypatch)
    base = factories.experiment(max_steps=0, epochs=EPOCHS, global_batch_size=64)
    found = search_space.parse_space("model.dropout=uniform(0.1,0.3)", base)
    plan = optuna_study.Plan(found, False, optuna_study.STARTUP_TRIALS + 1, 0)
    sweep = runner.Sweep(
        base, plan, synthetic_shards.folder, str(tmp_path), pruning="median", prune_after=0, strategy="one"
    )
    shared = sweep.open_study()
    for _ in range(optuna_study.STARTUP_TRIALS):  # better results than any run can have
        shared.add_trial(
            optuna.trial.create_trial(
                params={"model.dropout": 0.2},
                distributions={"model.dropout": optuna.distributions.FloatDistribution(0.1, 0.3)},
                value=1.0,
                intermediate_values={epoch: 1.0 for epoch in range(1, EPOCHS + 1)},
                user_attrs={"accuracy": 1.0},
            )
        )
    runner.run_sweep(sweep)
    (trial,) = plan.of(shared, TrialState.PRUNED)
    folder = tmp_path / f"trial-{trial.number:04d}"
    assert [entry["epoch"] for entry in json.loads((folder / "history.json").read_text())] == [1]
    assert eval_json.read_eval(str(folder / "eval.json"))["accuracy"] < 1
    assert f"Trial {trial.number} is pruned: after epoch 1" in capsys.readouterr().out
    assert "| pruned |" in (tmp_path / "sweep.md").read_text()


def test_epoch_callback_names_the_best_accuracy_of_a_pruned_trial(monkeypatch):
    trial = optuna.create_study(direction="maximize").ask()
    on_epoch = runner._make_epoch_callback(trial)
    on_epoch({"validation_accuracy": 0.5, "epoch": 1})
    monkeypatch.setattr(trial, "should_prune", lambda: True)
    with pytest.raises(optuna.TrialPruned, match=r"after epoch 2 its best accuracy, 0\.5000, is below the median"):
        on_epoch({"validation_accuracy": 0.25, "epoch": 2})


MISTAKES = {
    "Give either --grid=": [],
    "There is no field model.dropuot; the nearest is model.dropout": ["--grid=model.dropuot=0.1"],
    "--storage=nowhere is no storage": ["--ablations=train.ema_decay=0", "--storage=nowhere"],  # needs no grid
    "--storage=nowhere://db cannot be opened": ["--grid=seed=0", "--storage=nowhere://db"],
    "--extra_runs needs --ablations": ["--grid=seed=0", "--extra_runs=elsewhere"],
}


@pytest.mark.parametrize("message", MISTAKES)
def test_sweep_script_rejects_wrong_flags_without_writing(root, synthetic_shards, tmp_path, message):
    flags = [f"--data={synthetic_shards.folder}", f"--output={tmp_path / 'out'}", *FLAGS, *MISTAKES[message]]
    done = run_script.run("sweep.py", root, *flags)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1), done.stderr
    assert done.stderr.startswith(f"sweep.py: {message}")
    assert not (tmp_path / "out").exists()


@pytest.mark.extended
def test_sweep_script_rejects_wrong_storage_when_started_as_a_user_does(root, synthetic_shards, tmp_path):
    process = start(root, synthetic_shards.folder, tmp_path / "out", "--grid=seed=0", "--storage=nowhere://db")
    output, errors = process.communicate(timeout=300)
    assert (process.returncode, len(errors.splitlines())) == (1, 1), errors
    assert output in ("", "Loading TensorFlow ...\n")  # the line appears on a slow machine
    assert errors.startswith("sweep.py: --storage=nowhere://db cannot be opened")


def test_open_study_error_names_output_that_cannot_hold_the_study(synthetic_shards, tmp_path):
    base, output = factories.experiment(), tmp_path / "file" / "sweep"
    (tmp_path / "file").write_text("a file in place of a directory")
    sweep = runner.Sweep(
        base,
        optuna_study.make_grid_plan(search_space.parse_grid("seed=0,1", base)),
        synthetic_shards.folder,
        str(output),
    )
    with pytest.raises(UserError, match=rf"^--output={output} cannot be opened for the study \(.*Not a directory"):
        sweep.open_study()


def test_open_study_error_names_differing_fields_of_another_sweep(synthetic_shards, tmp_path):
    for seed in (0, 1):
        base = dataclasses.replace(factories.experiment(), seed=seed)
        plan = optuna_study.make_grid_plan(search_space.parse_grid("model.dropout=0.1", base))
        sweep = runner.Sweep(base, plan, synthetic_shards.folder, str(tmp_path))
        if seed == 0:
            sweep.open_study()
    with pytest.raises(UserError, match=r"belongs to a sweep with another config \(seed: 0, not 1\)\. Choose"):
        sweep.open_study()


def test_open_study_accepts_config_with_former_names_of_fields(synthetic_shards, tmp_path):
    base = factories.experiment()
    plan = optuna_study.make_grid_plan(search_space.parse_grid("seed=0,1", base))
    sweep = runner.Sweep(base, plan, synthetic_shards.folder, str(tmp_path))
    shared = sweep.open_study()
    recorded = shared.user_attrs["asked"]
    train = recorded["config"]["train"]
    train["global_batch"] = train.pop("global_batch_size")
    shared.set_user_attr("asked", recorded)
    assert "global_batch" in shared.user_attrs["asked"]["config"]["train"]
    assert sweep.open_study().study_name == optuna_study.STUDY_NAME


def test_open_study_rejects_search_with_another_seed(synthetic_shards, tmp_path):
    """Samples depend on the seed, so a study with two seeds is not reproducible."""
    base = factories.experiment()
    found = search_space.parse_space("model.dropout=uniform(0.1,0.5)", base)

    def make_sweep(seed: int, trials: int = 12) -> runner.Sweep:
        return runner.Sweep(base, optuna_study.Plan(found, False, trials, seed), synthetic_shards.folder, str(tmp_path))

    make_sweep(0).open_study()
    with pytest.raises(UserError, match=r"belongs to a sweep with another --seed \(0, not 1\)\. Choose"):
        make_sweep(1).open_study()
    make_sweep(0, trials=24).open_study()  # more samples with the same seed belong to the same sweep


@pytest.mark.parametrize(
    ("space", "changes"), [("grid", {"none": {}}), ("grid", None), ("space", None)], ids=["ablations", "grid", "space"]
)
def test_open_study_rejects_pruning_of_trials_that_differ_in_the_seed(synthetic_shards, tmp_path, space, changes):
    """A mean over the seeds that survive a pruning by accuracy is biased."""
    base = factories.experiment()
    found = search_space.parse_grid("seed=0,1", base)
    plan = optuna_study.Plan(found, False, 4, 0) if space == "space" else optuna_study.make_grid_plan(found, changes)
    sweep = runner.Sweep(base, plan, synthetic_shards.folder, str(tmp_path), pruning="median")
    with pytest.raises(UserError, match=r"--pruning=median ends the trials of weak seeds, .* Use --pruning=none"):
        sweep.open_study()
    automatic = runner.Sweep(base, plan, synthetic_shards.folder, str(tmp_path)).open_study()
    assert automatic.user_attrs["asked"]["pruning"] == "none"


def test_train_trial_records_lack_of_memory(synthetic_shards, tmp_path, monkeypatch):
    base = factories.experiment()

    def fail(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr(trainer, "train", fail)
    plan = optuna_study.make_grid_plan(search_space.parse_grid("seed=0", base))
    sweep = runner.Sweep(base, plan, synthetic_shards.folder, str(tmp_path), strategy="one")
    with pytest.raises(UserError, match="All 1 trials failed"):
        runner.run_sweep(sweep)
    assert "memory" in (tmp_path / "sweep.md").read_text()


def test_storage_password_is_not_in_the_error():
    with pytest.raises(UserError, match=r"postgresql://user:\*\*\*@127\.0\.0\.1:1/x") as error:
        optuna_study.open_study("postgresql://user:secret@127.0.0.1:1/x", {}, "none", 0)
    assert "secret" not in str(error.value)


def test_sample_differs_between_neighbouring_seeds():
    base = factories.experiment()
    found = search_space.parse_space("model.dropout=uniform(0.1,0.5)", base)
    samples = []
    for seed in (0, 1):
        plan, shared = optuna_study.Plan(found, False, 12, seed), optuna.create_study()
        samples.append({plan.draw(shared, shared.ask())["model.dropout"] for _ in range(plan.trials)})
    assert len(samples[0] | samples[1]) == 24


def test_open_study_rejects_remote_output_without_storage(synthetic_shards):
    base = factories.experiment()
    plan = optuna_study.Plan(search_space.parse_grid("seed=0,1", base), True, 2, 0)
    with pytest.raises(UserError, match="--storage is missing"):
        runner.Sweep(base, plan, synthetic_shards.folder, "s3://bucket/sweep").open_study()


def test_open_study_rejects_grid_with_fields_in_another_order(synthetic_shards, tmp_path):
    """The number of a trial is its position in the grid, which depends on the order."""
    base = factories.experiment()

    def make_sweep(grid: str) -> runner.Sweep:
        return runner.Sweep(
            base,
            optuna_study.make_grid_plan(search_space.parse_grid(grid, base)),
            synthetic_shards.folder,
            str(tmp_path),
        )

    make_sweep("seed=0,1; model.dropout=0.1,0.3").open_study()
    with pytest.raises(
        UserError, match=r"with the fields in another order\. Give them in this order: seed; model\.dropout\."
    ):
        make_sweep("model.dropout=0.1,0.3; seed=0,1").open_study()
    make_sweep("seed=0,1; model.dropout=0.1,0.3").open_study()
