"""Leases of trials: each trial is trained by one process, and the trial of a dead process by another one.

A process that trains a trial writes heartbeats to the study. A process of this host is dead if the system does not list
it. A process of another host counts as dead after `LEASE_TIMEOUT_S` seconds without a heartbeat. A lease is valid if it
is still in the study after `SETTLE_S` seconds: of two concurrent leases, the later one is (Fischer's protocol, in
Lamport 1987, "A fast mutual exclusion algorithm").
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import time
import uuid
from collections.abc import Iterator

import optuna
from optuna.trial import FrozenTrial, TrialState

from fer.periodic import call_every
from fer.sweep.optuna_study import Plan

HEARTBEAT_INTERVAL_S = 5.0
LEASE_TIMEOUT_S = 60.0
SETTLE_S = 1.0  # much longer than a write to the storage takes

OWNER, HEARTBEAT = "owner", "sign_of_life"
NO_OWNER = "nobody"


def acquire_trial(study: optuna.Study, plan: Plan) -> optuna.Trial | None:
    """Acquires a trial: one without owner or of a dead process of this host, a new one, or one of another host.

    Returns:
      The trial, or None if each trial has ended or is trained by a live process.
    """
    left = [trial for trial in plan.of(study, TrialState.RUNNING) if _is_free(trial) or _is_dead_on_this_host(trial)]
    return _claim(study, left) or _ask(study, plan) or _claim(study, _find_silent(study, plan))


@contextlib.contextmanager
def heartbeat(study: optuna.Study, trial: optuna.Trial) -> Iterator[None]:
    """Writes a heartbeat of the trial every `HEARTBEAT_INTERVAL_S` seconds while the block runs."""
    counts = itertools.count(1)

    def beat() -> None:
        with contextlib.suppress(Exception):  # the storage may be unreachable for a moment
            trial.set_user_attr(HEARTBEAT, f"{os.getpid()}-{next(counts)}")

    with call_every(HEARTBEAT_INTERVAL_S, beat, "heartbeat"):
        yield


def _ask(study: optuna.Study, plan: Plan) -> optuna.Trial | None:
    if len(study.get_trials(deepcopy=False)) >= plan.trials:
        return None
    trial = study.ask()
    if trial.number >= plan.trials:  # another process was faster
        trial.set_user_attr(OWNER, NO_OWNER)  # for a plan with more trials
        return None
    trial.set_user_attr(OWNER, _make_owner_id())
    return trial


def _claim(study: optuna.Study, left: list[FrozenTrial]) -> optuna.Trial | None:
    """Tries to acquire one of the trials. Returns the first that this process obtains, or None."""
    for frozen in left:
        trial, claim = optuna.Trial(study, frozen._trial_id), _make_owner_id()
        if _reload(study, frozen).user_attrs.get(OWNER) != frozen.user_attrs.get(OWNER):
            continue  # another process has claimed it
        trial.set_user_attr(OWNER, claim)
        time.sleep(SETTLE_S)
        now = _reload(study, frozen)
        if now.user_attrs[OWNER] == claim and now.state == TrialState.RUNNING:
            return trial
    return None


def _find_silent(study: optuna.Study, plan: Plan) -> list[FrozenTrial]:
    """Waits `LEASE_TIMEOUT_S` and returns the trials of other hosts that had no heartbeat in this time."""
    if any(OWNER not in trial.user_attrs for trial in plan.of(study, TrialState.RUNNING)):
        time.sleep(SETTLE_S)  # a process of this host may be about to write its owner
    before = [trial for trial in plan.of(study, TrialState.RUNNING) if not _is_on_this_host(trial)]
    if before:
        print(
            f"Waiting {LEASE_TIMEOUT_S:.0f} s for heartbeats of {len(before)} trials of other hosts ...",
            flush=True,
        )
        time.sleep(LEASE_TIMEOUT_S)
    return [trial for trial in before if _reload(study, trial).user_attrs == trial.user_attrs]


def _reload(study: optuna.Study, trial: FrozenTrial) -> FrozenTrial:
    return study.get_trials(deepcopy=False)[trial.number]


def _make_owner_id() -> str:
    """Returns the identifier of a new lease: host, process number, start time of the process and a unique number."""
    return " ".join([_host_id(), str(os.getpid()), _process_start(os.getpid()), uuid.uuid4().hex])


def _is_free(trial: FrozenTrial) -> bool:
    """Returns whether the trial was created beyond a plan. A trial without the attribute is about to get an owner."""
    return trial.user_attrs.get(OWNER) == NO_OWNER


def _is_on_this_host(trial: FrozenTrial) -> bool:
    return trial.user_attrs.get(OWNER, "").split(" ")[0] == _host_id()


def _is_dead_on_this_host(trial: FrozenTrial) -> bool:
    """Returns whether the process of the trial was on this host and has ended."""
    if not _is_on_this_host(trial):
        return False
    _, process, start, _ = trial.user_attrs[OWNER].split(" ")
    return _process_start(int(process)) != start


def _host_id() -> str:
    """Returns an identifier of this host that changes with each boot and container, like the process numbers."""
    boot = "/proc/sys/kernel/random/boot_id"
    if not os.path.exists(boot):
        return f"{socket.gethostname()}/{uuid.getnode()}"
    pid_namespace = ""  # containers with the same host name have their own process numbers
    with contextlib.suppress(OSError):
        pid_namespace = os.readlink("/proc/self/ns/pid")
    with open(boot, encoding="ascii") as file:
        return f"{socket.gethostname()}/{file.read().strip()}/{pid_namespace}"


def _process_start(process: int) -> str:
    """Returns the start time of a process of this host in clock ticks; "" if there is no such process or it is dead."""
    try:
        with open(f"/proc/{process}/stat", encoding="ascii", errors="replace") as file:
            state, *fields = file.read().rpartition(")")[2].split()  # from field 3 of proc(5) on
    except OSError:
        return ""
    return "" if state in "ZX" else fields[18]  # field 22
