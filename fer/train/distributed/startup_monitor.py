"""A process that watches over another one while that starts as one of several workers.

TensorFlow waits an hour for a worker that ends before it is connected, in a call that holds Python's lock: no thread of
the waiting process can end it, and no signal that Python handles. So this module runs by itself, on the standard
library alone, with the connections that `fer.train.distributed.rendezvous` made. Where a worker is lost, or TensorFlow
does not connect them, and the process that is watched does not end by itself, it says so and kills it.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time

CONNECTED = b"connected\n"  # from the process that is watched; the end of its input means that it has started or ended
DONE = b"."  # from another worker, that has started


def main(text: str) -> None:
    """Watches until the input ends.

    Args:
      text: JSON: the program and the worker that is watched, all workers, the open connections by number with the
        worker's index, and the seconds of `rollcall.Others.watch`.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # which is for the process that is watched
    asked, parent = json.loads(text), os.getppid()
    sockets = {int(number): socket.socket(fileno=int(number)) for number in asked["connections"]}
    poll, lost = select.poll(), ""
    for number in (sys.stdin.fileno(), *sockets):
        poll.register(number, select.POLLIN)
    end: float | None = time.monotonic() + asked["connect"]
    while end is None or time.monotonic() < end:
        for number, _ in poll.poll(None if end is None else 1000 * max(end - time.monotonic(), 0.001)):
            if number == sys.stdin.fileno():
                if os.read(number, len(CONNECTED)) != CONNECTED:
                    return
                end = end if lost else None
                continue
            poll.unregister(number)
            if not _has_started(sockets[number]) and not lost:
                index = asked["connections"][str(number)]
                lost = f"worker {index} ({asked['workers'][index]}) ended before all had started"
                end = time.monotonic() + asked["grace"]
    why = lost or (
        f"TensorFlow did not connect it with the others within {asked['connect']:.0f} s: see that all of "
        f"{', '.join(asked['workers'])} reach each other on every port"
    )
    again = "; start the same command on all of them again" if lost else ""
    print(f"{asked['program']}: This is {asked['name']}, and {why}{again}.", file=sys.stderr, flush=True)
    if os.getppid() == parent:
        os.kill(parent, signal.SIGKILL)


def _has_started(connection: socket.socket) -> bool:
    """Whether the last word of a worker is that it has started."""
    try:
        return connection.recv(len(DONE)) == DONE
    except OSError:
        return False


if __name__ == "__main__":
    main(sys.argv[1])
