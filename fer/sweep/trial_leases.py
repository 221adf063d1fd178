"""Who trains which trial. A process that trains one gives signs of life; what a dead one left, another takes up.

A process of this machine that is gone is known to be dead at once. One of another machine counts as dead when it has
been silent for `SILENCE` seconds. A claim stands if it is still there after `SETTLE` seconds: of two that are made at
once, the later one does (Fischer's protocol, in Lamport 1987, "A fast mutual exclusion algorithm").
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator

import optuna
from optuna.trial import FrozenTrial, TrialState

from fer.sweep.optuna_study import Plan

BEAT = 5.0  # seconds between two signs of life
SILENCE = 60.0
SETTLE = 1.0  # seconds; much more than it takes to write to the storage

OWNER, SIGN = "owner", "sign_of_life"
NOBODY = "nobody"


def acquire_trial(study: optuna.Study, plan: Plan) -> optuna.Trial | None:
    """A trial to train: one left behind on this machine, or nobody's, else a new one, else one of another machine.

    Returns:
      None where every trial is over, or is trained by a living process.
    """
    left = [trial for trial in plan.of(study, TrialState.RUNNING) if _is_free(trial) or _dead_here(trial)]
    return _claimed(study, left) or _new(study, plan) or _claimed(study, _silent(study, plan))


@contextlib.contextmanager
def heartbeat(study: optuna.Study, trial: optuna.Trial) -> Iterator[None]:
    """Within it, the storage is told every few seconds that this process trains the trial."""
    over = threading.Event()

    def beat() -> None:
        count = 0
        while not over.wait(BEAT):
            count += 1
            with contextlib.suppress(Exception):  # a storage that is away for a moment
                trial.set_user_attr(SIGN, f"{os.getpid()}-{count}")

    thread = threading.Thread(target=beat, name="sign of life", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _new(study: optuna.Study, plan: Plan) -> optuna.Trial | None:
    if len(study.get_trials(deepcopy=False)) >= plan.trials:
        return None
    trial = study.ask()
    if trial.number >= plan.trials:  # another process was faster
        trial.set_user_attr(OWNER, NOBODY)  # until a plan has more trials
        return None
    trial.set_user_attr(OWNER, _me())
    return trial


def _claimed(study: optuna.Study, left: list[FrozenTrial]) -> optuna.Trial | None:
    """The first of some trials that this process gets."""
    for frozen in left:
        trial, claim = optuna.Trial(study, frozen._trial_id), _me()
        if _now(study, frozen).user_attrs.get(OWNER) != frozen.user_attrs.get(OWNER):
            continue  # somebody else claimed it in the meantime
        trial.set_user_attr(OWNER, claim)
        time.sleep(SETTLE)
        now = _now(study, frozen)
        if now.user_attrs[OWNER] == claim and now.state == TrialState.RUNNING:
            return trial
    return None


def _silent(study: optuna.Study, plan: Plan) -> list[FrozenTrial]:
    """The trials of other machines' processes that give no sign of life for as long as it takes to be sure."""
    if any(OWNER not in trial.user_attrs for trial in plan.of(study, TrialState.RUNNING)):
        time.sleep(SETTLE)  # a process of this machine may just have asked for it
    before = [trial for trial in plan.of(study, TrialState.RUNNING) if not _is_here(trial)]
    if before:
        print(f"Waiting {SILENCE:.0f} s to see whether {len(before)} trials of other machines are alive.", flush=True)
        time.sleep(SILENCE)
    return [trial for trial in before if _now(study, trial).user_attrs == trial.user_attrs]


def _now(study: optuna.Study, trial: FrozenTrial) -> FrozenTrial:
    return study.get_trials(deepcopy=False)[trial.number]


def _me() -> str:
    """This process, and one claim of it: host, process, when that began, and a number of its own."""
    return " ".join([_host(), str(os.getpid()), _began(os.getpid()), uuid.uuid4().hex])


def _is_free(trial: FrozenTrial) -> bool:
    """Whether the trial was asked for beyond the plan; one that has no owner yet is just about to get one."""
    return trial.user_attrs.get(OWNER) == NOBODY


def _is_here(trial: FrozenTrial) -> bool:
    return trial.user_attrs.get(OWNER, "").split(" ")[0] == _host()


def _dead_here(trial: FrozenTrial) -> bool:
    """Whether the trial's process was one of this machine, and is gone."""
    if not _is_here(trial):
        return False
    _, process, began, _ = trial.user_attrs[OWNER].split(" ")
    return _began(int(process)) != began


def _host() -> str:
    """The machine as it runs now: after a restart, or in another container, process numbers mean nothing."""
    boot = "/proc/sys/kernel/random/boot_id"
    if not os.path.exists(boot):
        return f"{socket.gethostname()}/{uuid.getnode()}"
    numbered = ""  # of two containers with the host's name, each numbers its own processes
    with contextlib.suppress(OSError):
        numbered = os.readlink("/proc/self/ns/pid")
    with open(boot, encoding="ascii") as file:
        return f"{socket.gethostname()}/{file.read().strip()}/{numbered}"


def _began(process: int) -> str:
    """When a process of this machine was started, in the kernel's ticks; "" where there is none, or a dead one."""
    try:
        with open(f"/proc/{process}/stat", encoding="ascii", errors="replace") as file:
            state, *fields = file.read().rpartition(")")[2].split()  # from field 3 of proc(5) on
    except OSError:
        return ""
    return "" if state in "ZX" else fields[18]  # field 22
