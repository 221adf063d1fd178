"""Detection of NaN or infinite losses and gradients, and the rollback to a checkpoint.

Divergence depends on the batches as much as on the step at which it shows, and an exact repetition of the run would
diverge again. So all batches between the checkpoint and the failed step are skipped: from there on, step s takes the
batch that step s + (number of skipped batches) would have taken. Chowdhery et al. 2022 (arXiv:2204.02311, section 5.1)
handle loss spikes in this way. If a step fails again before the next checkpoint, more batches are skipped. The skipped
batches are part of each later checkpoint, and the checkpoint that a run returns to does not depend on where the run
was interrupted. A killed run therefore ends with the same weights here too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fer.errors import UserError
from fer.run_dir import Rollback
from fer.train import checkpoints
from fer.train.train_step import StepMetrics

MAX_ROLLBACKS = 3  # in a run; a run that fails again after three rollbacks is given up


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


def count_skipped_batches(rollbacks: Sequence[Rollback]) -> int:
    """Returns the number of batches that all rollbacks together skip."""
    return sum(each.step - each.to for each in rollbacks)


def is_planned(step: int, every: int, epoch_steps: int) -> bool:
    """Returns whether an uninterrupted run has a checkpoint of this step; arguments as for `roll_back`."""
    return step % every == 0 or step % epoch_steps == 0


def roll_back(folder: str, rollbacks: Sequence[Rollback], step: int, every: int, epoch_steps: int) -> Rollback:
    """Selects the checkpoint to return to after a failure at `step`, and removes later checkpoints.

    Checkpoints that only an interruption made are passed over, unless there are no others.

    Args:
      folder: of the checkpoints.
      rollbacks: the earlier ones.
      step: the one that failed.
      every: steps between two checkpoints.
      epoch_steps: steps of an epoch, which ends with a checkpoint too.

    Raises:
      UserError: there were `MAX_ROLLBACKS` already, or there is no checkpoint.
    """
    if len(rollbacks) >= MAX_ROLLBACKS:
        raise UserError(
            f"Loss or weights became NaN or infinite at step {step}, after {MAX_ROLLBACKS} rollbacks. Lower "
            "config.optimizer.learning_rate or set config.optimizer.grad_clip_norm, and choose another --workdir. The "
            "last checkpoint is unchanged."
        )
    steps = checkpoints.list_steps(folder)
    planned = [each for each in steps if is_planned(each, every, epoch_steps)]
    if not steps:
        raise UserError(f"Loss or weights became NaN or infinite at step {step}, and {folder} holds no checkpoint.")
    to = (planned or steps)[-1]
    checkpoints.remove_after(folder, to)
    return Rollback(step, to)
