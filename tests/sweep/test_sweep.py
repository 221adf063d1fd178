"""A sweep as a whole: it is shared, killed, resumed, prunes, and ends with a table and pictures."""

import json
import signal
import subprocess
import sys

import pytest

optuna = pytest.importorskip("optuna", reason="sweeps are tested with the extra sweep (optuna)")

from optuna.trial import TrialState

from fer.errors import UserError
from fer.evaluation import eval_json
from fer.sweep import space, study, sweep
from tests.train import made

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


@pytest.fixture(scope="module")
def swept(root, synthetic_shards, tmp_path_factory):
    """The output of a sweep that two processes shared, of which one was killed and started again; what that said."""
    output = tmp_path_factory.mktemp("sweep") / "out"
    flags = ["--grid=seed=0,1; model.dropout=0.1,0.3"]
    first, second = (start(root, synthetic_shards.folder, output, *flags) for _ in range(2))
    for line in first.stdout:
        if line.startswith("epoch 2:"):  # so there is a checkpoint
            break
    first.send_signal(signal.SIGKILL)
    first.communicate()
    told, errors = second.communicate(timeout=600)
    assert second.returncode == 0, errors
    third = start(root, synthetic_shards.folder, output, *flags)
    said, errors = third.communicate(timeout=600)
    assert third.returncode == 0, errors
    return output, told + said


def test_a_killed_process_leaves_its_trial_to_another_which_goes_on_in_its_folder(swept):
    _, told = swept
    assert told.count("Going on after step") == 1


def test_every_trial_is_a_run_folder_with_its_evaluation(swept):
    output, _ = swept
    for number in range(4):
        folder = output / f"trial-{number:04d}"
        recorded = json.loads((folder / "config.json").read_text())["config"]
        expected = {"seed": number // 2, "dropout": [0.1, 0.3][number % 2]}
        assert {"seed": recorded["seed"], "dropout": recorded["model"]["dropout"]} == expected
        evaluation = eval_json.read(str(folder / "eval.json"))
        assert (evaluation["split"], evaluation["examples"]) == ("validation", 40)
        history = json.loads((folder / "history.json").read_text())
        assert [entry["epoch"] for entry in history] == [1, 2, 3]
        assert evaluation["accuracy"] == max(entry["validation_accuracy"] for entry in history)


def test_the_table_holds_every_trial_and_the_mean_over_seeds(swept):
    output, _ = swept
    content = json.loads((output / "sweep.json").read_text())
    assert sorted(trial["number"] for trial in content["trials"]) == [0, 1, 2, 3]
    assert {trial["state"] for trial in content["trials"]} == {"complete"}
    accuracies = {}
    for trial in content["trials"]:
        evaluation = json.loads((output / f"trial-{trial['number']:04d}" / "eval.json").read_text())
        assert trial["accuracy"] == evaluation["accuracy"]
        accuracies.setdefault(trial["values"]["model.dropout"], []).append(trial["accuracy"])
    for group in content["over_seeds"]:
        one, other = accuracies[group["values"]["model.dropout"]]
        assert group["mean"] == pytest.approx((one + other) / 2)
        assert group["deviation"] == pytest.approx(abs(one - other) / 2**0.5)
    table = (output / "sweep.md").read_text()
    assert table.count("| complete |") == 4
    assert "| seed | model.dropout |" in table


def test_the_pictures_are_drawn(swept):
    output, _ = swept
    assert (output / "history.png").read_bytes().startswith(b"\x89PNG")
    values = {trial["accuracy"] for trial in json.loads((output / "sweep.json").read_text())["trials"]}
    assert (output / "importances.png").exists() == (len(values) > 1)


def test_a_trial_worse_than_the_others_is_given_up_and_evaluated(synthetic_shards, tmp_path, capsys):
    base = made.experiment(steps=0, epochs=EPOCHS, global_batch=64)
    found = space.search("model.dropout=uniform(0.1,0.3)", base)
    plan = study.Plan(found, False, study.STARTUP + 1, 0)
    asked = sweep.Sweep(
        base, plan, synthetic_shards.folder, str(tmp_path), pruning="median", prune_after=0, strategy="one"
    )
    shared = asked.open_study()
    for _ in range(study.STARTUP):  # results that no run on these faces reaches
        shared.add_trial(
            optuna.trial.create_trial(
                params={"model.dropout": 0.2},
                distributions={"model.dropout": optuna.distributions.FloatDistribution(0.1, 0.3)},
                value=1.0,
                intermediate_values={epoch: 1.0 for epoch in range(1, EPOCHS + 1)},
                user_attrs={"accuracy": 1.0},
            )
        )
    sweep.run(asked)
    (trial,) = plan.of(shared, TrialState.PRUNED)
    folder = tmp_path / f"trial-{trial.number:04d}"
    assert [entry["epoch"] for entry in json.loads((folder / "history.json").read_text())] == [1]
    assert eval_json.read(str(folder / "eval.json"))["accuracy"] < 1
    assert f"trial {trial.number} is given up: after epoch 1" in capsys.readouterr().out
    assert "| pruned |" in (tmp_path / "sweep.md").read_text()


def test_a_trial_that_fails_is_recorded_with_its_reason_and_the_others_go_on(synthetic_shards, tmp_path):
    base = made.experiment(steps=2)
    found = space.grid("train.global_batch=321,16", base)  # the train split has 320 faces
    asked = sweep.Sweep(base, study.Plan(found, True, 2, 0), synthetic_shards.folder, str(tmp_path), strategy="one")
    sweep.run(asked)
    content = json.loads((tmp_path / "sweep.json").read_text())
    assert [trial["state"] for trial in content["trials"]] == ["complete", "failed"]
    assert "only 320 examples" in content["trials"][1]["failure"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "Exactly one of (grid, space) must be specified"),
        (["--grid=seed=0", "--space=model.dropout=uniform(0,0.5)"], "Exactly one of (grid, space) must be specified"),
        (["--grid=model.dropuot=0.1"], "the nearest is model.dropout"),
        (["--grid=seed=0", "--storage=nowhere"], "--storage=nowhere cannot be opened"),
    ],
)
def test_a_mistake_gets_a_sentence_and_no_folder(root, synthetic_shards, tmp_path, flags, said):
    done = start(root, synthetic_shards.folder, tmp_path / "out", *flags)
    _, errors = done.communicate(timeout=120)
    assert (done.returncode, said in errors, "Traceback" in errors) == (1, True, False), errors
    assert not (tmp_path / "out").exists()


def test_a_study_cannot_lie_in_a_store(synthetic_shards):
    base = made.experiment()
    plan = study.Plan(space.grid("seed=0,1", base), True, 2, 0)
    with pytest.raises(UserError, match="--storage is missing"):
        sweep.Sweep(base, plan, synthetic_shards.folder, "s3://bucket/sweep").open_study()
