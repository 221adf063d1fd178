"""Two processes train as one: the same mathematics, one run folder, and none of them waits for a dead one."""

import json
import pathlib
import shutil
import signal
import time

import numpy as np
import pytest

from fer.data import example_codec
from fer.errors import Stopped
from fer.train import checkpoints, train_step, trainer
from fer.train.distributed import strategy
from tests.evaluation.factories import run
from tests.scripts import run_script
from tests.shared import shared_folder
from tests.train import factories, launch
from tests.train.factories import final_state
from tests.train.launch import LIMIT
from tests.train.test_nan_recovery import stopping_after

# Two workers are within 2.4e-7 of one replica for 5 steps. Then the first ReLU falls on the other side of zero, and
# rounding grows as it does in one replica that starts a rounding apart: to 6e-6 here, to 1e-3 after 24 steps at 0.01.
STEPS, RATE = 12, 0.003
LEAVING = 8.0  # seconds from a signal to the end of both processes
FIGURES = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "validation_macro_f1")


def made_settings(**train):
    experiment = factories.experiment(steps=STEPS, checkpoint_steps=1, ema_decay=0.9, **train)
    experiment.optimizer.learning_rate = RATE
    return experiment


@pytest.fixture(scope="module")
def settings():
    return made_settings()


@pytest.fixture(scope="module")
def config(settings, tmp_path_factory) -> pathlib.Path:
    return launch.write_config(tmp_path_factory.mktemp("config"), settings)


def start_tasks(config: pathlib.Path, data: str, workdir: pathlib.Path) -> list[run_script.Started]:
    """Two workers, started by srun as two tasks of one node."""
    step = {"SLURM_STEP_NODELIST": "127.0.0.1", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "2"}
    flags = [f"--config={config}", f"--data={data}", f"--workdir={workdir}"]
    flags.append(f"--worker_port={launch.find_free_port_pair()}")
    ranks = [{**step, "SLURM_PROCID": str(task)} for task in (0, 1)]
    return [run_script.start(launch.QUICK, run_script.ROOT, *flags, environment=rank) for rank in ranks]


@pytest.fixture(scope="module")
def killed(config, synthetic_shards, tmp_path_factory) -> pathlib.Path:
    """The run of two workers, one of which was killed, after the same commands went on to its end.

    Beside it, killed.json has what happened to the other one, and ended.json the ends of both. Read only.
    """

    def train(folder: pathlib.Path) -> None:
        workdir = folder / "run"
        started = start_tasks(config, synthetic_shards.folder, workdir)
        launch.wait_for_step(started, workdir, 3, LIMIT)
        started[1].kill()
        begun = time.monotonic()
        outcome = launch.wait_for_exit(started, LIMIT)[0]
        left = checkpoints.list_steps(str(workdir / "checkpoints"))[-1]
        (folder / "killed.json").write_text(json.dumps([time.monotonic() - begun, left, *outcome]))
        ended = launch.wait_for_exit(start_tasks(config, synthetic_shards.folder, workdir), LIMIT)
        (folder / "ended.json").write_text(json.dumps(ended))

    return shared_folder(tmp_path_factory, "two-workers", train) / "run"


@pytest.fixture(scope="module")
def whole(config, synthetic_shards, tmp_path_factory) -> pathlib.Path:
    """The folder of a run of two workers that nothing interrupted."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    ended = launch.wait_for_exit(launch.start_two_workers(config, synthetic_shards.folder, workdir), LIMIT)
    assert [code for code, _, _ in ended] == [0, 0], ended
    return workdir


def read(workdir: pathlib.Path, name: str) -> list:
    return json.loads((workdir.parent / name).read_text())


def history(workdir: pathlib.Path) -> list[dict]:
    return json.loads((workdir / "history.json").read_text())


def assert_near(found: pathlib.Path, expected: pathlib.Path, tolerance: float) -> None:
    """Weights, averages, momentum, statistics and figures of two runs."""
    states = [final_state(workdir, STEPS) for workdir in (found, expected)]
    assert states[0].keys() == states[1].keys()
    for name, value in states[1].items():
        if isinstance(value, np.ndarray):
            np.testing.assert_allclose(states[0][name], value, rtol=0, atol=tolerance, err_msg=name)
    for ours, theirs in zip(history(found), history(expected)):
        for figure in FIGURES:
            assert ours[figure] == pytest.approx(theirs[figure], abs=tolerance), figure


def assert_same_bits(found: pathlib.Path, expected: pathlib.Path) -> None:
    states = [final_state(workdir, STEPS) for workdir in (found, expected)]
    for name, value in states[1].items():
        np.testing.assert_array_equal(states[0][name], value, err_msg=name)
    for figure in FIGURES:
        assert [entry[figure] for entry in history(found)] == [entry[figure] for entry in history(expected)], figure


def test_a_worker_outlives_one_that_is_killed_and_the_same_commands_go_on(killed):
    seconds, left, code, _, errors = read(killed, "killed.json")
    assert seconds < 3 * strategy.HEARTBEAT_S
    assert (code, "Traceback" in errors) == (1, False), errors
    assert "train.py: Worker 0 of 2" in errors
    assert "lost the connection to another worker" in errors
    assert 3 <= left < STEPS
    ended = read(killed, "ended.json")
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert f"Resuming after step {left} of {STEPS}" in ended[0][1]


def test_two_workers_end_with_the_weights_and_figures_of_one_replica(settings, killed, synthetic_shards, tmp_path):
    """Promise 2, across processes: 40 faces are validated in batches of 16, so the last one is partial."""
    trainer.train(settings, synthetic_shards.folder, str(tmp_path / "one"), "one")
    assert_near(killed, tmp_path / "one", tolerance=1e-5)
    state = final_state(killed, STEPS)
    kernels = [name for name in state if name.startswith("model/") and "/kernel/" in name]
    moved = max(np.abs(state[name] - state[name.replace("model/", "average/", 1)]).max() for name in kernels)
    assert moved > 5e-4  # fifty times the tolerance


def test_only_the_chief_writes_and_speaks(killed):
    (_, output, _), (_, other, errors) = read(killed, "ended.json")
    names = {"config.json", "history.json", "curves.png", "best.json", "checkpoints", "events"}
    assert {path.name for path in killed.iterdir()} == names
    assert len(list((killed / "events").iterdir())) == 2  # of two processes, one after the other
    assert "python scripts/evaluate.py" in output
    assert [line[:22] for line in other.splitlines() if line] == ["This is worker 1 of 2 "]
    assert "Traceback" not in errors


@pytest.mark.extended
def test_the_run_that_was_killed_ends_with_the_same_bits(killed, whole):
    assert_same_bits(killed, whole)


@pytest.mark.extended
def test_a_worker_whose_teacher_is_another_network_than_the_chiefs_is_told_so(synthetic_shards, tmp_path):
    """The teacher's path, and so the configuration, is the same on both machines; what lies there is not."""
    config = launch.write_config(tmp_path, made_settings(teacher="teacher"))
    for index in (0, 1):
        run(tmp_path / str(index) / "teacher", seed=index)
    started = launch.start_two_workers(
        config, synthetic_shards.folder, tmp_path / "run", folders=[tmp_path / "0", tmp_path / "1"]
    )
    (chiefs_code, _, chiefs_errors), (code, _, errors) = launch.wait_for_exit(started, LIMIT)
    assert code == 1, errors
    assert "Worker 1 has another teacher, number 1 than worker 0: start the same command on every worker" in errors
    assert chiefs_code == 1, chiefs_errors
    assert "lost the connection to another worker" in chiefs_errors
    assert "Traceback" not in errors + chiefs_errors


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "asked", "several"),
    [(signal.SIGTERM, 143, 1, 1), (signal.SIGINT, 130, 0, 1), (signal.SIGTERM, 143, 0, 3)],
)
def test_a_signal_to_one_stops_both_after_the_same_step_and_they_go_on_to_the_same_bits(
    whole, synthetic_shards, tmp_path, number, code, asked, several
):
    """Also where `several` steps are one call."""
    config, workdir = launch.write_config(tmp_path, made_settings(steps_per_call=several)), tmp_path / "run"
    started = launch.start_two_workers(config, synthetic_shards.folder, workdir)
    launch.wait_for_step(started, workdir, 1, LIMIT)
    started[asked].send_signal(number)
    begun = time.monotonic()
    ended = launch.wait_for_exit(started, LIMIT)
    assert time.monotonic() - begun < LEAVING
    assert [code for code, _, _ in ended] == [code, code], ended
    kept = checkpoints.list_steps(str(workdir / "checkpoints"))[-1]
    assert f"Stopped after step {kept} of {STEPS} as requested" in ended[0][2]
    assert f"stopped together with the others; the checkpoint is in {workdir}" in ended[1][2]

    ended = launch.wait_for_exit(launch.start_two_workers(config, synthetic_shards.folder, workdir), LIMIT)
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert f"Resuming after step {kept} of {STEPS}" in ended[0][1]
    assert_same_bits(workdir, whole)


@pytest.mark.slow
def test_workers_roll_back_to_the_chiefs_checkpoint_and_end_as_one_replica_does(
    synthetic_shards, tmp_path, monkeypatch
):
    """The workers go on from a checkpoint between two regular ones; the other one's own folder has that alone."""
    settings, data = made_settings(on_nan="rollback"), synthetic_shards.folder
    settings.train.checkpoint_steps, fault = 4, 7
    config = launch.write_config(tmp_path, settings)
    one, two = tmp_path / "one", tmp_path / "two"
    with monkeypatch.context() as patch:
        face = factories.select_face(settings, example_codec.read_split(synthetic_shards, "train"), fault)
        np.save(tmp_path / "face.npy", face)
        factories.poison(patch.setattr, face)
        with patch.context() as inner:
            inner.setattr(train_step, "make_multi_step", stopping_after(train_step.make_multi_step, fault - 1))
            with pytest.raises(Stopped):
                trainer.train(settings, data, str(one), "one")
        shutil.copytree(one, two)
        assert checkpoints.list_steps(str(two / "checkpoints"))[-2:] == [4, fault - 1]
        trainer.train(settings, data, str(one), "one")
    poisoned = tmp_path / "poisoned.py"
    poisoned.write_text(factories.POISONED.format(face=str(tmp_path / "face.npy")))
    ended = launch.wait_for_exit(launch.start_two_workers(config, data, two, path=str(poisoned)), LIMIT)
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert "became NaN or infinite at step 7: returning to step 4 and skipping the 3 batches since then" in ended[0][1]
    kept = [json.loads((workdir / "rollbacks.json").read_text()) for workdir in (one, two)]
    assert kept[0] == kept[1] == [{"step": fault, "to": 4, "batches_left_out": 3}]
    assert_near(two, one, tolerance=1e-5)
