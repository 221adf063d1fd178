"""A run that is asked to stop does so after the step it is in, with a checkpoint.

It is asked by SIGTERM (a batch system, a spot instance that is reclaimed), by SIGINT (Ctrl-C), or by the notice that
EC2 puts into an instance's metadata two minutes before it takes a spot instance away.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

METADATA_URL = "http://169.254.169.254"  # AWS_EC2_METADATA_SERVICE_ENDPOINT, as in AWS' own tools, replaces it
POLL_INTERVAL_S = 5.0  # seconds between two looks at the notice; AWS recommends as much
TIMEOUT_S = 2.0  # seconds for the metadata service to answer: it is on the same machine


class StopRequest:
    """Whether a run has been asked to stop, and by what."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.looks = 0  # how often the workers of a run have looked at it: see fer.train.distributed.multi_worker

    @property
    def asked(self) -> bool:
        """True if a signal or a spot notice asked the run to stop."""
        return self.signal is not None

    def ask(self, number: int) -> None:
        """Asks for it; `number` is the signal's."""
        self.signal = number

    @property
    def exit_code(self) -> int:
        """128 and the signal's number, as shells report a process ended by it."""
        return 128 + (self.signal or 0)


@contextlib.contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Within it, the first SIGTERM or SIGINT asks; a second one ends the process as if nobody had listened."""
    stop = StopRequest()
    before: dict[int, Any] = {}

    def ask(number: int, _: object) -> None:
        stop.ask(number)
        for each, handler in before.items():
            signal.signal(each, handler)

    if threading.current_thread() is threading.main_thread():  # signals reach no other
        before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def stop_on_spot_notice(stop: StopRequest, every: float = POLL_INTERVAL_S) -> Iterator[None]:
    """Within it, a notice that EC2 takes this spot instance away asks for `stop`, as SIGTERM does."""
    over = threading.Event()
    watcher = threading.Thread(target=_poll_notice, args=(stop, over, every), name="spot notice", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _poll_notice(stop: StopRequest, over: threading.Event, every: float) -> None:
    while not over.wait(every):
        if _has_notice():
            print("EC2 takes this spot instance away.", flush=True)
            stop.ask(signal.SIGTERM)
            return


def _has_notice() -> bool:
    """Whether the instance's metadata holds a notice (404 without one), by version 2 of the service: token first."""
    service = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", METADATA_URL).rstrip("/") + "/latest/"
    wanted = urllib.request.Request(
        service + "api/token", method="PUT", headers={"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    )
    try:
        with urllib.request.urlopen(wanted, timeout=TIMEOUT_S) as answer:
            token = answer.read().decode()
        notice = urllib.request.Request(
            service + "meta-data/spot/instance-action", headers={"X-aws-ec2-metadata-token": token}
        )
        with urllib.request.urlopen(notice, timeout=TIMEOUT_S) as answer:
            return answer.status == 200
    # No notice, or a service that is away or answers nonsense for a moment: ask again later.
    except (urllib.error.URLError, OSError, http.client.HTTPException, ValueError):
        return False
