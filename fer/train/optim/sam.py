"""Sharpness-aware minimization, SAM (Foret et al. 2021, arXiv:2010.01412)."""

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
    """Moves the trained weights w to w + rho * g / |g| (equation 2 with p = 2) and restores w afterwards.

    The gradient g is that of the global batch, so that the perturbation does not depend on the number of replicas.
    Variables that a forward pass changes (BatchNormalization's statistics) are restored too. If the gradient
    overflowed under loss scaling, the weights are not perturbed: the step is skipped in any case.

    Args:
      strategy: the model was created in its scope; called in its cross-replica context.
      model: the model.
      trained: the variables of the model that are perturbed.
      gradients: of each trained variable, on each replica, summed over replicas.
      rho: norm of the perturbation, above 0.
    """
    variables = model.variables

    def perturbation(gradients: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        norm = tf.linalg.global_norm(gradients)
        scale = tf.math.divide_no_nan(rho, norm)
        finite = tf.math.is_finite(norm)
        return [tf.where(finite, gradient * scale, tf.zeros_like(gradient)) for gradient in gradients]

    before = strategy.run(lambda: [tf.identity(variable) for variable in variables])
    offsets = strategy.run(perturbation, args=(gradients,))
    for variable, offset in zip(trained, offsets):
        strategy.extended.update(variable, lambda weight, offset: weight.assign_add(offset), args=(offset,))
    yield
    for variable, value in zip(variables, before):
        strategy.extended.update(variable, lambda weight, value: weight.assign(value), args=(value,))
