"""Sharpness-aware minimisation (Foret et al. 2021, arXiv:2010.01412): gradients from where nearby loss is highest."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import tensorflow as tf


@contextlib.contextmanager
def sam_perturbation(
    strategy: tf.distribute.Strategy,
    model: tf.keras.Model,
    trained: Sequence[tf.Variable],
    gradients: Sequence[tf.Tensor],
    rho: float,
) -> Iterator[None]:
    """Within it, the trained weights stand at w + rho * g / |g| (equation 2 with p = 2); afterwards at w again.

    The gradient is that of the whole global batch, so replicas do not change where the weights climb to. What a
    forward pass changes on the way (BatchNormalization's statistics) is put back too. A gradient that overflowed
    under loss scaling leaves the weights where they are: the step will be skipped in any case.

    Args:
      strategy: in whose scope the model was made; called in its cross-replica context.
      model: whose weights climb.
      trained: those of them that do.
      gradients: of each trained weight, on each replica, summed over replicas.
      rho: how far to climb, above 0.
    """
    variables = model.variables

    def climb(gradients: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        norm = tf.linalg.global_norm(gradients)
        share = tf.math.divide_no_nan(rho, norm)
        usable = tf.math.is_finite(norm)
        return [tf.where(usable, gradient * share, tf.zeros_like(gradient)) for gradient in gradients]

    before = strategy.run(lambda: [tf.identity(variable) for variable in variables])
    steps = strategy.run(climb, args=(gradients,))
    for variable, up in zip(trained, steps):
        strategy.extended.update(variable, lambda weight, up: weight.assign_add(up), args=(up,))
    yield
    for variable, value in zip(variables, before):
        strategy.extended.update(variable, lambda weight, value: weight.assign(value), args=(value,))
