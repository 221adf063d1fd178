"""Summarizes the tracks of a video in memory that does not depend on its length."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from fer.predict.video import FrameFaces

MAX_TRACKS = 20  # reported; of a video with more, the ones with the most frames
BINS = 512  # of the timeline of a track
BIN_S = 0.02  # seconds of the first bins; they double when the video becomes longer than all bins
MIN_SHARE = 0.005  # of the frames of a track, below which a class is not reported


@dataclasses.dataclass
class TrackSummary:
    """A track: its duration, its classes and its probabilities over time."""

    number: int
    first_s: float
    last_s: float
    frames: int  # with a face
    class_frames: np.ndarray  # [C] int64, frames by most probable class
    bin_frames: np.ndarray  # [BINS] int64, frames by bin of time
    bin_times: np.ndarray  # [BINS] float64, sums of times
    bin_probabilities: np.ndarray  # [BINS, C] float64, sums of probabilities

    def timeline(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns times [m] in seconds and mean probabilities [m, C] of the m bins that have frames."""
        used = np.flatnonzero(self.bin_frames)
        counts = self.bin_frames[used]
        return self.bin_times[used] / counts, self.bin_probabilities[used] / counts[:, np.newaxis]


class TrackStatistics:
    """Collects the frames of a video for its summary and its plot."""

    def __init__(self, classes: Sequence[str], max_gap_s: float):
        """Starts without frames.

        Args:
          classes: names of the C classes.
          max_gap_s: as for `fer.predict.tracking.update`.
        """
        self.bin_s = BIN_S
        self.frames = self.faces = self.count = 0  # count: of tracks
        self.duration_s = 0.0
        self._classes, self._max_gap_s = tuple(classes), max_gap_s
        self._tracks: dict[int, TrackSummary] = {}

    def add(self, found: FrameFaces) -> None:
        """Adds the faces of the next frame."""
        time_s = found.frame.time_s
        self.frames, self.faces, self.duration_s = self.frames + 1, self.faces + len(found.tracks), time_s
        self.count = max([self.count, *found.tracks])
        while time_s >= BINS * self.bin_s:
            self._double_bins()
        place = int(time_s / self.bin_s)
        for number, row in zip(found.tracks, found.probabilities):
            track = self._tracks.get(number) or self._begin(number, time_s)
            track.last_s, track.frames = time_s, track.frames + 1
            track.class_frames[row.argmax()] += 1
            track.bin_frames[place] += 1
            track.bin_times[place] += time_s
            track.bin_probabilities[place] += row
        if len(self._tracks) > 2 * MAX_TRACKS:
            self._drop_short_tracks(time_s)

    def tracks(self, count: int = MAX_TRACKS) -> list[TrackSummary]:
        """Returns the `count` tracks with the most frames, in order of appearance."""
        longest = sorted(self._tracks.values(), key=lambda track: -track.frames)[:count]
        return sorted(longest, key=lambda track: track.number)

    def lines(self) -> list[str]:
        """Describes each track on a line: duration, frames, and shares of the frames by most probable class."""
        listed = self.tracks()
        lines = [
            f"track {track.number}: {track.last_s - track.first_s:.1f} s from {track.first_s:.1f} s, "
            f"{track.frames:,} frame{'s' * (track.frames != 1)}: {', '.join(self.shares(track))}"
            for track in listed
        ]
        rest = self.count - len(listed)
        return [*lines, f"{rest:,} shorter track{'s' * (rest != 1)}"] if rest else lines

    def shares(self, track: TrackSummary) -> list[str]:
        """Returns the classes of a track with their percentages of its frames, the largest first."""
        shares = track.class_frames / track.frames
        best = [label for label in np.argsort(-shares, kind="stable") if shares[label] >= MIN_SHARE]
        return [f"{self._classes[label]} {100 * shares[label]:.0f} %" for label in best]

    def _begin(self, number: int, time_s: float) -> TrackSummary:
        classes = len(self._classes)
        self._tracks[number] = TrackSummary(
            number,
            first_s=time_s,
            last_s=time_s,
            frames=0,
            class_frames=np.zeros(classes, np.int64),
            bin_frames=np.zeros(BINS, np.int64),
            bin_times=np.zeros(BINS),
            bin_probabilities=np.zeros([BINS, classes]),
        )
        return self._tracks[number]

    def _double_bins(self) -> None:
        """Merges each pair of bins, which leaves the upper half of the bins empty."""
        self.bin_s *= 2
        for track in self._tracks.values():
            for sums in (track.bin_frames, track.bin_times, track.bin_probabilities):
                half = sums[::2] + sums[1::2]
                sums[: BINS // 2], sums[BINS // 2 :] = half, 0

    def _drop_short_tracks(self, time_s: float) -> None:
        """Forgets tracks that have ended, except for `MAX_TRACKS` with the most frames."""
        kept = {track.number for track in self.tracks()}
        self._tracks = {
            number: track
            for number, track in self._tracks.items()
            if number in kept or time_s - track.last_s <= self._max_gap_s
        }
