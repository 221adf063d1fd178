"""Tests of fer/sweep/trial_leases.py and optuna_study.py."""

import json
import subprocess
import sys
import time

import pytest

optuna = pytest.importorskip("optuna", reason="sweeps are tested with the extra sweep (optuna)")

from optuna.trial import TrialState

from fer.config import Experiment
from fer.errors import UserError
from fer.sweep import optuna_study, search_space, storages, trial_leases
from fer.sweep.optuna_study import Plan
from tests.io.test_processes import process_name

WORKER = """
import json, os, sys, time
from fer.config import Experiment
from fer.sweep import optuna_study, search_space, storages, trial_leases
storages.HEARTBEAT_INTERVAL_S, storages.GRACE_PERIOD_S = 1, 3
storage, text, dies = sys.argv[1:]
plan = optuna_study.make_grid_plan(search_space.parse_grid(text, Experiment()))
shared = optuna_study.open_study(storage, {"grid": text}, "none", 0)
while (trial := trial_leases.acquire_trial(shared, plan)) is not None:
    values = plan.draw(shared, trial)
    print(json.dumps([plan.point(shared, trial.number), values]), flush=True)
    if dies == "yes":
        os.kill(os.getpid(), 9)
    time.sleep(0.05)
    shared.tell(trial, values["model.dropout"])
"""
GRID = "seed=0,1,2,3; model.dropout=0.1,0.2,0.3"


def open_study(storage: str, grid: str = GRID) -> tuple[optuna.Study, Plan]:
    found = search_space.parse_grid(grid, Experiment())
    return optuna_study.open_study(storage, {"grid": grid}, "none", 0), Plan(
        found, True, len(search_space.grid_points(found)), 0
    )


def start(storage: str, dies: str = "no") -> subprocess.Popen:
    command = [sys.executable, "-c", WORKER, storage, GRID, dies]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


SCHEMES = ["journal:", pytest.param("sqlite:///", marks=pytest.mark.extended)]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_acquire_trial_gives_each_point_to_one_process_and_those_of_dead_processes_again(tmp_path, scheme):
    storage = f"{scheme}{tmp_path}/study"
    killed = start(storage, dies="yes")
    first = killed.communicate(timeout=120)[0].splitlines()
    assert (killed.returncode, len(first)) == (-9, 1)
    workers = [start(storage) for _ in range(2)]
    outputs = [worker.communicate(timeout=120) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], outputs
    taken = [json.loads(line) for output, _ in outputs for line in output.splitlines() if line.startswith("[")]
    shared, plan = open_study(storage)
    expected = [[number, values] for number, values in enumerate(search_space.grid_points(plan.space))]
    assert sorted(taken, key=lambda pair: pair[0]) == expected
    assert json.loads(first[0]) in taken  # with the same values
    assert all(output for output, _ in outputs)  # both processes trained trials
    assert [trial.params for trial in plan.of(shared, TrialState.COMPLETE)] == search_space.grid_points(plan.space)


@pytest.fixture
def short_leases(monkeypatch):
    monkeypatch.setattr(storages, "HEARTBEAT_INTERVAL_S", 1)
    monkeypatch.setattr(storages, "GRACE_PERIOD_S", 2)
    monkeypatch.setattr(trial_leases, "POLL_INTERVAL_S", 0.1)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_acquire_trial_takes_only_trials_without_heartbeats(tmp_path, short_leases, scheme):
    shared, plan = open_study(f"{scheme}{tmp_path}/study", "seed=0,1,2")
    trials = [trial_leases.acquire_trial(shared, plan) for _ in range(plan.trials)]
    assert [plan.point(shared, trial.number) for trial in trials] == [0, 1, 2]
    with trial_leases.heartbeat(shared, trials[0]):
        first, second = (trial_leases.acquire_trial(shared, plan) for _ in range(2))
        points = [plan.point(shared, trial.number) for trial in (first, second)]
        with trial_leases.heartbeat(shared, first), trial_leases.heartbeat(shared, second):
            assert trial_leases.acquire_trial(shared, plan) is None
    assert points == [1, 2]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_acquire_trial_tries_again_after_an_attempt_that_outlasts_the_wait(tmp_path, short_leases, monkeypatch, scheme):
    shared, plan = open_study(f"{scheme}{tmp_path}/study", "seed=0")
    assert trial_leases.acquire_trial(shared, plan).number == 0
    begin, take = time.monotonic(), trial_leases._take

    def take_slowly(study, plan):  # begins while the heartbeat is recent, and ends after the wait
        found = take(study, plan)
        time.sleep(3.2 if time.monotonic() < begin + 1 else 0)
        return found

    monkeypatch.setattr(trial_leases, "_take", take_slowly)
    assert plan.point(shared, trial_leases.acquire_trial(shared, plan).number) == 0


@pytest.mark.parametrize("scheme", SCHEMES)
def test_acquire_trial_takes_trial_whose_process_died_before_its_first_heartbeat(tmp_path, short_leases, scheme):
    """Also the interrupted trial of a study that a version without heartbeats wrote."""
    shared, plan = open_study(f"{scheme}{tmp_path}/study", "seed=0,1")
    plan.draw(shared, shared.ask())
    assert trial_leases.acquire_trial(shared, plan).number == 1
    again = trial_leases.acquire_trial(shared, plan)
    assert (plan.point(shared, again.number), again.params) == (0, {"seed": 0})


@pytest.mark.parametrize("scheme", SCHEMES)
def test_acquire_trial_recognizes_end_of_process_on_same_machine_at_once(tmp_path, monkeypatch, scheme):
    shared, plan = open_study(f"{scheme}{tmp_path}/study", "seed=0,1")
    other = subprocess.Popen(["sleep", "600"])
    with monkeypatch.context() as patch:
        patch.setattr(trial_leases.processes, "name", lambda: process_name(other.pid))
        for _ in range(plan.trials):
            trial_leases.acquire_trial(shared, plan)
    started = time.monotonic()
    assert trial_leases.acquire_trial(shared, plan) is None
    other.kill()
    other.wait()
    points = [plan.point(shared, trial_leases.acquire_trial(shared, plan).number) for _ in range(plan.trials)]
    assert time.monotonic() - started < storages.HEARTBEAT_INTERVAL_S
    assert points == [0, 1]
    assert [trial.state for trial in plan.of(shared)] == [TrialState.RUNNING, TrialState.RUNNING]


def test_acquire_trial_ends_wait_for_process_of_another_machine_when_stopped(tmp_path, monkeypatch, capsys):
    shared, plan = open_study(f"journal:{tmp_path}/study", "seed=0")
    with monkeypatch.context() as patch:
        patch.setattr(trial_leases.processes, "name", lambda: "00000000-1-1")
        trial_leases.acquire_trial(shared, plan)
    monkeypatch.setattr(trial_leases, "POLL_INTERVAL_S", 0.01)
    answers = iter([False, False, True])
    assert trial_leases.acquire_trial(shared, plan, lambda: next(answers)) is None
    assert "Waiting up to 60 s for 1 trials" in capsys.readouterr().out
    assert list(answers) == []


@pytest.mark.parametrize("scheme", SCHEMES)
def test_acquire_trial_takes_released_trial_first(tmp_path, scheme):
    shared, plan = open_study(f"{scheme}{tmp_path}/study", "seed=0,1,2")
    trial = trial_leases.acquire_trial(shared, plan)
    trial_leases.release_trial(shared, trial)
    points = [plan.point(shared, trial_leases.acquire_trial(shared, plan).number) for _ in range(plan.trials)]
    assert points == [0, 1, 2]


def test_heartbeat_continues_after_errors_of_the_storage(tmp_path, short_leases, monkeypatch):
    """Optuna's own thread ends at the first error."""
    shared, plan = open_study(f"journal:{tmp_path}/study", "seed=0")
    trial = trial_leases.acquire_trial(shared, plan)
    calls, record = [], shared._storage.record_heartbeat

    def fail_once(trial_id: int) -> None:
        calls.append(trial_id)
        if len(calls) == 1:
            raise OSError("unreachable")
        record(trial_id)

    monkeypatch.setattr(storages, "HEARTBEAT_INTERVAL_S", 0.1)
    monkeypatch.setattr(shared._storage, "record_heartbeat", fail_once)
    before = shared.trials[0].system_attrs[storages.HEARTBEAT]
    with trial_leases.heartbeat(shared, trial):
        for _ in range(100):
            if shared.trials[0].system_attrs[storages.HEARTBEAT] != before:
                break
            time.sleep(0.05)
    assert shared.trials[0].system_attrs[storages.HEARTBEAT] != before
    assert len(calls) > 1


@pytest.mark.parametrize("scheme", SCHEMES)
def test_latest_trials_counts_the_first_of_two_retries_of_the_same_trial(tmp_path, scheme):
    """Two processes may queue the same stale trial; one of the copies is trained."""
    shared, plan = open_study(f"{scheme}{tmp_path}/study", "seed=0,1")
    trial_leases.release_trial(shared, trial_leases.acquire_trial(shared, plan))
    for _ in range(2):
        optuna.storages.RetryHeartbeatStaleTrialCallback()(shared, shared.trials[0])
    assert [trial.number for trial in plan.of(shared)] == [1]
    trials = [trial_leases.acquire_trial(shared, plan) for _ in range(2)]
    assert [plan.point(shared, trial.number) for trial in trials] == [0, 1]
    assert [trial.state for trial in plan.of(shared)] == [TrialState.RUNNING, TrialState.RUNNING]
    assert shared.trials[2].state == TrialState.FAIL


def test_acquire_trial_uses_surplus_trial_for_a_larger_plan(tmp_path, short_leases):
    found = search_space.parse_space("optimizer.learning_rate=log(0.01,1)", Experiment())
    shared = optuna_study.open_study(f"journal:{tmp_path}/study", {}, "none", 0)
    plan = Plan(found, False, 2, 0)
    for _ in range(plan.trials):
        shared.tell(trial_leases.acquire_trial(shared, plan), 0.5)
    trial_leases.release_trial(shared, shared.ask())  # as after another process created the second trial first
    assert trial_leases.acquire_trial(shared, plan) is None
    more = Plan(found, False, 4, 0)
    trials = [trial_leases.acquire_trial(shared, more) for _ in range(2)]
    assert [more.point(shared, trial.number) for trial in trials] == [2, 3]
    with trial_leases.heartbeat(shared, trials[0]), trial_leases.heartbeat(shared, trials[1]):
        assert trial_leases.acquire_trial(shared, more) is None


def test_sample_depends_only_on_seed_and_number_when_results_are_equal(tmp_path):
    found = search_space.parse_space(
        "optimizer.learning_rate=log(0.01,1); optimizer.name=choice(sgd,adamw)", Experiment()
    )

    def drawn(name: str, seed: int) -> list[dict]:
        plan = Plan(found, False, 12, seed)
        shared = optuna_study.open_study(f"journal:{tmp_path}/{name}", {}, "none", 0)
        while (trial := trial_leases.acquire_trial(shared, plan)) is not None:
            shared.tell(trial, plan.draw(shared, trial)["optimizer.learning_rate"])
        return [trial.params for trial in plan.of(shared)]

    one = drawn("one", 0)
    assert one == drawn("another", 0) != drawn("third", 1)
    assert len(one) == 12
    assert all(0.01 <= values["optimizer.learning_rate"] <= 1 for values in one)
    best = max(values["optimizer.learning_rate"] for values in one)
    assert best > 0.5  # the sampler prefers good values


@pytest.mark.parametrize("storage", ["mysql", "journal:s3://bucket/study", "sqlite:////nowhere/at/all.db"])
def test_open_study_rejects_storage_that_cannot_be_opened(storage):
    with pytest.raises(
        UserError,
        match=r"--storage=.* cannot be opened for the study .*--storage takes journal:PATH or the URL of a database",
    ):
        optuna_study.open_study(storage, {}, "none", 0)


def test_open_study_rejects_study_of_another_sweep(tmp_path):
    optuna_study.open_study(f"journal:{tmp_path}/study", {"kind": "grid", "data": "a"}, "none", 0)
    with pytest.raises(UserError, match=r"another data \('a', not 'b'\)\. Choose another --storage"):
        optuna_study.open_study(f"journal:{tmp_path}/study", {"kind": "grid", "data": "b"}, "none", 0)
