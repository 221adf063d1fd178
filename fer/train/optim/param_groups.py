"""What of a network is trained in which epoch, and how fast: head first, then blocks from the top, slower below."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import tensorflow as tf

from fer.config import Experiment, FineTune
from fer.errors import UserError
from fer.models import layer_groups


class ParamGroup(NamedTuple):
    """A variable that is trained, and its share of the learning rate, above 0 and at most 1."""

    variable: tf.Variable
    lr_scale: float
    since: int = 0  # steps that the optimizer made before, while the variable was frozen


def set_phase(
    model: tf.keras.Model, experiment: Experiment, head_only: bool, steps_per_epoch: int = 0
) -> list[ParamGroup] | None:
    """Freezes what a phase leaves alone. Steps of the phase are to be built after this, before the next phase.

    Args:
      model: the classifier.
      experiment: its `finetune`.
      head_only: whether the phase trains the head alone.
      steps_per_epoch: of the run, by which `head_epochs` are counted.

    Returns:
      What is trained and how fast, or None where everything is trained alike.

    Raises:
      UserError: more blocks are asked for than the backbone has.
    """
    settings = experiment.finetune
    if settings == FineTune():
        return None
    groups = layer_groups.groups(model, experiment.model)
    if settings.blocks >= len(groups):
        raise UserError(
            f"config.finetune.blocks is {settings.blocks}, but {experiment.model.name} has {len(groups) - 1}; "
            "0 means all."
        )
    below = 0 if head_only else settings.blocks or len(groups) - 1
    layer_groups.set_trainable(model, experiment.model, groups[-1 - below].name, not settings.freeze_batch_norm)
    depths = {variable.ref(): group.depth for group in groups for variable in group.variables}
    thawed = settings.head_epochs * steps_per_epoch

    def rate(variable: tf.Variable) -> ParamGroup:
        depth = depths[variable.ref()]
        return ParamGroup(variable, settings.layer_decay**depth, thawed if depth else 0)

    return [rate(variable) for variable in model.trainable_variables]


@contextlib.contextmanager
def scaled_updates(
    strategy: tf.distribute.Strategy, rates: Sequence[ParamGroup], optimizer: tf.keras.optimizers.Optimizer
) -> Iterator[None]:
    """Within it, an update moves each variable by its share only.

    An optimizer's update is proportional to the learning rate, weight decay included, so this is as if each
    variable had a rate of its own. (Not so Lookahead's, which keeps weights of its own; see `fer.config`.)

    Args:
      strategy: in whose scope the variables were made; called in its cross-replica context.
      rates: of the variables.
      optimizer: which makes the update.
    """
    factors = {since: moment_correction(optimizer, since) for since in {rate.since for rate in rates}}
    slower = [rate for rate in rates if rate.lr_scale < 1 or factors[rate.since] is not None]
    before = strategy.run(lambda: [tf.identity(rate.variable) for rate in slower])
    yield
    for rate, value in zip(slower, before):
        factor = factors[rate.since]
        share = rate.lr_scale if factor is None else rate.lr_scale * factor

        def move(weight: tf.Variable, value: tf.Tensor, share: float | tf.Tensor = share) -> tf.Operation:
            return weight.assign(value + share * (weight - value))

        strategy.extended.update(rate.variable, move, args=(value,))


def moment_correction(optimizer: tf.keras.optimizers.Optimizer, since: int) -> tf.Tensor | None:
    """By what the next update of a variable is to be multiplied that was frozen for an optimizer's first steps.

    Adam divides its moments, which begin at zero, by 1 - beta^t, where t counts the optimizer's steps (Kingma and Ba
    2015, arXiv:1412.6980, algorithm 1). Those of a variable that was frozen for `since` of them are k = t - since
    steps old, so that the update would be too large, several times over for some hundred steps. The whole update is
    scaled, weight decay too, of which these steps therefore make less.

    Returns:
      (sqrt(1 - beta2^k) / (1 - beta1^k)) / (sqrt(1 - beta2^t) / (1 - beta1^t)); None where nothing is to be corrected.
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if not since or not isinstance(inner, tf.keras.optimizers.AdamW):
        return None
    steps = tf.cast(optimizer.iterations + 1, tf.float32)

    def correction(age: tf.Tensor) -> tf.Tensor:
        return tf.sqrt(1 - tf.pow(inner.beta_2, age)) / (1 - tf.pow(inner.beta_1, age))

    return correction(tf.maximum(steps - since, 1)) / correction(steps)
