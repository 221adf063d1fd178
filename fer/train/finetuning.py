"""What of a network is trained in which epoch, and how fast: head first, then blocks from the top, slower below."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import tensorflow as tf

from fer.config import Experiment, FineTune
from fer.errors import UserError
from fer.models import finetuning


class Rate(NamedTuple):
    """A variable that is trained, and its share of the learning rate, above 0 and at most 1."""

    variable: tf.Variable
    share: float


def begin(model: tf.keras.Model, experiment: Experiment, head_only: bool) -> list[Rate] | None:
    """Freezes what a phase leaves alone. Steps of the phase are to be built after this, before the next phase.

    Args:
      model: the classifier.
      experiment: its `finetune`.
      head_only: whether the phase trains the head alone.

    Returns:
      What is trained and how fast, or None where everything is trained alike.

    Raises:
      UserError: more blocks are asked for than the backbone has.
    """
    settings = experiment.finetune
    if settings == FineTune():
        return None
    groups = finetuning.groups(model, experiment.model)
    if settings.blocks >= len(groups):
        raise UserError(
            f"config.finetune.blocks is {settings.blocks}, but {experiment.model.name} has {len(groups) - 1}; "
            "0 means all."
        )
    below = 0 if head_only else settings.blocks or len(groups) - 1
    finetuning.set_trainable(model, experiment.model, groups[-1 - below].name, not settings.freeze_batch_norm)
    shares = {variable.ref(): settings.layer_decay**group.depth for group in groups for variable in group.variables}
    return [Rate(variable, shares[variable.ref()]) for variable in model.trainable_variables]


@contextlib.contextmanager
def slowed(strategy: tf.distribute.Strategy, rates: Sequence[Rate]) -> Iterator[None]:
    """Within it, an update moves each variable by its share only.

    An optimizer's update is proportional to the learning rate, weight decay included, so this is as if each
    variable had a rate of its own, with any optimizer.

    Args:
      strategy: in whose scope the variables were made; called in its cross-replica context.
      rates: the variables whose share is below 1.
    """
    before = strategy.run(lambda: [tf.identity(rate.variable) for rate in rates])
    yield
    for (variable, share), value in zip(rates, before):

        def move(weight: tf.Variable, value: tf.Tensor, share: float = share) -> tf.Operation:
            return weight.assign(value + share * (weight - value))

        strategy.extended.update(variable, move, args=(value,))
