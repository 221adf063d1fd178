"""Leases of trials: each trial is trained by one process, and the trial of a dead process by another one.

Optuna does most of it: heartbeats in the storage; `fail_stale_trials`, which marks a running trial without heartbeats
as failed; `RetryHeartbeatStaleTrialCallback`, which queues a copy; and `Study.ask`, which gives a queued trial to one
process. A copy has another number, but belongs to the same point and run directory (`optuna_study.latest_trials`),
where training resumes from the checkpoint. Optuna 4.9 lacks the following:

- The trial of a killed process is stale only after the grace period. Each trial has the name of its process, so that
  on the same machine a killed one is recognized at once, and no process waits for a running one.
- `HeartbeatThread` ends at the first error of the storage, so that a live trial counts as dead: see `heartbeat`.
- A trial whose process died before its first heartbeat is never stale in a database: see `_record_lease`.
- `fail_stale_trials` queues the copy after it marked the trial. A process killed in between leaves a failed trial
  without a copy. Therefore each failed trial without a reason is queued here, and of two copies the first counts.
- An interrupted trial has heartbeats until the grace period ends: `release_trial` makes it available at once.
- The journal has no heartbeats: see `storages.JournalStorage`.
"""

from __future__ import annotations

import contextlib
import copy
import time
import warnings
from collections.abc import Callable, Iterator
from typing import cast

import optuna
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.trial import FrozenTrial, TrialState

from fer.io import processes
from fer.periodic import call_every
from fer.sweep import storages
from fer.sweep.optuna_study import FAILURE, Plan, latest_trials

POLL_INTERVAL_S = 1.0
LEASE = "lease"  # number of the trial, because a copy has the attributes of its original, and its process or ""


def acquire_trial(
    study: optuna.Study, plan: Plan, is_stopped: Callable[[], bool] = lambda: False
) -> optuna.Trial | None:
    """Acquires a trial: a released one, one of a dead process, or a new one.

    If there is none, but processes of other machines train trials, waits until these end or each has had time for a
    heartbeat.

    Args:
      study: shared by all processes.
      plan: the trials.
      is_stopped: polled while it waits; True ends the wait.

    Returns:
      The trial, or None if each trial has ended or is trained by a live process, or if the wait was stopped.
    """
    end = time.monotonic() + storages.GRACE_PERIOD_S + storages.HEARTBEAT_INTERVAL_S
    is_waiting = False
    while True:
        is_last = time.monotonic() > end  # before the attempt, which may take long
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna warns of heartbeats outside of Study.optimize
            trial = _take(study, plan)
        running = plan.of(study, TrialState.RUNNING)
        others = [each for each in running if not _is_training(each)]
        if trial or not others or is_stopped() or is_last:
            return trial
        if not is_waiting:
            print(
                f"Waiting up to {storages.GRACE_PERIOD_S} s for {len(others)} trials of other processes ...",
                flush=True,
            )
            is_waiting = True
        time.sleep(POLL_INTERVAL_S)


@contextlib.contextmanager
def heartbeat(study: optuna.Study, trial: optuna.Trial) -> Iterator[None]:
    """Writes heartbeats of the trial while the block runs."""
    storage = cast(BaseHeartbeat, study._storage)

    def beat() -> None:
        with contextlib.suppress(Exception):  # the storage may be unreachable for a moment
            storage.record_heartbeat(trial._trial_id)

    with call_every(storages.HEARTBEAT_INTERVAL_S, beat, "heartbeat"):
        yield


def release_trial(study: optuna.Study, trial: optuna.Trial | FrozenTrial) -> None:
    """Ends the lease of an interrupted trial, so that the next process resumes it at once."""
    with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):  # another process has ended it
        study._storage.set_trial_state_values(trial._trial_id, state=TrialState.FAIL)


def _take(study: optuna.Study, plan: Plan) -> optuna.Trial | None:
    """Queues the trials of dead processes. Returns a queued trial or a new one, or None if there is none."""
    for running in plan.of(study, TrialState.RUNNING):
        if running.user_attrs.get(LEASE, [None])[0] != running.number:
            _record_lease(study, running._trial_id, running.number, process="")
        elif _is_training(running) is False:
            release_trial(study, running)
    optuna.storages.fail_stale_trials(study)
    for failed in plan.of(study, TrialState.FAIL):
        if FAILURE not in failed.user_attrs:
            RetryHeartbeatStaleTrialCallback()(study, copy.deepcopy(failed))  # the callback changes its argument
    while plan.of(study, TrialState.WAITING) or len(latest_trials(study)) < plan.trials:
        trial = study.ask()
        if plan.point(study, trial.number) is not None:
            _record_lease(study, trial._trial_id, trial.number, processes.name())
            return trial
        release_trial(study, trial)  # beyond this plan, or the second copy of a trial
    return None


def _is_training(trial: FrozenTrial) -> bool | None:
    """Returns whether the process of a running trial runs; None if only its heartbeats show that.

    They do so for a trial of another machine, and for one that this process could not train.
    """
    number, process = trial.user_attrs.get(LEASE, [None, ""])
    return None if number != trial.number or process == processes.name() else processes.is_running(process)


def _record_lease(study: optuna.Study, trial_id: int, number: int, process: str) -> None:
    """Writes the process and the first heartbeat of a trial, of this process or of one that may be dead."""
    with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError, optuna.exceptions.StorageInternalError):
        cast(BaseHeartbeat, study._storage).record_heartbeat(trial_id)
        study._storage.set_trial_user_attr(trial_id, LEASE, [number, process])
