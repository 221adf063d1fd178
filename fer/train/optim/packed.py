"""Optimizers and moving average that update all variables as one vector: a few large kernels of a GPU.

Keras updates each variable by ops of its own, thousands of launches for a network of some hundred variables. Here the
variables are concatenated, updated and split, with the results of Keras' optimizers and of `tfa_equivalents` but for
the order of sums. On a CPU the copies cost more than they save.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from fer.train.optim import tfa_equivalents

ROW = 1024  # elements of a row of `_PackedRows`
Tensors = Sequence[tf.Tensor | tf.Variable]


def pack(tensors: Tensors) -> tf.Tensor:
    """Concatenates tensors of any shapes to one vector."""
    return tf.concat([tf.reshape(each, [-1]) for each in tensors], 0)


def assign(variables: Sequence[tf.Variable], packed: tf.Tensor) -> None:
    """Assigns the parts of a vector to the variables that `pack` made it from."""
    parts = tf.split(packed, [variable.shape.num_elements() for variable in variables])
    for variable, part in zip(variables, parts):
        variable.assign(tf.reshape(part, variable.shape))


def update_ema(
    strategy: tf.distribute.Strategy, pairs: Sequence[tuple[tf.Variable, tf.Variable]], rate: tf.Tensor
) -> None:
    """Moves the first variable of each pair towards the second by the share `rate`; called in cross-replica context."""
    averages, weights = zip(*pairs)

    def move(first: tf.Variable, rate: tf.Tensor) -> None:
        means = pack(averages)
        assign(averages, means + (pack(weights) - means) * rate)

    strategy.extended.update(averages[0], move, args=(rate,), group=False)


class _PackedUpdate:
    """Replaces the loops of a Keras optimizer over its variables."""

    def _clip_gradients(self: Any, gradients: Tensors) -> Tensors:
        return gradients  # clipped in `_update`

    def _apply_weight_decay(self: Any, variables: Sequence[tf.Variable]) -> None:
        pass  # applied in `_update`

    def _distributed_apply_gradients_fn(
        self: Any, distribution: tf.distribute.Strategy, pairs: Sequence[tuple[tf.Tensor, tf.Variable]], **_: Any
    ) -> tf.Tensor:
        decayed = [pair for pair in pairs if self.weight_decay and self._use_weight_decay(pair[1])]
        others = [pair for pair in pairs if not (self.weight_decay and self._use_weight_decay(pair[1]))]
        gradients, variables = zip(*decayed, *others)
        num_decayed = sum(variable.shape.num_elements() for _, variable in decayed)

        def update(first: tf.Variable, gradients: Tensors) -> None:
            self._update(variables, gradients, num_decayed)

        distribution.extended.update(variables[0], update, args=(gradients,), group=False)
        return self.iterations.assign_add(1)

    def _update(self: Any, variables: Sequence[tf.Variable], gradients: Tensors, num_decayed: int) -> None:
        """Updates variables on one replica, of which the first, with `num_decayed` elements, have weight decay."""
        gradient, values, rate = pack(gradients), pack(variables), self.learning_rate
        if self.global_clipnorm:
            (gradient,), _ = tf.clip_by_global_norm([gradient], self.global_clipnorm)
        if num_decayed:
            decayed = values[:num_decayed]
            values = tf.concat([decayed - decayed * self.weight_decay * rate, values[num_decayed:]], 0)
        places = [self._index_dict[self._var_key(variable)] for variable in variables]
        slots = [[slot[place] for place in places] for slot in self._slots()]
        values, moments = self._step(values, gradient, rate, [pack(each) for each in slots])
        for own, new in zip([variables, *slots], [values, *moments]):
            assign(own, new)


class SGD(_PackedUpdate, tf.keras.optimizers.SGD):
    """SGD with Nesterov momentum."""

    def _slots(self) -> list[list[tf.Variable]]:
        return [self.momentums]

    def _step(
        self, values: tf.Tensor, gradient: tf.Tensor, rate: tf.Tensor, moments: list[tf.Tensor]
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        (momentum,) = moments
        momentum = -gradient * rate + momentum * self.momentum
        return values + (-gradient * rate + momentum * self.momentum), [momentum]


class AdamW(_PackedUpdate, tf.keras.optimizers.AdamW):
    """Adam with decoupled weight decay."""

    def _slots(self) -> list[list[tf.Variable]]:
        return [self._momentums, self._velocities]

    def _step(
        self, values: tf.Tensor, gradient: tf.Tensor, rate: tf.Tensor, moments: list[tf.Tensor]
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        step, (momentum, velocity) = tf.cast(self.iterations + 1, tf.float32), moments
        size = rate * tf.sqrt(1 - tf.pow(self.beta_2, step)) / (1 - tf.pow(self.beta_1, step))
        momentum += (gradient - momentum) * (1 - self.beta_1)
        velocity += (tf.square(gradient) - velocity) * (1 - self.beta_2)
        return values - momentum * size / (tf.sqrt(velocity) + self.epsilon), [momentum, velocity]


class _PackedRows:
    """Replaces the loop of an optimizer of `tfa_equivalents` over its variables.

    Each variable begins a row of a matrix and is padded with zeros to whole rows, so that norms of variables are sums
    over rows.
    """

    def _transform_gradients(self: Any, pairs: Sequence[tuple[tf.Tensor, tf.Variable]]) -> Sequence:
        return pairs  # clipped in `_update`

    def _distributed_apply(
        self: Any,
        distribution: tf.distribute.Strategy,
        pairs: Sequence[tuple[tf.Tensor, tf.Variable]],
        apply_state: dict,
        **_: Any,
    ) -> tf.Operation:
        gradients, variables = zip(*pairs)

        def update(first: tf.Variable, gradients: Tensors) -> None:
            self._update(variables, gradients, self._get_coefficients(first, apply_state))

        distribution.extended.update(variables[0], update, args=(gradients,), group=False)
        return self.iterations.assign_add(1, read_value=False)  # as where gradients overflow

    def _update(
        self: Any, variables: Sequence[tf.Variable], gradients: Tensors, coefficients: dict[str, tf.Tensor]
    ) -> None:
        """Updates variables on one replica."""
        owners = np.repeat(np.arange(len(variables)), [-(-each.shape.num_elements() // ROW) for each in variables])
        included = np.array([[not self._is_excluded(each)] for each in variables], np.float32)[owners]

        def norm(rows: tf.Tensor) -> tf.Tensor:
            sums = tf.reduce_sum(tf.square(rows), 1, keepdims=True)
            return tf.gather(tf.sqrt(tf.math.unsorted_segment_sum(sums, owners, len(variables))), owners)

        gradient = _pack_rows(gradients)
        if self.global_clipnorm:
            (gradient,), _ = tf.clip_by_global_norm([gradient], self.global_clipnorm)
        slots = list(zip(*map(self._get_slots, variables)))
        value, moments = self._compute(
            _pack_rows(variables), gradient, [*map(_pack_rows, slots)], {**coefficients, "included": included}, norm
        )
        for own, new in zip([variables, *slots], [value, *moments]):
            _assign_rows(own, new)


def _padding(tensor: tf.Tensor | tf.Variable) -> int:
    """Returns the number of zeros after a tensor in its last row."""
    return -tensor.shape.num_elements() % ROW


def _pack_rows(tensors: Tensors) -> tf.Tensor:
    """Concatenates tensors of any shapes, each padded to whole rows, to a matrix [rows, ROW]."""
    parts = [part for each in tensors for part in (tf.reshape(each, [-1]), tf.zeros([_padding(each)]))]
    return tf.reshape(tf.concat(parts, 0), [-1, ROW])


def _assign_rows(variables: Sequence[tf.Variable], rows: tf.Tensor) -> None:
    """Assigns the parts of a matrix to the variables that `_pack_rows` made it from."""
    sizes = [size for each in variables for size in (each.shape.num_elements(), _padding(each))]
    for variable, part in zip(variables, tf.split(tf.reshape(rows, [-1]), sizes)[::2]):
        variable.assign(tf.reshape(part, variable.shape))


class Lamb(_PackedRows, tfa_equivalents.Lamb):
    """LAMB."""


class Lookahead(_PackedRows, tfa_equivalents.Lookahead):
    """Lookahead."""


def make_lamb(
    schedule: tf.keras.optimizers.schedules.LearningRateSchedule, decay: float, no_decay: list[str], clip: float
) -> tf.keras.optimizers.legacy.Optimizer:
    """Makes LAMB. Arguments as for `tfa.make_lamb`."""
    return Lamb(schedule, decay, no_decay, clip)


def make_radam_lookahead(
    schedule: tf.keras.optimizers.schedules.LearningRateSchedule, decay: float, no_decay: list[str], clip: float
) -> tf.keras.optimizers.legacy.Optimizer:
    """Makes rectified Adam in Lookahead. Arguments as for `tfa.make_lamb`."""
    return Lookahead(tfa_equivalents.RectifiedAdam(schedule, decay, no_decay), clip)
