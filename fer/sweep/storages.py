"""Storages of a study, with the heartbeats by which Optuna recognizes trials of dead processes.

Optuna implements heartbeats for databases (`RDBStorage`), with the clock of the database. Its journal has none:
`JournalStorage` adds them. A heartbeat is a new value in the journal, and a process measures with its own monotonic
clock for how long the value has not changed. Differences between the clocks of hosts have no effect.
"""

from __future__ import annotations

import os
import time
import uuid
import warnings

import optuna
from optuna.storages import journal
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.trial import TrialState

from fer.flag_paths import JOURNAL

HEARTBEAT_INTERVAL_S = 10
GRACE_PERIOD_S = 60  # without a heartbeat, after which the process of a trial counts as dead
HEARTBEAT = "heartbeat"


class JournalStorage(optuna.storages.JournalStorage, BaseHeartbeat):
    """Journal with heartbeats."""

    def __init__(self, backend: journal.BaseJournalBackend) -> None:
        super().__init__(backend)
        self._last_changes: dict[
            int, tuple[str | None, float]
        ] = {}  # by trial: last heartbeat, time of its observation

    def record_heartbeat(self, trial_id: int) -> None:
        """Writes a heartbeat of a trial."""
        self.set_trial_system_attr(trial_id, HEARTBEAT, uuid.uuid4().hex)

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        """Returns the running trials whose heartbeat has not changed for the grace period, or has never existed."""
        now, changes = time.monotonic(), {}
        for trial in self.get_all_trials(study_id, deepcopy=False, states=(TrialState.RUNNING,)):
            beat = trial.system_attrs.get(HEARTBEAT)
            known = self._last_changes.get(trial._trial_id)
            changes[trial._trial_id] = known if known and known[0] == beat else (beat, now)
        self._last_changes = changes
        return [trial_id for trial_id, (_, since) in changes.items() if now - since > GRACE_PERIOD_S]

    def get_heartbeat_interval(self) -> int:
        """Returns the interval in seconds."""
        return HEARTBEAT_INTERVAL_S

    def get_heartbeat_stale_trial_callback(self) -> None:
        """Returns None: `fer.sweep.trial_leases` retries trials."""


def make_storage(storage: str) -> optuna.storages.BaseStorage:
    """Opens a storage: journal:PATH, or the URL of a database.

    Raises:
      ValueError: the journal is not a local file. Other errors are those of the driver.
    """
    if not storage.startswith(JOURNAL):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.storages.RDBStorage(
                storage, heartbeat_interval=HEARTBEAT_INTERVAL_S, grace_period=GRACE_PERIOD_S
            )
    path = storage[len(JOURNAL) :]
    if "://" in path:
        raise ValueError("a journal must be a file on a file system that all processes share")
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    return JournalStorage(journal.JournalFileBackend(path))
