"""Fine-tuning phases: which variables are trained, at which share of the learning rate (layer-wise decay)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import tensorflow as tf

from fer.config import Experiment, FineTune
from fer.errors import UserError
from fer.models import layer_groups


class ParamGroup(NamedTuple):
    """A trained variable with its share of the learning rate, above 0 and at most 1."""

    variable: tf.Variable
    lr_scale: float
    frozen_steps: int = 0  # steps that the optimizer made before, while the variable was frozen


def set_phase(
    model: tf.keras.Model, experiment: Experiment, head_only: bool, steps_per_epoch: int = 0
) -> list[ParamGroup] | None:
    """Freezes the layers that a phase does not train. The phase's steps must be built after this call.

    Args:
      model: the classifier.
      experiment: its `finetune` is used.
      head_only: whether the phase trains the head alone.
      steps_per_epoch: of the run; converts `head_only_epochs` to steps.

    Returns:
      The trained variables with their shares of the learning rate, or None if all are trained at the full rate.

    Raises:
      UserError: `finetune.trainable_blocks` is larger than the number of the backbone's blocks.
    """
    settings = experiment.finetune
    if settings == FineTune():
        return None
    groups = layer_groups.groups(model, experiment.model)
    if settings.trainable_blocks >= len(groups):
        raise UserError(
            f"config.finetune.trainable_blocks is {settings.trainable_blocks}, but "
            f"{experiment.model.name} has {len(groups) - 1}; 0 means all."
        )
    below = 0 if head_only else settings.trainable_blocks or len(groups) - 1
    layer_groups.set_trainable(model, experiment.model, groups[-1 - below].name, not settings.freeze_batch_norm)
    depths = {variable.ref(): group.depth for group in groups for variable in group.variables}
    head_steps = settings.head_only_epochs * steps_per_epoch

    def make_group(variable: tf.Variable) -> ParamGroup:
        depth = depths[variable.ref()]
        return ParamGroup(variable, settings.layer_decay**depth, head_steps if depth else 0)

    return [make_group(variable) for variable in model.trainable_variables]


@contextlib.contextmanager
def scaled_updates(
    strategy: tf.distribute.Strategy, param_groups: Sequence[ParamGroup], optimizer: tf.keras.optimizers.Optimizer
) -> Iterator[None]:
    """Scales the update that is made within the context, for each variable by its share of the learning rate.

    An optimizer's update is proportional to the learning rate, weight decay included, so that scaling the update is
    the same as a learning rate per variable. The exception is Lookahead, which has weights of its own; `fer.config`
    rejects it.

    Args:
      strategy: the variables were created in its scope; called in its cross-replica context.
      param_groups: the variables with their shares.
      optimizer: makes the update.
    """
    lengths = {group.frozen_steps for group in param_groups}
    corrections = {frozen_steps: moment_correction(optimizer, frozen_steps) for frozen_steps in lengths}
    scaled = [group for group in param_groups if group.lr_scale < 1 or corrections[group.frozen_steps] is not None]
    before = strategy.run(lambda: [tf.identity(group.variable) for group in scaled])
    yield
    for group, value in zip(scaled, before):
        correction = corrections[group.frozen_steps]
        share = group.lr_scale if correction is None else group.lr_scale * correction

        def move(weight: tf.Variable, value: tf.Tensor, share: float | tf.Tensor = share) -> tf.Operation:
            return weight.assign(value + share * (weight - value))

        strategy.extended.update(group.variable, move, args=(value,))


def moment_correction(optimizer: tf.keras.optimizers.Optimizer, frozen_steps: int) -> tf.Tensor | None:
    """Returns the factor of the next update of a variable that was frozen for an optimizer's first steps.

    Adam divides its moments, which start at zero, by 1 - beta^t, where t counts the optimizer's steps (Kingma and Ba
    2015, arXiv:1412.6980, algorithm 1). The moments of a variable that was frozen for `frozen_steps` of these steps
    are only k = t - frozen_steps steps old, so that its update would be several times too large for some hundred
    steps. The factor scales the whole update, so that the weight decay of these steps is smaller too.

    Returns:
      (sqrt(1 - beta2^k) / (1 - beta1^k)) / (sqrt(1 - beta2^t) / (1 - beta1^t)), or None if no correction is needed.
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if not frozen_steps or not isinstance(inner, tf.keras.optimizers.AdamW):
        return None
    steps = tf.cast(optimizer.iterations + 1, tf.float32)

    def correction(age: tf.Tensor) -> tf.Tensor:
        return tf.sqrt(1 - tf.pow(inner.beta_2, age)) / (1 - tf.pow(inner.beta_1, age))

    return correction(tf.maximum(steps - frozen_steps, 1)) / correction(steps)
