"""Sees the first step whose loss or gradient is no number."""

from __future__ import annotations

import numpy as np

from fer.train.train_step import Done


class NotANumber(Exception):  # noqa: N818  what is done about it, the config decides
    """Of loss or weights, at a step."""

    def __init__(self, step: int):
        super().__init__(f"step {step}")
        self.step = step


class Watch:
    """Keeps what steps told until somebody looks: a look waits for the device, keeping does not.

    Args:
      scales: whether losses are scaled: then a gradient that overflows is skipped and is no fault.
    """

    def __init__(self, scales: bool):
        self._scales = scales
        self._told: list[tuple[int, Done]] = []

    def told(self, after: int, done: Done) -> None:
        """The steps that follow step `after` told this, in their order."""
        self._told.append((after, done))

    def look(self) -> None:
        """Looks at what was told since the last look.

        Raises:
          NotANumber: names the first step at fault, counted from 1.
        """
        told, self._told = self._told, []
        for after, done in told:
            sound = np.isfinite(np.atleast_1d(done.loss))
            if not self._scales:
                sound &= np.isfinite(np.atleast_1d(done.gradient_norm))
            if not sound.all():
                raise NotANumber(after + 1 + int(np.argmin(sound)))
