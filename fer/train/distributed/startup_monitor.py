"""A process that monitors a worker (the parent process) during the start of a multi-worker run.

TensorFlow waits an hour for a worker that ends before it is connected, in a call that holds the GIL: no thread of the
waiting process and no signal that Python handles can end it. This module therefore runs as a process of its own, on the
standard library alone, with the connections that `fer.train.distributed.rendezvous` opened. If a worker is lost or
TensorFlow does not connect the workers, and the parent process does not end by itself, this process prints an error and
kills it.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time

CONNECTED = b"connected\n"  # from the parent process; the end of the input means that the parent has started or ended
DONE = b"."  # from another worker that has started


def main(text: str) -> None:
    """Monitors the parent process until the standard input ends.

    Args:
      text: JSON: the names of the program and of the worker, all workers, the open connections (file descriptor to
        index of the worker), and the arguments of `rendezvous.ConnectedWorkers.start_monitor` in seconds.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is meant for the parent process
    settings, parent = json.loads(text), os.getppid()
    sockets = {int(number): socket.socket(fileno=int(number)) for number in settings["connections"]}
    poll, lost = select.poll(), ""
    for number in (sys.stdin.fileno(), *sockets):
        poll.register(number, select.POLLIN)
    end: float | None = time.monotonic() + settings["connect"]
    while end is None or time.monotonic() < end:
        for number, _ in poll.poll(None if end is None else 1000 * max(end - time.monotonic(), 0.001)):
            if number == sys.stdin.fileno():
                if os.read(number, len(CONNECTED)) != CONNECTED:
                    return
                end = end if lost else None
                continue
            poll.unregister(number)
            if not _has_started(sockets[number]) and not lost:
                index = settings["connections"][str(number)]
                lost = f"worker {index} ({settings['workers'][index]}) ended before all had started"
                end = time.monotonic() + settings["grace"]
    reason = lost or (
        f"TensorFlow did not connect it with the others within {settings['connect']:.0f} s: check that all of "
        f"{', '.join(settings['workers'])} reach each other on every port"
    )
    remedy = "; start the same command on all of them again" if lost else ""
    print(f"{settings['program']}: This is {settings['name']}, and {reason}{remedy}.", file=sys.stderr, flush=True)
    if os.getppid() == parent:
        os.kill(parent, signal.SIGKILL)


def _has_started(connection: socket.socket) -> bool:
    """Returns whether a worker reported its start before it closed the connection."""
    try:
        return connection.recv(len(DONE)) == DONE
    except OSError:
        return False


if __name__ == "__main__":
    main(sys.argv[1])
