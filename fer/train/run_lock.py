"""The owner of a run directory: one process at a time trains in it.

On a local disk the owner holds a lock of the operating system (flock), which ends with the process, however it ends. In
an object store, which has no locks, the owner renews a lease object; a lease that is not renewed for LEASE_S seconds
has expired.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from fer.errors import RunInUseError, StorageError, UserError
from fer.io import files, processes
from fer.periodic import call_every
from fer.run_dir import OWNER_FILE
from fer.storage import is_remote

LEASE_S = 60.0  # seconds without a renewal after which a lease in a store has expired
RENEW_S = 15.0  # seconds between two renewals
SETTLE_S = 2.0  # seconds after which a lease that another process wrote at the same time is in the store

Check = Callable[[], None]


def hold(workdir: str) -> contextlib.AbstractContextManager[Check]:
    """Holds the run directory for this process while the context lasts.

    A local directory that does not exist is created, and removed again if nothing was written into it.

    Args:
      workdir: the run directory, local or in a store.

    Returns:
      A context manager that yields a function. It raises a RunInUseError if another process has taken the run over,
      which is possible in a store if this process did not renew its lease for `LEASE_S` seconds: the store was
      unreachable, or the machine was suspended.

    Raises:
      RunInUseError: another process trains in it; the message names it.
      StorageError: the directory cannot be created or written to.
    """
    return _hold_lease(workdir) if is_remote(workdir) else _hold_flock(workdir)


@contextlib.contextmanager
def _hold_flock(workdir: str) -> Iterator[Check]:
    created = _make_directories(workdir)
    path = os.path.join(workdir, OWNER_FILE)
    try:
        descriptor = _open_locked(path, workdir)
        try:
            with contextlib.suppress(OSError):  # a full disk: the content is for messages only, the lock holds without
                os.ftruncate(descriptor, 0)
                os.write(descriptor, json.dumps(_make_owner()).encode())
            yield lambda: None
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)  # while the lock is held: a process that opened it before locks a file without a name
            os.close(descriptor)
    finally:
        for folder in created:
            with contextlib.suppress(OSError):  # it is not empty
                os.rmdir(folder)


def _open_locked(path: str, workdir: str) -> int:
    """Opens the owner's file and locks it, until the file that is locked is the one that the path names."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise StorageError(
                f"Cannot write {path}: {files.error_message(error)}. Choose another --workdir."
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = _parse(os.pread(descriptor, 4096, 0))
            os.close(descriptor)
            raise _in_use_error(workdir, owner) from error
        except OSError:  # a file system without locks, as some network disks are
            return descriptor
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(path), os.fstat(descriptor)):
                return descriptor
        os.close(descriptor)


def _make_directories(workdir: str) -> list[str]:
    """Creates the directory and those above it. Returns the ones that it created, the innermost first."""
    missing, folder = [], os.path.abspath(workdir)
    while not os.path.isdir(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    try:
        os.makedirs(workdir, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"Cannot write {workdir}: {files.error_message(error)}. Choose another --workdir."
        ) from error
    return missing


@contextlib.contextmanager
def _hold_lease(workdir: str) -> Iterator[Check]:
    path, owner = os.path.join(workdir, OWNER_FILE), {**_make_owner(), "lease": uuid.uuid4().hex}
    _wait_for_lease(path, workdir)
    files.write_json(path, {**owner, "renewals": 0})
    time.sleep(SETTLE_S)
    lease = _read(path)
    if lease and lease.get("lease") != owner["lease"]:  # another process wrote at the same time, and later
        raise _in_use_error(workdir, lease)
    counts = itertools.count(1)
    taken_over: list[RunInUseError] = []

    def renew() -> bool:
        with contextlib.suppress(UserError):  # the store is unreachable: the next renewal may succeed
            # Read each time: no clock shows that the lease expired, because that of a suspended machine stands still.
            lease = _read(path)
            if lease.get("lease") != owner["lease"]:
                taken_over.append(_in_use_error(workdir, lease))
                return True
            files.write_json(path, {**owner, "renewals": next(counts)})
        return False

    def check() -> None:
        if taken_over:
            raise taken_over[0]

    try:
        with call_every(RENEW_S, renew, "lease"):
            yield check
    finally:
        with contextlib.suppress(UserError, OSError):  # the lease expires by itself
            lease = _read(path)
            if lease and lease.get("lease") == owner["lease"]:
                files.remove(path)


def _wait_for_lease(path: str, workdir: str) -> None:
    """Waits until the lease at `path` has expired.

    A renewal is recognized by the content of the file, not by its time: the clocks of two machines may differ.

    Raises:
      RunInUseError: another process renews it.
    """
    lease = _read(path)
    if not lease or _has_ended(lease):
        return
    print(f"{workdir} has an owner, {_describe(lease)}: waiting {LEASE_S:.0f} s for its lease to expire.", flush=True)
    end = time.monotonic() + LEASE_S
    while time.monotonic() < end:
        time.sleep(min(RENEW_S, LEASE_S) / 5)
        now = _read(path)
        if not now:
            return
        if now != lease:
            raise _in_use_error(workdir, now)


def _make_owner() -> dict[str, Any]:
    started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime())
    return {"host": socket.gethostname(), "pid": os.getpid(), "process": processes.name(), "started": started}


def _has_ended(owner: dict[str, Any]) -> bool:
    """Returns whether the owner was a process of this machine that has ended."""
    process = owner.get("process")
    # A lease of this very process is one that an earlier run in it left behind.
    return isinstance(process, str) and (process == processes.name() or processes.is_running(process) is False)


def _read(path: str) -> dict[str, Any]:
    """Reads the owner's record. Returns {} if there is none or if it is not valid."""
    if not files.exists(path):
        return {}
    try:
        return _parse(files.read_bytes(path, f"There is no {path}."))
    except StorageError:
        raise
    except UserError:  # removed in between
        return {}


def _parse(content: bytes) -> dict[str, Any]:
    try:
        owner = json.loads(content)
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}


def _describe(owner: dict[str, Any]) -> str:
    if not owner:
        return "another process"
    return f"process {owner.get('pid')} on {owner.get('host')}, since {owner.get('started')}"


def _in_use_error(workdir: str, owner: dict[str, Any]) -> RunInUseError:
    return RunInUseError(
        f"{workdir} is in use by {_describe(owner)}: two processes cannot train in one run directory. Wait for it to "
        "end, stop it, or choose another --workdir."
    )
