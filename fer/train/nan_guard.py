"""Sees the first step whose loss or gradient is no number."""

from __future__ import annotations

import numpy as np

from fer.train.train_step import StepMetrics


class NonFiniteError(Exception):
    """Of loss or weights, at a step."""

    def __init__(self, step: int):
        super().__init__(f"step {step}")
        self.step = step


class NanGuard:
    """Keeps what steps told until somebody looks: a look waits for the device, keeping does not.

    Args:
      scales: whether losses are scaled: then a gradient that overflows is skipped and is no fault.
    """

    def __init__(self, scales: bool):
        self._scales = scales
        self._told: list[tuple[int, StepMetrics]] = []

    def record(self, after: int, done: StepMetrics) -> None:
        """The steps that follow step `after` told this, in their order."""
        self._told.append((after, done))

    def check(self) -> None:
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
                raise NonFiniteError(after + 1 + int(np.argmin(sound)))
