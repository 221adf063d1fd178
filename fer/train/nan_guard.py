"""Detection of the first step with a loss or a gradient that is NaN or infinite."""

from __future__ import annotations

import numpy as np

from fer.train.train_step import StepMetrics


class NonFiniteError(Exception):
    """A loss or weights that became NaN or infinite at a step."""

    def __init__(self, step: int):
        super().__init__(f"Loss or weights became NaN or infinite at step {step}.")
        self.step = step


class NanGuard:
    """Records the metrics of steps and checks them later: a check waits for the device, `record` does not.

    Args:
      scales: whether losses are scaled. If so, an update whose gradient overflows is skipped and is no error.
    """

    def __init__(self, scales: bool):
        self._scales = scales
        self._recorded: list[tuple[int, StepMetrics]] = []

    def record(self, after: int, metrics: StepMetrics) -> None:
        """Records the metrics, in order, of the steps that follow step `after`."""
        self._recorded.append((after, metrics))

    def check(self) -> None:
        """Checks the metrics recorded since the last check.

        Raises:
          NonFiniteError: names the first step with a loss or a gradient that is NaN or infinite, counted from 1.
        """
        recorded, self._recorded = self._recorded, []
        for after, metrics in recorded:
            finite = np.isfinite(np.atleast_1d(metrics.loss))
            if not self._scales:
                finite &= np.isfinite(np.atleast_1d(metrics.gradient_norm))
            if not finite.all():
                raise NonFiniteError(after + 1 + int(np.argmin(finite)))
