"""Checks training in two processes: same results as one process, one run directory, no wait for a dead process."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import types

import numpy as np
import pytest
import tensorflow as tf

from fer.data import example_codec
from fer.errors import Stopped
from fer.models import loading
from fer.train import checkpoints, train_step, trainer
from fer.train.distributed import multi_worker, strategy
from fer.train.preemption import StopRequest
from tests.evaluation.factories import run
from tests.scripts import run_script
from tests.shared import shared_folder
from tests.train import factories, launch
from tests.train.factories import final_state
from tests.train.launch import LIMIT
from tests.train.test_nan_recovery import stop_after

# The weights of two workers stay within 2.4e-7 of those of one replica for 5 steps. Then the input of a ReLU changes
# sign, and rounding errors grow as they do between two replicas that start one rounding apart: to 6e-6 here, to 1e-3
# after 24 steps at a learning rate of 0.01.
STEPS, LEARNING_RATE = 12, 0.003
STOP_LIMIT_S = 8.0  # from a signal to the end of both processes
METRICS = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "validation_macro_f1")


def make_settings(**train):
    experiment = factories.experiment(max_steps=STEPS, save_every_steps=1, ema_decay=0.9, **train)
    experiment.optimizer.learning_rate = LEARNING_RATE
    return experiment


@pytest.fixture(scope="module")
def settings():
    return make_settings()


@pytest.fixture(scope="module")
def config(settings, tmp_path_factory) -> pathlib.Path:
    return launch.write_config(tmp_path_factory.mktemp("config"), settings)


def start_tasks(config: pathlib.Path, data: str, workdir: pathlib.Path) -> list[run_script.Started]:
    """Starts two workers with the variables that srun sets for two tasks on one node."""
    step = {"SLURM_STEP_NODELIST": "127.0.0.1", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "2"}
    flags = [f"--config={config}", f"--data={data}", f"--workdir={workdir}"]
    flags.append(f"--worker_port={launch.find_free_port_pair()}")
    ranks = [{**step, "SLURM_PROCID": str(task)} for task in (0, 1)]
    return [run_script.start(launch.QUICK, run_script.ROOT, *flags, environment=rank) for rank in ranks]


@pytest.fixture(scope="module")
def killed(config, synthetic_shards, tmp_path_factory) -> pathlib.Path:
    """Returns the directory of a run of two workers, one of which was killed before the same commands resumed the run.

    In the parent folder, killed.json describes the end of the other worker, and ended.json holds the results of both
    resumed workers. Read only.
    """

    def train(folder: pathlib.Path) -> None:
        workdir = folder / "run"
        started = start_tasks(config, synthetic_shards.folder, workdir)
        launch.wait_for_step(started, workdir, 3, LIMIT)
        started[1].kill()
        began = time.monotonic()
        outcome = launch.wait_for_exit(started, LIMIT)[0]
        last_step = checkpoints.list_steps(str(workdir / "checkpoints"))[-1]
        (folder / "killed.json").write_text(json.dumps([time.monotonic() - began, last_step, *outcome]))
        resumed = launch.start_two_workers(config, synthetic_shards.folder, workdir)
        (folder / "ended.json").write_text(json.dumps(launch.wait_for_exit(resumed, LIMIT)))

    return shared_folder(tmp_path_factory, "killed-workers", train) / "run"


@pytest.fixture(scope="module")
def uninterrupted(config, synthetic_shards, tmp_path_factory) -> pathlib.Path:
    """Returns the directory of an uninterrupted run of two workers, whose results are in ended.json beside it."""

    def train(folder: pathlib.Path) -> None:
        results = launch.wait_for_exit(start_tasks(config, synthetic_shards.folder, folder / "run"), LIMIT)
        assert [code for code, _, _ in results] == [0, 0], results
        (folder / "ended.json").write_text(json.dumps(results))

    return shared_folder(tmp_path_factory, "two-workers", train) / "run"


def read_result(workdir: pathlib.Path, name: str) -> list:
    """Reads a JSON file in the parent folder of a run."""
    return json.loads((workdir.parent / name).read_text())


def read_history(workdir: pathlib.Path) -> list[dict]:
    return json.loads((workdir / "history.json").read_text())


def assert_near(found: pathlib.Path, expected: pathlib.Path, tolerance: float) -> None:
    """Compares weights, averages, momentum, statistics and metrics of two runs."""
    states = [final_state(workdir, STEPS) for workdir in (found, expected)]
    assert states[0].keys() == states[1].keys()
    for name, value in states[1].items():
        if isinstance(value, np.ndarray):
            np.testing.assert_allclose(states[0][name], value, rtol=0, atol=tolerance, err_msg=name)
    for ours, theirs in zip(read_history(found), read_history(expected)):
        for metric in METRICS:
            assert ours[metric] == pytest.approx(theirs[metric], abs=tolerance), metric


def assert_same_bits(found: pathlib.Path, expected: pathlib.Path) -> None:
    states = [final_state(workdir, STEPS) for workdir in (found, expected)]
    for name, value in states[1].items():
        np.testing.assert_array_equal(states[0][name], value, err_msg=name)
    for metric in METRICS:
        assert [entry[metric] for entry in read_history(found)] == [
            entry[metric] for entry in read_history(expected)
        ], metric


@pytest.mark.extended
def test_worker_ends_when_another_is_killed_and_same_commands_resume(killed):
    seconds, last_step, code, _, errors = read_result(killed, "killed.json")
    assert seconds < 3 * strategy.HEARTBEAT_S
    assert (code, "Traceback" in errors) == (75, False), errors
    assert "train.py: Worker 0 of 2" in errors
    assert "lost the connection to another worker" in errors
    assert 3 <= last_step < STEPS
    results = read_result(killed, "ended.json")
    assert [code for code, _, _ in results] == [0, 0], results
    assert f"Resuming after step {last_step} of {STEPS}" in results[0][1]
    # Of two processes, one after the other, each of which has three files.
    assert len(list((killed / "events").rglob("events.*"))) == 6


def test_workers_end_with_weights_and_metrics_of_one_replica(settings, uninterrupted, synthetic_shards, tmp_path):
    """Guarantee 2 across processes. 40 validation images in batches of 16 leave a partial last batch."""
    trainer.train(settings, synthetic_shards.folder, str(tmp_path / "one"), "one")
    assert_near(uninterrupted, tmp_path / "one", tolerance=1e-5)
    state = final_state(uninterrupted, STEPS)
    kernels = [name for name in state if name.startswith("model/") and "/kernel/" in name]
    moved = max(np.abs(state[name] - state[name.replace("model/", "average/", 1)]).max() for name in kernels)
    assert moved > 5e-4  # fifty times the tolerance


def test_workers_other_than_chief_write_and_print_nothing(uninterrupted):
    (_, output, _), (_, other, errors) = read_result(uninterrupted, "ended.json")
    names = {"config.json", "history.json", "history.csv", "curves.png", "best.json", "checkpoints", "events"}
    assert {path.name for path in uninterrupted.iterdir()} == names
    assert len(list((uninterrupted / "events").rglob("events.*"))) == 3
    assert "scripts/evaluate.py --workdir=" in output
    assert [line[:22] for line in other.splitlines() if line] == ["This is worker 1 of 2 "]
    assert "Traceback" not in errors


@pytest.mark.extended
def test_run_of_killed_workers_ends_with_same_bits(killed, uninterrupted):
    assert_same_bits(killed, uninterrupted)


RESTARTING_PYTHON = """#!/bin/sh
echo $$ >> pids
exec {python} "$@"
"""


def start_worker_script(folder: pathlib.Path, hosts: str, index: int, **environment: str) -> subprocess.Popen:
    """Starts configs/aws/worker.sh in a folder, where the file pids gets the process of each start of a program."""
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(RESTARTING_PYTHON.format(python=sys.executable))
    python.chmod(0o755)
    (folder / ".venv" / "installed").touch()
    (folder / "scripts").symlink_to(launch.ROOT / "scripts")
    script = str(launch.ROOT / "configs" / "aws" / "worker.sh")
    return subprocess.Popen(
        ["bash", script, hosts, str(index)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(launch.ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def kill_training(folder: pathlib.Path, start: int) -> None:
    """Kills the training of `start_worker_script`, which must be its start with this number, counted from 1."""
    pids = (folder / "pids").read_text().split()
    assert len(pids) == start
    os.kill(int(pids[-1]), signal.SIGKILL)


@pytest.mark.extended
@pytest.mark.parametrize("killed_index", [0, 1])
def test_worker_scripts_restart_after_three_kills_and_end_with_same_bits(
    config, synthetic_shards, uninterrupted, tmp_path, killed_index
):
    """The training of one worker is killed while the first step is compiled, after step 2 and after step 6."""
    workdir = tmp_path / "run"
    hosts = ",".join(f"127.0.0.1:{port}" for port in launch.find_free_ports(2))
    paths = {"CONFIG": str(config), "DATA": synthetic_shards.folder, "WORKDIR": str(workdir), "RESTART_PAUSE": "1"}
    folders = [tmp_path / "0", tmp_path / "1"]
    started = [start_worker_script(folder, hosts, index, **paths) for index, folder in enumerate(folders)]
    try:
        while not (workdir / "config.json").exists():
            assert [process.poll() for process in started] == [None, None]
            time.sleep(0.05)
        kill_training(folders[killed_index], start=1)
        assert not checkpoints.list_steps(str(workdir / "checkpoints"))
        for start, step in ((2, 2), (3, 6)):
            launch.wait_for_step(started, workdir, step, LIMIT)
            kill_training(folders[killed_index], start)
        results = launch.wait_for_exit(started, LIMIT)
    finally:
        for process in started:
            process.terminate()
    assert [code for code, _, _ in results] == [0, 0], results
    assert results[killed_index][2].count("Exit code 137: restart ") == 3, results
    assert "Exit code 75: restart " in results[1 - killed_index][2], results
    assert "Traceback" not in results[0][2] + results[1][2]
    assert (workdir / "eval.json").exists()
    assert_same_bits(workdir, uninterrupted)


@pytest.mark.extended
def test_errors_of_all_workers_name_teacher_when_it_differs_from_chief(synthetic_shards, tmp_path):
    """The teacher's path, and so the configuration, is the same on both workers; the weights at that path differ."""
    config = launch.write_config(tmp_path, make_settings(teacher_runs="teacher"))
    for index in (0, 1):
        run(tmp_path / str(index) / "teacher", seed=index)
    started = launch.start_two_workers(
        config, synthetic_shards.folder, tmp_path / "run", folders=[tmp_path / "0", tmp_path / "1"]
    )
    for code, _, errors in launch.wait_for_exit(started, LIMIT):
        assert (code, "Traceback" in errors) == (1, False), errors
        assert "Worker 1 has another teacher, number 1 than worker 0: start the same command on every worker" in errors


@pytest.mark.extended
def test_workers_start_from_weights_of_initial_run_and_record_it(synthetic_shards, tmp_path):
    settings, first = make_settings(), run(tmp_path / "first", seed=3, experiment=make_settings())
    settings.optimizer.learning_rate = 1e-12  # the weights do not move
    config, workdir = launch.write_config(tmp_path, settings), tmp_path / "run"
    started = launch.start_two_workers(config, synthetic_shards.folder, workdir, more_flags=[f"--init_from={first}"])
    results = launch.wait_for_exit(started, LIMIT)
    assert [code for code, _, _ in results] == [0, 0], results
    initial = loading.open_run(first)
    assert json.loads((workdir / "config.json").read_text())["initialized_from"] == initial.as_initial_run()
    for ours, theirs in zip(loading.open_run(str(workdir)).model.trainable_weights, initial.model.trainable_weights):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-6, err_msg=theirs.name)


@pytest.mark.parametrize(
    ("own", "others", "agreed"),
    [(0, 0, 0), (0, 75, 75), (75, 0, 75), (75, 143, 143), (143, 75, 143)],
    ids=["none", "spot notice elsewhere", "spot notice here", "signal elsewhere", "signal here"],
)
def test_sync_stop_gives_all_workers_the_same_exit_code(own, others, agreed):
    two_workers = types.SimpleNamespace(as_dict=lambda: {"worker": ["a:1", "b:1"]})
    two = types.SimpleNamespace(
        cluster_resolver=types.SimpleNamespace(cluster_spec=lambda: two_workers),
        reduce=lambda _, value, axis: value + tf.one_hot(others, 256, dtype=tf.int64),
    )
    stop = StopRequest(own)
    assert not multi_worker.sync_stop(two, stop, multi_worker.SYNC_EVERY - 1)  # too early to communicate
    assert multi_worker.sync_stop(two, stop, 1) == bool(agreed)
    assert stop.exit_code == agreed
    stop = StopRequest(own)
    assert multi_worker.sync_stop(two, stop, 20) == bool(agreed)  # a single call


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "signalled", "steps_per_call"),
    [(signal.SIGTERM, 143, 1, 1), (signal.SIGINT, 130, 0, 1), (signal.SIGTERM, 143, 0, 3)],
)
def test_signal_to_one_worker_stops_both_after_same_step_and_they_resume_to_same_bits(
    uninterrupted, synthetic_shards, tmp_path, number, code, signalled, steps_per_call
):
    """Both workers stop after the same step, with one or more steps per call."""
    config, workdir = launch.write_config(tmp_path, make_settings(steps_per_execution=steps_per_call)), tmp_path / "run"
    started = launch.start_two_workers(config, synthetic_shards.folder, workdir)
    launch.wait_for_step(started, workdir, 1, LIMIT)
    started[signalled].send_signal(number)
    began = time.monotonic()
    results = launch.wait_for_exit(started, LIMIT)
    assert time.monotonic() - began < STOP_LIMIT_S
    assert [code for code, _, _ in results] == [code, code], results
    last_step = checkpoints.list_steps(str(workdir / "checkpoints"))[-1]
    assert f"Stopped after step {last_step} of {STEPS} as requested" in results[0][2]
    assert f"stopped together with the others; the checkpoint is in {workdir}" in results[1][2]

    results = launch.wait_for_exit(launch.start_two_workers(config, synthetic_shards.folder, workdir), LIMIT)
    assert [code for code, _, _ in results] == [0, 0], results
    assert f"Resuming after step {last_step} of {STEPS}" in results[0][1]
    assert_same_bits(workdir, uninterrupted)


@pytest.mark.slow
def test_workers_roll_back_to_chiefs_checkpoint_and_match_one_replica(synthetic_shards, tmp_path, monkeypatch):
    """The workers resume between two regular checkpoints; the second worker's directory holds no other one."""
    settings, data = make_settings(on_nan="rollback"), synthetic_shards.folder
    settings.train.save_every_steps, fault = 4, 7
    config = launch.write_config(tmp_path, settings)
    one, two = tmp_path / "one", tmp_path / "two"
    with monkeypatch.context() as patch:
        face = factories.select_face(settings, example_codec.read_split(synthetic_shards, "train"), fault)
        np.save(tmp_path / "face.npy", face)
        factories.poison(patch.setattr, face)
        with patch.context() as inner:
            inner.setattr(train_step, "make_multi_step", stop_after(train_step.make_multi_step, fault - 1))
            with pytest.raises(Stopped):
                trainer.train(settings, data, str(one), "one")
        shutil.copytree(one, two)
        assert checkpoints.list_steps(str(two / "checkpoints"))[-2:] == [4, fault - 1]
        trainer.train(settings, data, str(one), "one")
    poisoned = tmp_path / "poisoned.py"
    poisoned.write_text(factories.POISONED.format(face=str(tmp_path / "face.npy")))
    results = launch.wait_for_exit(launch.start_two_workers(config, data, two, path=str(poisoned)), LIMIT)
    assert [code for code, _, _ in results] == [0, 0], results
    assert (
        "became NaN or infinite at step 7: returning to step 4 and skipping the 3 batches since then" in results[0][1]
    )
    rollbacks = [json.loads((workdir / "rollbacks.json").read_text()) for workdir in (one, two)]
    assert rollbacks[0] == rollbacks[1] == [{"step": fault, "to": 4, "batches_left_out": 3}]
    assert_near(two, one, tolerance=1e-5)
