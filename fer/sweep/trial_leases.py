"""Leases of trials: each trial is trained by one process, and the trial of a dead process by another one.

Optuna does most of it: heartbeats in the storage; `fail_stale_trials`, which marks a running trial without heartbeats
as failed; `RetryHeartbeatStaleTrialCallback`, which queues a copy; and `Study.ask`, which gives a queued trial to one
process. A copy has another number, but belongs to the same point and run directory (`optuna_study.latest_trials`),
where training resumes from the checkpoint. Optuna 4.9 lacks the following:

- `HeartbeatThread` ends at the first error of the storage, so that a live trial counts as dead: see `heartbeat`.
- A trial whose process died before its first heartbeat is never stale in a database: see `_record_first_heartbeat`.
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
from collections.abc import Iterator
from typing import cast

import optuna
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.trial import TrialState

from fer.periodic import call_every
from fer.sweep import storages
from fer.sweep.optuna_study import FAILURE, Plan, latest_trials

POLL_INTERVAL_S = 1.0
FIRST_HEARTBEAT = "first_heartbeat"  # number of the trial, because a copy has the attributes of its original


def acquire_trial(study: optuna.Study, plan: Plan) -> optuna.Trial | None:
    """Acquires a trial: a released one, one of a dead process, or a new one.

    If there is none, but other processes train trials, waits until these end or each has had time for a heartbeat.

    Returns:
      The trial, or None if each trial has ended or is trained by a live process.
    """
    end = time.monotonic() + storages.GRACE_PERIOD_S + storages.HEARTBEAT_INTERVAL_S
    is_waiting = False
    while True:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna warns of heartbeats outside of Study.optimize
            trial = _take(study, plan)
        running = plan.of(study, TrialState.RUNNING)
        if trial or not running or time.monotonic() > end:
            return trial
        if not is_waiting:
            print(
                f"Waiting up to {storages.GRACE_PERIOD_S} s for {len(running)} trials of other processes ...",
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


def release_trial(study: optuna.Study, trial: optuna.Trial) -> None:
    """Ends the lease of an interrupted trial, so that the next process resumes it at once."""
    study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)


def _take(study: optuna.Study, plan: Plan) -> optuna.Trial | None:
    """Queues the trials of dead processes. Returns a queued trial or a new one, or None if there is none."""
    for running in plan.of(study, TrialState.RUNNING):
        if running.user_attrs.get(FIRST_HEARTBEAT) != running.number:
            _record_first_heartbeat(study, running._trial_id, running.number)
    optuna.storages.fail_stale_trials(study)
    for failed in plan.of(study, TrialState.FAIL):
        if FAILURE not in failed.user_attrs:
            RetryHeartbeatStaleTrialCallback()(study, copy.deepcopy(failed))  # the callback changes its argument
    while plan.of(study, TrialState.WAITING) or len(latest_trials(study)) < plan.trials:
        trial = study.ask()
        if plan.point(study, trial.number) is not None:
            _record_first_heartbeat(study, trial._trial_id, trial.number)
            return trial
        release_trial(study, trial)  # beyond this plan, or the second copy of a trial
    return None


def _record_first_heartbeat(study: optuna.Study, trial_id: int, number: int) -> None:
    """Writes a heartbeat of a trial that may have none: of this process, or of one that may be dead."""
    with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError, optuna.exceptions.StorageInternalError):
        cast(BaseHeartbeat, study._storage).record_heartbeat(trial_id)
        study._storage.set_trial_user_attr(trial_id, FIRST_HEARTBEAT, number)
