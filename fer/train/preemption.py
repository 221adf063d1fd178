"""Requests to stop a run, which then stops with a checkpoint after the current call of one or more steps.

A run is stopped by SIGTERM (from a batch system or a reclaimed spot instance), by SIGINT (Ctrl-C), or by the notice
that EC2 puts into an instance's metadata two minutes before it interrupts a spot instance.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import os
import signal
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

from fer.errors import EXIT_TRY_AGAIN
from fer.periodic import call_every

METADATA_URL = "http://169.254.169.254"  # AWS_EC2_METADATA_SERVICE_ENDPOINT replaces it, as in AWS' own tools
POLL_INTERVAL_S = 5.0  # seconds between two requests for the notice, as AWS recommends
TIMEOUT_S = 2.0  # seconds for the metadata service to answer: it is on the same machine


@dataclasses.dataclass
class StopRequest:
    """A request to stop a run."""

    exit_code: int = 0  # 128 plus a signal's number, as in shells; EXIT_TRY_AGAIN for a spot notice; 0: no request
    unsynced_steps: int = 0  # since the workers last agreed on a stop: see fer.train.distributed.multi_worker

    @property
    def requested(self) -> bool:
        """True if a signal or a spot notice requested a stop."""
        return self.exit_code != 0


@contextlib.contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Handles signals: the first SIGTERM or SIGINT requests a stop, a second one has its default effect."""
    stop = StopRequest()
    before: dict[int, Any] = {}

    def handle(number: int, _: object) -> None:
        stop.exit_code = 128 + number
        for each, handler in before.items():
            signal.signal(each, handler)

    if threading.current_thread() is threading.main_thread():  # only the main thread may set handlers
        before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def stop_on_spot_notice(stop: StopRequest, every: float = POLL_INTERVAL_S) -> Iterator[None]:
    """Polls EC2's metadata: the notice of a spot interruption requests a stop, after which the same command goes on."""

    def poll() -> bool:
        noticed = _has_notice()
        if noticed:
            print("EC2 will interrupt this spot instance.", flush=True)
            stop.exit_code = EXIT_TRY_AGAIN
        return noticed

    with call_every(every, poll, "spot notice"):
        yield


def _has_notice() -> bool:
    """Returns whether the instance's metadata (version 2, with a token) holds a notice; without one it answers 404."""
    service = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", METADATA_URL).rstrip("/") + "/latest/"
    token_request = urllib.request.Request(
        service + "api/token", method="PUT", headers={"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    )
    try:
        with urllib.request.urlopen(token_request, timeout=TIMEOUT_S) as answer:
            token = answer.read().decode()
        notice = urllib.request.Request(
            service + "meta-data/spot/instance-action", headers={"X-aws-ec2-metadata-token": token}
        )
        with urllib.request.urlopen(notice, timeout=TIMEOUT_S) as answer:
            return answer.status == 200
    # No notice, or a service that is unreachable or answers nonsense for a moment: the next poll follows.
    except (urllib.error.URLError, OSError, http.client.HTTPException, ValueError):
        return False
