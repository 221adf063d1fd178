"""A sweep as a whole: it is shared, killed, resumed, prunes, and ends with a table and pictures."""

import contextlib
import dataclasses
import json
import pathlib
import shutil
import signal
import sqlite3
import subprocess
import sys

import pytest

optuna = pytest.importorskip("optuna", reason="sweeps are tested with the extra sweep (optuna)")

from optuna.trial import TrialState

from fer.errors import Stopped, StorageError, UserError
from fer.evaluation import eval_json
from fer.sweep import optuna_study, runner, search_space
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
    "--config.train.global_batch=64",
    f"--config.train.epochs={EPOCHS}",
    "--config.optimizer.warmup_epochs=0",
]


def start(root, data: str, output, *flags: str) -> subprocess.Popen:
    command = [sys.executable, str(root / "scripts" / "sweep.py"), f"--data={data}", f"--output={output}"]
    return subprocess.Popen(
        [*command, *FLAGS, *flags], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture(scope="module", params=factories.WAYS)
def swept(request, synthetic_shards, tmp_path_factory):
    """The output of a sweep over two seeds and a batch that there are not enough faces for."""
    base = factories.experiment(steps=0, epochs=2, checkpoint_steps=100)
    found = search_space.grid("seed=0,1; train.global_batch=321,64", base)  # the train split has 320 faces
    plan = optuna_study.Plan(found, True, 4, 0)

    def run(output: pathlib.Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            factories.results(patch, request.param)
            runner.run(runner.Sweep(base, plan, synthetic_shards.folder, str(output), strategy="one"))

    return shared_folder(tmp_path_factory, f"sweep, {request.param}", run)


def check_trial(folder, seed: int, epochs: int) -> dict:
    """Holds a trial's folder against what a run folder and its evaluation hold. Returns the config."""
    recorded = json.loads((folder / "config.json").read_text())["config"]
    assert recorded["seed"] == seed
    evaluation = eval_json.read_eval(str(folder / "eval.json"))
    assert (evaluation["split"], evaluation["examples"]) == ("validation", 40)
    history = json.loads((folder / "history.json").read_text())
    assert [entry["epoch"] for entry in history] == list(range(1, epochs + 1))
    assert evaluation["accuracy"] == max(entry["validation_accuracy"] for entry in history)
    return recorded


def test_sweep_writes_a_run_folder_with_evaluation_for_each_trial(swept):
    for number, seed in ((1, 0), (3, 1)):
        assert check_trial(swept / f"trial-{number:04d}", seed, epochs=2)["train"]["global_batch"] == 64


def test_sweep_records_failed_trial_and_continues(swept):
    trials = json.loads((swept / "sweep.json").read_text())["trials"]
    assert [trial["state"] for trial in trials] == ["complete", "complete", "failed", "failed"]
    assert [trial["number"] for trial in trials[2:]] == [0, 2]
    assert all("only 320 examples" in trial["failure"] for trial in trials[2:])


def test_sweep_stops_without_losing_a_trial_when_output_is_not_writable(synthetic_shards, tmp_path):
    base = factories.experiment(steps=2)
    (tmp_path / "trial-0000").write_text("where the run folder should be")
    plan = optuna_study.Plan(search_space.grid("seed=0,1", base), True, 2, 0)
    asked = runner.Sweep(base, plan, synthetic_shards.folder, str(tmp_path), strategy="one")
    with pytest.raises(StorageError, match="trial-0000"):
        runner.run(asked)
    assert [trial.state for trial in plan.of(asked.open_study())] == [TrialState.RUNNING]


def test_data_that_are_gone_end_the_sweep_and_cost_no_trial(synthetic_shards, tmp_path):
    base, data = factories.experiment(steps=2), tmp_path / "shards"
    data.symlink_to(synthetic_shards.folder)
    plan = optuna_study.Plan(search_space.grid("seed=0,1", base), True, 2, 0)
    asked = runner.Sweep(base, plan, str(data), str(tmp_path / "out"), strategy="one")
    shared = asked.open_study()
    data.unlink()
    trial = runner._taken(asked, shared)
    with pytest.raises(UserError, match=r"shards has no manifest\.json"):
        runner._train(asked, shared, trial, preemption.StopRequest())
    assert [trial.state for trial in plan.of(shared)] == [TrialState.RUNNING]


def test_sweep_stops_without_losing_a_trial_when_study_is_unreachable(synthetic_shards, tmp_path):
    base = factories.experiment(steps=2)
    plan = optuna_study.Plan(search_space.grid("seed=0,1", base), True, 2, 0)
    storage = f"sqlite:///{tmp_path}/study.db?timeout=0.1"
    asked = runner.Sweep(base, plan, synthetic_shards.folder, str(tmp_path / "out"), storage, strategy="one")
    shared = asked.open_study()
    trial = runner._taken(asked, shared)
    with contextlib.closing(sqlite3.connect(tmp_path / "study.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StorageError, match=r"The sweep's study cannot be reached \(.*database is locked.*same"):
            runner._hook(trial)({"validation_accuracy": 0.5, "epoch": 1})
    assert [trial.state for trial in plan.of(shared)] == [TrialState.RUNNING]


def test_sweep_checks_all_values_before_training(synthetic_shards, tmp_path):
    base = factories.experiment(steps=2)
    for text, said in (
        ("augment.policy=flip,flop", "no operation 'flop'"),
        ("model.name=compact_s,compac", "There is no model 'compac'; the nearest is compact"),
    ):
        for plan in (
            optuna_study.of_grid(search_space.grid(text, base)),
            optuna_study.Plan(search_space.search(text.replace("=", "=choice(") + ")", base), False, 2, 0),
        ):
            with pytest.raises(UserError, match=said):
                runner.run(runner.Sweep(base, plan, synthetic_shards.folder, str(tmp_path / "out"), strategy="one"))
    assert not (tmp_path / "out").exists()


def test_sweep_without_successful_trial_raises_user_error(synthetic_shards, tmp_path):
    base = factories.experiment(steps=2)
    plan = optuna_study.of_grid(search_space.grid("train.global_batch=321,400", base))
    with pytest.raises(UserError, match=rf"^All 2 trials failed; {tmp_path}/sweep\.md says why of each"):
        runner.run(runner.Sweep(base, plan, synthetic_shards.folder, str(tmp_path), strategy="one"))
    assert (tmp_path / "sweep.md").read_text().count("only 320 examples") == 2


def test_sweep_evaluates_again_a_trial_that_trained_on(synthetic_shards, evaluated_run, tmp_path, monkeypatch):
    factories.no_pictures(monkeypatch)
    run, data = str(tmp_path / "run"), synthetic_shards.folder
    shutil.copytree(evaluated_run, run)
    evaluation = tmp_path / "run" / "eval.json"
    first, before = eval_json.read_eval(str(evaluation))["accuracy"], evaluation.stat().st_mtime_ns
    assert runner._evaluated(run, data) == first
    assert evaluation.stat().st_mtime_ns == before  # the same weights are not evaluated twice
    other = json.loads((tmp_path / "run" / "best.json").read_text())
    stale = json.loads(evaluation.read_text())
    stale["accuracy"], stale["protocol"]["members"][0]["weights_sha256"] = 0.001, 64 * "0"
    evaluation.write_text(json.dumps(stale))
    assert runner._evaluated(run, data) == first
    found = eval_json.read_eval(str(evaluation))
    assert found["protocol"]["members"][0]["weights_sha256"] == other["sha256"]


@pytest.mark.extended
def test_signal_during_last_evaluation_stops_sweep_after_the_trial(synthetic_shards, tmp_path, monkeypatch):
    saved = checkpoints.save

    def signalled(*arguments, **named):
        signal.raise_signal(signal.SIGTERM)
        return saved(*arguments, **named)

    base = factories.experiment(steps=0, epochs=1, global_batch=64, checkpoint_steps=100)
    plan = optuna_study.of_grid(search_space.grid("seed=0,1", base))
    asked = runner.Sweep(base, plan, synthetic_shards.folder, str(tmp_path), strategy="one")
    monkeypatch.setattr(checkpoints, "save", signalled)
    with pytest.raises(Stopped, match="Stopped between two trials") as stopped:
        runner.run(asked)
    assert stopped.value.exit_code == 128 + signal.SIGTERM
    assert [trial.state for trial in plan.of(asked.open_study())] == [TrialState.COMPLETE]


def test_signal_at_the_end_of_a_trial_stops_sweep_after_the_trial(synthetic_shards, tmp_path, monkeypatch):
    def train(*arguments, **named):
        factories.train(*arguments, **named)
        signal.raise_signal(signal.SIGTERM)

    base = factories.experiment(steps=0, epochs=1, global_batch=64)
    plan = optuna_study.of_grid(search_space.grid("seed=0,1", base))
    asked = runner.Sweep(base, plan, synthetic_shards.folder, str(tmp_path), strategy="one")
    monkeypatch.setattr(trainer, "train", train)
    with pytest.raises(Stopped, match="Stopped between two trials") as stopped:
        runner.run(asked)
    assert stopped.value.exit_code == 128 + signal.SIGTERM
    assert [trial.state for trial in plan.of(asked.open_study())] == [TrialState.COMPLETE]


def test_report_table_holds_every_trial_and_mean_over_seeds(swept):
    content = json.loads((swept / "sweep.json").read_text())
    one, other = (
        eval_json.read_eval(str(swept / f"trial-{number:04d}" / "eval.json"))["accuracy"] for number in (1, 3)
    )
    assert {trial["number"]: trial["accuracy"] for trial in content["trials"]} == {0: None, 1: one, 2: None, 3: other}
    (group,) = content["over_seeds"]
    assert (group["values"], group["seeds"]) == ({"train.global_batch": 64}, 2)
    assert group["mean"] == pytest.approx((one + other) / 2)
    assert group["deviation"] == pytest.approx(abs(one - other) / 2**0.5)
    table = (swept / "sweep.md").read_text()
    assert (table.count("| complete |"), table.count("| failed: ")) == (2, 2)
    assert "| seed | train.global_batch |" in table


def test_report_draws_pictures(swept):
    assert (swept / "history.png").read_bytes().startswith(b"\x89PNG")
    values = {trial["accuracy"] for trial in json.loads((swept / "sweep.json").read_text())["trials"]} - {None}
    assert (swept / "importances.png").exists() == (len(values) > 1)


@pytest.mark.slow
def test_two_processes_share_a_sweep_and_the_trial_of_a_killed_one_is_gone_on_with(root, synthetic_shards, tmp_path):
    output, flags = tmp_path / "out", ["--grid=seed=0,1; model.dropout=0.1,0.3"]
    first, second = (start(root, synthetic_shards.folder, output, *flags) for _ in range(2))
    for line in first.stdout:
        if line.startswith("epoch 2:"):  # so there is a checkpoint
            break
    first.send_signal(signal.SIGKILL)
    first.communicate()
    told, errors = second.communicate(timeout=600)
    assert second.returncode == 0, errors
    third = start(root, synthetic_shards.folder, output, *flags)  # in case the second had ended before
    said, errors = third.communicate(timeout=600)
    assert third.returncode == 0, errors
    assert (told + said).count("Resuming after step") == 1
    for number in range(4):
        recorded = check_trial(output / f"trial-{number:04d}", number // 2, EPOCHS)
        assert recorded["model"]["dropout"] == [0.1, 0.3][number % 2]
    trials = json.loads((output / "sweep.json").read_text())["trials"]
    assert sorted((trial["number"], trial["state"]) for trial in trials) == [(n, "complete") for n in range(4)]


def test_pruning_stops_and_evaluates_trial_worse_than_the_others(synthetic_shards, tmp_path, capsys, monkeypatch):
    factories.no_pictures(monkeypatch)
    base = factories.experiment(steps=0, epochs=EPOCHS, global_batch=64)
    found = search_space.search("model.dropout=uniform(0.1,0.3)", base)
    plan = optuna_study.Plan(found, False, optuna_study.STARTUP + 1, 0)
    asked = runner.Sweep(
        base, plan, synthetic_shards.folder, str(tmp_path), pruning="median", prune_after=0, strategy="one"
    )
    shared = asked.open_study()
    for _ in range(optuna_study.STARTUP):  # results that no run on these faces reaches
        shared.add_trial(
            optuna.trial.create_trial(
                params={"model.dropout": 0.2},
                distributions={"model.dropout": optuna.distributions.FloatDistribution(0.1, 0.3)},
                value=1.0,
                intermediate_values={epoch: 1.0 for epoch in range(1, EPOCHS + 1)},
                user_attrs={"accuracy": 1.0},
            )
        )
    runner.run(asked)
    (trial,) = plan.of(shared, TrialState.PRUNED)
    folder = tmp_path / f"trial-{trial.number:04d}"
    assert [entry["epoch"] for entry in json.loads((folder / "history.json").read_text())] == [1]
    assert eval_json.read_eval(str(folder / "eval.json"))["accuracy"] < 1
    assert f"trial {trial.number} is given up: after epoch 1" in capsys.readouterr().out
    assert "| pruned |" in (tmp_path / "sweep.md").read_text()


MISTAKES = {
    "Give one of --grid=": [],
    "There is no field model.dropuot; the nearest is model.dropout": ["--grid=model.dropuot=0.1"],
    "--storage=nowhere is no storage": ["--grid=seed=0", "--storage=nowhere"],
    "--storage=nowhere://db cannot be opened": ["--grid=seed=0", "--storage=nowhere://db"],
    "--also adds to what --changes compares": ["--grid=seed=0", "--also=elsewhere"],
}


@pytest.mark.parametrize("said", MISTAKES)
def test_sweep_reports_mistake_in_one_sentence_and_makes_no_folder(root, synthetic_shards, tmp_path, said):
    flags = [f"--data={synthetic_shards.folder}", f"--output={tmp_path / 'out'}", *FLAGS, *MISTAKES[said]]
    done = run_script.run("sweep.py", root, *flags)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1), done.stderr
    assert done.stderr.startswith(f"sweep.py: {said}")
    assert not (tmp_path / "out").exists()


@pytest.mark.extended
def test_sweep_reports_mistake_when_started_as_a_program(root, synthetic_shards, tmp_path):
    process = start(root, synthetic_shards.folder, tmp_path / "out", "--grid=seed=0", "--storage=nowhere://db")
    output, errors = process.communicate(timeout=300)
    assert (process.returncode, output, len(errors.splitlines())) == (1, "", 1), errors
    assert errors.startswith("sweep.py: --storage=nowhere://db cannot be opened")


def test_sweep_error_names_output_that_cannot_hold_the_study(synthetic_shards, tmp_path):
    base, output = factories.experiment(), tmp_path / "file" / "sweep"
    (tmp_path / "file").write_text("where a folder should be")
    asked = runner.Sweep(
        base, optuna_study.of_grid(search_space.grid("seed=0,1", base)), synthetic_shards.folder, str(output)
    )
    with pytest.raises(UserError, match=rf"^--output={output} cannot be opened for the study \(.*Not a directory"):
        asked.open_study()


def test_sweep_error_names_differing_fields_of_another_study(synthetic_shards, tmp_path):
    for seed in (0, 1):
        base = dataclasses.replace(factories.experiment(), seed=seed)
        plan = optuna_study.of_grid(search_space.grid("model.dropout=0.1", base))
        asked = runner.Sweep(base, plan, synthetic_shards.folder, str(tmp_path))
        if seed == 0:
            asked.open_study()
    with pytest.raises(UserError, match=r"belongs to a sweep with another config \(seed: 0, not 1\); choose"):
        asked.open_study()


def test_sweep_rejects_study_of_another_search_seed(synthetic_shards, tmp_path):
    """What it draws depends on the seed, so nobody could repeat a study of two."""
    base = factories.experiment()
    found = search_space.search("model.dropout=uniform(0.1,0.5)", base)

    def asked(seed: int, trials: int = 12) -> runner.Sweep:
        return runner.Sweep(base, optuna_study.Plan(found, False, trials, seed), synthetic_shards.folder, str(tmp_path))

    asked(0).open_study()
    with pytest.raises(UserError, match=r"belongs to a sweep with another --seed \(0, not 1\); choose"):
        asked(1).open_study()
    asked(0, trials=24).open_study()  # more of the same draws is the same sweep


def test_storage_password_is_not_shown():
    with pytest.raises(UserError, match=r"postgresql://user:\*\*\*@127\.0\.0\.1:1/x") as refused:
        optuna_study.open_study("postgresql://user:secret@127.0.0.1:1/x", {}, "none", 0)
    assert "secret" not in str(refused.value)


def test_searches_with_neighbouring_seeds_draw_other_points():
    base = factories.experiment()
    found = search_space.search("model.dropout=uniform(0.1,0.5)", base)
    drawn = []
    for seed in (0, 1):
        plan, shared = optuna_study.Plan(found, False, 12, seed), optuna.create_study()
        drawn.append({plan.draw(shared, shared.ask())["model.dropout"] for _ in range(plan.trials)})
    assert len(drawn[0] | drawn[1]) == 24


def test_storage_flag_rejects_object_store(synthetic_shards):
    base = factories.experiment()
    plan = optuna_study.Plan(search_space.grid("seed=0,1", base), True, 2, 0)
    with pytest.raises(UserError, match="--storage is missing"):
        runner.Sweep(base, plan, synthetic_shards.folder, "s3://bucket/sweep").open_study()


def test_sweep_rejects_study_of_grid_with_fields_in_another_order(synthetic_shards, tmp_path):
    """A trial's number is its place in the grid, which the order decides."""
    base = factories.experiment()

    def asked(grid: str) -> runner.Sweep:
        return runner.Sweep(
            base, optuna_study.of_grid(search_space.grid(grid, base)), synthetic_shards.folder, str(tmp_path)
        )

    asked("seed=0,1; model.dropout=0.1,0.3").open_study()
    with pytest.raises(
        UserError, match=r"with its fields in another order \(seed; model\.dropout\): give them in that"
    ):
        asked("model.dropout=0.1,0.3; seed=0,1").open_study()
    asked("seed=0,1; model.dropout=0.1,0.3").open_study()
