"""Follows faces from frame to frame of a video, and smooths the probabilities of each track.

Rule: of all pairs of a track and a box, those with the largest intersection over union (IoU) are matched first, down to
`MIN_IOU`. A box without a match begins a new track. A track without a box for longer than `max_gap_s` ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from fer.predict.face_detection import Box
from fer.predict.video_request import parse_smoothing

MIN_IOU = 0.3


class Track(NamedTuple):
    """A face that is followed."""

    number: int  # from 1, in order of appearance
    box: Box  # its last one
    time_s: float  # of this box


class Tracks(NamedTuple):
    """State of the tracker. The initial state is `Tracks()`."""

    active: tuple[Track, ...] = ()
    total: int = 0  # number of all tracks so far


def update(tracks: Tracks, boxes: Sequence[Box], time_s: float, max_gap_s: float) -> tuple[Tracks, list[int]]:
    """Assigns the faces of the next frame to tracks.

    Args:
      tracks: the state after the previous frame.
      boxes: of the n faces of the frame.
      time_s: of the frame, in seconds.
      max_gap_s: a track ends if it has no box for longer than this.

    Returns:
      The new state, and the track numbers of the n faces.
    """
    active = [track for track in tracks.active if time_s - track.time_s <= max_gap_s]
    pairs = [
        (overlap, -place, -position)
        for place, track in enumerate(active)
        for position, box in enumerate(boxes)
        if (overlap := iou(track.box, box)) >= MIN_IOU
    ]
    matches: dict[int, int] = {}  # by position of the box, the place of the track
    for _, place, position in sorted(pairs, reverse=True):
        if -place not in matches.values() and -position not in matches:
            matches[-position] = -place
    total, numbers = tracks.total, []
    for position in range(len(boxes)):
        if position in matches:
            numbers.append(active[matches[position]].number)
        else:
            total += 1
            numbers.append(total)
    lost = [track for place, track in enumerate(active) if place not in matches.values()]
    found = [Track(number, box, time_s) for number, box in zip(numbers, boxes)]
    return Tracks((*lost, *found), total), numbers


def iou(one: Box, other: Box) -> float:
    """Returns the area of the intersection of two boxes, divided by the area of their union."""
    width = min(one.left + one.width, other.left + other.width) - max(one.left, other.left)
    height = min(one.top + one.height, other.top + other.height) - max(one.top, other.top)
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    return common / (one.width * one.height + other.width * other.height - common)


class Smoother:
    """Averages the probabilities of each track over time.

    `exponential:T` is the moving average y += (1 - exp(-dt / T)) * (x - y), with time constant T and time step dt.
    `window:T` is the mean of the frames of the last T seconds. Both use past frames only.
    """

    def __init__(self, smoothing: str):
        """Starts without tracks.

        Args:
          smoothing: as for `parse_smoothing`.

        Raises:
          UserError: it has another form.
        """
        self._kind, self._duration_s = parse_smoothing(smoothing)
        self._history: dict[int, list[tuple[float, np.ndarray]]] = {}  # by track, time and probabilities

    def update(self, number: int, time_s: float, probabilities: np.ndarray) -> np.ndarray:
        """Returns the average of a track after its next frame.

        Args:
          number: of the track.
          time_s: of the frame, in seconds; later than that of the track's previous frame.
          probabilities: [C] float32.

        Returns:
          [C] float32.
        """
        history = self._history.setdefault(number, [])
        if self._kind == "window":
            history[:] = [(past, row) for past, row in history if time_s - past < self._duration_s]
            history.append((time_s, probabilities))
            return np.mean([row for _, row in history], axis=0, dtype=np.float32)
        if history:
            past, average = history[0]
            weight = -np.expm1((past - time_s) / self._duration_s)
            probabilities = (average + weight * (probabilities - average)).astype(np.float32)
        history[:] = [(time_s, probabilities)]
        return probabilities

    def keep(self, numbers: Iterable[int]) -> None:
        """Forgets all tracks but the given ones."""
        kept = set(numbers)
        self._history = {number: rows for number, rows in self._history.items() if number in kept}
