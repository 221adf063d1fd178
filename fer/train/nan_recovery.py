"""Going back to a checkpoint when loss or weights are no numbers any more, and on without what led there.

Divergence is as much the batches' doing as the step's at which it shows, and a run that is repeated exactly would
meet it again. So all batches between the checkpoint and the fault are left out: from there on, step s takes the batch
that step s + (their number) would have taken. (Chowdhery et al. 2022, arXiv:2204.02311, section 5.1, mend spikes of
the loss so.) A fault that comes again before the next checkpoint leaves out more. What was left out is part of each
later checkpoint, and where a run goes back to does not depend on where it was stopped in between, so that a run that is
killed ends with the same weights here too.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from fer.errors import UserError
from fer.train import checkpoints

MAX_ROLLBACKS = 3  # in a run: what does not mend it in three does not mend it


class Rollback(NamedTuple):
    """One of them."""

    step: int  # whose loss or weights were no numbers
    to: int  # the step of the checkpoint from which the run went on


def parse_rollbacks(extra: list[list[int]]) -> list[Rollback]:
    """What a checkpoint holds of them."""
    return [Rollback(*each) for each in extra]


def count_skipped_batches(rollbacks: list[Rollback]) -> int:
    """Batches that were left out in all."""
    return sum(each.step - each.to for each in rollbacks)


def rollback_records(rollbacks: list[Rollback]) -> list[dict[str, Any]]:
    """As rollbacks.json holds them."""
    return [{**each._asdict(), "batches_left_out": each.step - each.to} for each in rollbacks]


def is_planned(step: int, every: int, epoch_steps: int) -> bool:
    """Whether a run that is never stopped has a checkpoint of this step; arguments as for `back`."""
    return step % every == 0 or step % epoch_steps == 0


def roll_back(folder: str, rollbacks: list[Rollback], step: int, every: int, epoch_steps: int) -> Rollback:
    """Where a run goes back to from a fault at `step`; the checkpoints after that are removed.

    Args:
      folder: of the checkpoints.
      rollbacks: those before.
      step: at fault.
      every: steps between two checkpoints; epoch_steps: those of an epoch, which ends with one too. Those that a stop
        made elsewhere are passed over.

    Raises:
      UserError: there were `MOST` already, or there is no checkpoint.
    """
    if len(rollbacks) >= MAX_ROLLBACKS:
        raise UserError(
            f"Loss or weights are no numbers any more at step {step}, after {MAX_ROLLBACKS} rollbacks; the last "
            "checkpoint is kept. Lower config.optimizer.learning_rate or set clip_norm, with another --workdir."
        )
    found = checkpoints.list_steps(folder)
    planned = [each for each in found if is_planned(each, every, epoch_steps)]
    if not found:
        raise UserError(f"Loss or weights are no numbers any more at step {step}, and {folder} holds no checkpoint.")
    to = (planned or found)[-1]
    checkpoints.remove_after(folder, to)
    return Rollback(step, to)
