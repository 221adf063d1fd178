"""Tests of fer/sweep/trial_leases.py and optuna_study.py."""

import json
import os
import subprocess
import sys
import threading
import time

import pytest

optuna = pytest.importorskip("optuna", reason="sweeps are tested with the extra sweep (optuna)")

from optuna.trial import TrialState

from fer.config import Experiment
from fer.errors import UserError
from fer.sweep import optuna_study, search_space, trial_leases
from fer.sweep.optuna_study import Plan

WORKER = """
import json, os, sys, time
from fer.config import Experiment
from fer.sweep import optuna_study, search_space, trial_leases
storage, text, dies = sys.argv[1:]
plan = optuna_study.make_grid_plan(search_space.parse_grid(text, Experiment()))
shared = optuna_study.open_study(storage, {"grid": text}, "none", 0)
while (trial := trial_leases.acquire_trial(shared, plan)) is not None:
    values = plan.draw(shared, trial)
    print(json.dumps([trial.number, values]), flush=True)
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


@pytest.mark.parametrize("scheme", ["journal:", pytest.param("sqlite:///", marks=pytest.mark.extended)])
def test_acquire_trial_gives_each_point_to_one_process_and_those_of_dead_processes_again(tmp_path, scheme):
    storage = f"{scheme}{tmp_path}/study"
    killed = start(storage, dies="yes")
    first = killed.communicate(timeout=120)[0].splitlines()
    assert (killed.returncode, len(first)) == (-9, 1)
    workers = [start(storage) for _ in range(2)]
    outputs = [worker.communicate(timeout=120) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], outputs
    taken = [json.loads(line) for output, _ in outputs for line in output.splitlines()]
    shared, plan = open_study(storage)
    expected = [[number, values] for number, values in enumerate(search_space.grid_points(plan.space))]
    assert sorted(taken, key=lambda pair: pair[0]) == expected
    assert json.loads(first[0]) in taken  # with the same values
    assert all(output for output, _ in outputs)  # both processes trained trials
    assert [trial.params for trial in plan.of(shared, TrialState.COMPLETE)] == search_space.grid_points(plan.space)


def test_acquire_trial_takes_trials_of_other_hosts_only_without_heartbeat(tmp_path, monkeypatch):
    monkeypatch.setattr(trial_leases, "SETTLE_S", 0.05)
    monkeypatch.setattr(trial_leases, "LEASE_TIMEOUT_S", 1.0)
    monkeypatch.setattr(trial_leases, "HEARTBEAT_INTERVAL_S", 0.1)
    shared, plan = open_study(f"journal:{tmp_path}/study", "seed=0,1,2")
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(trial_leases, "_host_id", lambda: "elsewhere")
        trials = [trial_leases.acquire_trial(shared, plan) for _ in range(plan.trials)]
    with trial_leases.heartbeat(shared, trials[0]):
        again = [trial_leases.acquire_trial(shared, plan) for _ in range(plan.trials)]
    assert [trial and trial.number for trial in again] == [*range(1, plan.trials), None]


def test_acquire_trial_does_not_wait_for_trials_that_are_about_to_get_an_owner(tmp_path, capsys):
    shared, plan = open_study(f"journal:{tmp_path}/study", "seed=0,1")
    trials = [shared.ask(), shared.ask()]
    own = [
        threading.Timer(0.2, trial.set_user_attr, (trial_leases.OWNER, trial_leases._make_owner_id()))
        for trial in trials
    ]
    for each in own:
        each.start()
    assert trial_leases.acquire_trial(shared, plan) is None
    assert capsys.readouterr().out == ""  # no line about waiting for heartbeats


def test_acquire_trial_uses_surplus_trial_for_a_larger_plan(tmp_path, monkeypatch):
    monkeypatch.setattr(trial_leases, "SETTLE_S", 0.05)
    found = search_space.parse_space("optimizer.learning_rate=log(0.01,1)", Experiment())
    shared = optuna_study.open_study(f"journal:{tmp_path}/study", {}, "none", 0)
    plan = Plan(found, False, 2, 0)
    for _ in range(plan.trials):
        shared.tell(trial_leases.acquire_trial(shared, plan), 0.5)
    with monkeypatch.context() as before:  # the view of another process before the second trial was created
        before.setattr(shared, "get_trials", lambda **_: [])
        assert trial_leases.acquire_trial(shared, plan) is None
    assert trial_leases.acquire_trial(shared, plan) is None
    more = Plan(found, False, 4, 0)
    assert [trial and trial.number for trial in (trial_leases.acquire_trial(shared, more) for _ in range(3))] == [
        2,
        3,
        None,
    ]


def test_host_id_differs_between_containers(monkeypatch):
    here, link = trial_leases._host_id(), os.readlink
    monkeypatch.setattr(os, "readlink", lambda path: "pid:[1]" if path == "/proc/self/ns/pid" else link(path))
    assert trial_leases._host_id() != here


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


def test_process_start_differs_between_processes_and_is_empty_for_dead_ones():
    began = trial_leases._process_start(os.getpid())
    assert began
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    time.sleep(0.1)
    try:
        assert trial_leases._process_start(child.pid) not in ("", began)
    finally:
        child.kill()
        for _ in range(200):  # a zombie until the parent waits for it
            if not trial_leases._process_start(child.pid):
                break
            time.sleep(0.05)
        dead = trial_leases._process_start(child.pid)
        child.wait()
    assert (dead, trial_leases._process_start(child.pid)) == ("", "")
