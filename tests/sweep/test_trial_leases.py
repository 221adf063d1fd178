"""Trials go to exactly one process each, and those of dead processes to another."""

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
found = search_space.grid(text, Experiment())
plan = optuna_study.Plan(found, True, len(search_space.points(found)), 0)
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


def opened(storage: str, grid: str = GRID) -> tuple[optuna.Study, Plan]:
    found = search_space.grid(grid, Experiment())
    return optuna_study.open_study(storage, {"grid": grid}, "none", 0), Plan(
        found, True, len(search_space.points(found)), 0
    )


def start(storage: str, dies: str = "no") -> subprocess.Popen:
    command = [sys.executable, "-c", WORKER, storage, GRID, dies]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("scheme", ["journal:", pytest.param("sqlite:///", marks=pytest.mark.extended)])
def test_processes_that_share_a_study_train_each_point_once_and_the_dead_ones_again(tmp_path, scheme):
    storage = f"{scheme}{tmp_path}/study"
    killed = start(storage, dies="yes")
    first = killed.communicate(timeout=120)[0].splitlines()
    assert (killed.returncode, len(first)) == (-9, 1)
    workers = [start(storage) for _ in range(2)]
    outputs = [worker.communicate(timeout=120) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], outputs
    taken = [json.loads(line) for output, _ in outputs for line in output.splitlines()]
    shared, plan = opened(storage)
    expected = [[number, values] for number, values in enumerate(search_space.points(plan.space))]
    assert sorted(taken, key=lambda pair: pair[0]) == expected
    assert json.loads(first[0]) in taken  # with the values that it had
    assert all(output for output, _ in outputs)  # both had some
    assert [trial.params for trial in plan.of(shared, TrialState.COMPLETE)] == search_space.points(plan.space)


def test_acquire_trial_takes_trial_of_silent_process_only(tmp_path, monkeypatch):
    monkeypatch.setattr(trial_leases, "SETTLE", 0.05)
    monkeypatch.setattr(trial_leases, "SILENCE", 1.0)
    monkeypatch.setattr(trial_leases, "BEAT", 0.1)
    shared, plan = opened(f"journal:{tmp_path}/study", "seed=0,1,2")
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(trial_leases, "_host", lambda: "elsewhere")
        trials = [trial_leases.acquire_trial(shared, plan) for _ in range(plan.trials)]
    with trial_leases.heartbeat(shared, trials[0]):
        again = [trial_leases.acquire_trial(shared, plan) for _ in range(plan.trials)]
    assert [trial and trial.number for trial in again] == [*range(1, plan.trials), None]


def test_acquire_trial_keeps_a_trial_that_was_just_created(tmp_path, capsys):
    shared, plan = opened(f"journal:{tmp_path}/study", "seed=0,1")
    trials = [shared.ask(), shared.ask()]
    own = [threading.Timer(0.2, trial.set_user_attr, (trial_leases.OWNER, trial_leases._me())) for trial in trials]
    for each in own:
        each.start()
    assert trial_leases.acquire_trial(shared, plan) is None
    assert capsys.readouterr().out == ""  # it did not wait to see whether they are alive


def test_surplus_trial_waits_for_a_larger_plan(tmp_path, monkeypatch):
    monkeypatch.setattr(trial_leases, "SETTLE", 0.05)
    found = search_space.search("optimizer.learning_rate=log(0.01,1)", Experiment())
    shared = optuna_study.open_study(f"journal:{tmp_path}/study", {}, "none", 0)
    plan = Plan(found, False, 2, 0)
    for _ in range(plan.trials):
        shared.tell(trial_leases.acquire_trial(shared, plan), 0.5)
    with monkeypatch.context() as before:  # as another process saw the study before the second trial was asked for
        before.setattr(shared, "get_trials", lambda **_: [])
        assert trial_leases.acquire_trial(shared, plan) is None
    assert trial_leases.acquire_trial(shared, plan) is None
    more = Plan(found, False, 4, 0)
    assert [trial and trial.number for trial in (trial_leases.acquire_trial(shared, more) for _ in range(3))] == [
        2,
        3,
        None,
    ]


def test_processes_of_another_container_are_not_looked_for_here(monkeypatch):
    here, link = trial_leases._host(), os.readlink
    monkeypatch.setattr(os, "readlink", lambda path: "pid:[1]" if path == "/proc/self/ns/pid" else link(path))
    assert trial_leases._host() != here


def test_search_draws_depend_on_seed_number_and_results_only(tmp_path):
    found = search_space.search("optimizer.learning_rate=log(0.01,1); optimizer.name=choice(sgd,adamw)", Experiment())

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
    assert best > 0.5  # it looks where it was good


@pytest.mark.parametrize("storage", ["mysql", "journal:s3://bucket/study", "sqlite:////nowhere/at/all.db"])
def test_open_study_error_names_storage_that_cannot_be_opened(storage):
    with pytest.raises(
        UserError, match=r"--storage=.* cannot be opened for the study .*--storage takes journal:PATH or a database"
    ):
        optuna_study.open_study(storage, {}, "none", 0)


def test_open_study_rejects_study_of_another_sweep(tmp_path):
    optuna_study.open_study(f"journal:{tmp_path}/study", {"kind": "grid", "data": "a"}, "none", 0)
    with pytest.raises(UserError, match=r"another data \('a', not 'b'\); choose another --storage"):
        optuna_study.open_study(f"journal:{tmp_path}/study", {"kind": "grid", "data": "b"}, "none", 0)


def test_trial_lease_distinguishes_process_from_later_one_with_same_pid():
    began = trial_leases._began(os.getpid())
    assert began
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    time.sleep(0.1)
    try:
        assert trial_leases._began(child.pid) not in ("", began)
    finally:
        child.kill()
        for _ in range(200):  # dead, but nobody has asked how it ended
            if not trial_leases._began(child.pid):
                break
            time.sleep(0.05)
        dead = trial_leases._began(child.pid)
        child.wait()
    assert (dead, trial_leases._began(child.pid)) == ("", "")
