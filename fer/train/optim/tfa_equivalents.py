"""LAMB and rectified Adam with Lookahead, for installations without TensorFlow Addons (TensorFlow 2.21).

Updates, defaults and variables are those of TensorFlow Addons 0.23: the results agree to float32 rounding, and a
checkpoint of one implementation resumes with the other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import tensorflow as tf

Coefficients = dict[str, tf.Tensor]
Norm = Callable[[tf.Tensor], tf.Tensor]


def make_lamb(
    schedule: tf.keras.optimizers.schedules.LearningRateSchedule, decay: float, no_decay: list[str], clip: float
) -> tf.keras.optimizers.legacy.Optimizer:
    """Makes LAMB. Arguments as for `tfa.make_lamb`."""
    return Lamb(schedule, decay, no_decay, clip)


def make_radam_lookahead(
    schedule: tf.keras.optimizers.schedules.LearningRateSchedule, decay: float, no_decay: list[str], clip: float
) -> tf.keras.optimizers.legacy.Optimizer:
    """Makes rectified Adam in Lookahead. Arguments as for `tfa.make_lamb`."""
    return Lookahead(RectifiedAdam(schedule, decay, no_decay), clip)


class _Optimizer(tf.keras.optimizers.legacy.Optimizer):
    """Updates by a function of tensors, which `packed` calls for all variables together."""

    def _is_excluded(self, variable: tf.Variable) -> bool:
        """Returns whether a variable has neither weight decay nor a trust ratio."""
        raise NotImplementedError

    def _get_slots(self, variable: tf.Variable) -> list[tf.Variable]:
        """Returns the variables that belong to a trained one, in the order of `_compute`."""
        raise NotImplementedError

    def _compute(
        self, value: tf.Tensor, grad: tf.Tensor, slots: Sequence[tf.Tensor], coefficients: Coefficients, norm: Norm
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Computes a step.

        Args:
          value: of one variable, or of several.
          grad: its gradient.
          slots: the values of `_get_slots`.
          coefficients: scalars; and `included`, 0 for excluded variables, else 1.
          norm: returns the norm of a tensor like `value`, for each variable.

        Returns:
          The new value, and those of the slots.
        """
        raise NotImplementedError

    def _get_coefficients(self, variable: tf.Variable, apply_state: dict | None) -> Coefficients:
        """Returns the scalars of a step, which Keras computes once for each device."""
        key = variable.device, variable.dtype.base_dtype
        return (apply_state or {}).get(key) or self._fallback_apply_state(*key)

    def _resource_apply_dense(
        self, grad: tf.Tensor, var: tf.Variable, apply_state: dict | None = None
    ) -> tf.Operation | tf.Tensor:
        variables = [var, *self._get_slots(var)]
        coefficients = {**self._get_coefficients(var, apply_state), "included": float(not self._is_excluded(var))}
        value, *slots = map(tf.identity, variables)
        value, slots = self._compute(value, grad, slots, coefficients, tf.norm)
        return tf.group(*(variable.assign(new) for variable, new in zip(variables, [value, *slots])))


class _AdamBase(_Optimizer):
    """Moment estimates of Adam, in the slots `m` and `v`, and the selection of variables by name."""

    def __init__(
        self,
        schedule: tf.keras.optimizers.schedules.LearningRateSchedule,
        no_decay: Sequence[str],
        clip: float,
        scalars: dict[str, float],
    ):
        """Creates the optimizer.

        Args:
          schedule: of the learning rate.
          no_decay: patterns of the names of excluded variables.
          clip: norm to which the global gradient is clipped; 0 does not clip.
          scalars: hyperparameters that are variables of a checkpoint, besides the two of the moments.
        """
        super().__init__(type(self).__name__, **({"global_clipnorm": clip} if clip else {}))
        self.no_decay = no_decay
        self._set_hyper("learning_rate", schedule)
        for name, value in {"beta_1": 0.9, "beta_2": 0.999, "decay": 0.0, **scalars}.items():
            self._set_hyper(name, value)

    def _create_slots(self, var_list: Sequence[tf.Variable]) -> None:
        for variable in var_list:
            self.add_slot(variable, "m")
            self.add_slot(variable, "v")

    def _get_slots(self, variable: tf.Variable) -> list[tf.Variable]:
        return [self.get_slot(variable, name) for name in ("m", "v")]

    def _is_excluded(self, variable: tf.Variable) -> bool:
        return any(re.search(pattern, variable.name) for pattern in self.no_decay)

    def _prepare_local(self, var_device: str, var_dtype: tf.DType, apply_state: dict) -> None:
        super()._prepare_local(var_device, var_dtype, apply_state)  # the learning rate `lr_t`
        step = tf.cast(self.iterations + 1, var_dtype)
        betas = {name: self._get_hyper(name, var_dtype) for name in ("beta_1", "beta_2")}
        powers = {f"{name}_power": tf.pow(beta, step) for name, beta in betas.items()}
        apply_state[var_device, var_dtype].update(step=step, **betas, **powers)

    @staticmethod
    def _move_moments(
        moments: Sequence[tf.Tensor], grad: tf.Tensor, coefficients: Coefficients
    ) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """Returns the moments after a gradient, and these corrected for their start at 0."""
        moved, corrected = [], []
        for moment, beta, value in zip(moments, ("beta_1", "beta_2"), (grad, tf.square(grad))):
            moved.append(coefficients[beta] * moment + (1 - coefficients[beta]) * value)
            corrected.append(moved[-1] / (1 - coefficients[f"{beta}_power"]))
        return moved, corrected


class Lamb(_AdamBase):
    """LAMB (You et al. 2020, arXiv:1904.00962, algorithm 2): Adam, scaled by the trust ratio of each variable.

    The trust ratio is the norm of the weights divided by the norm of the update.
    """

    EPSILON = 1e-6

    def __init__(
        self,
        schedule: tf.keras.optimizers.schedules.LearningRateSchedule,
        decay: float,
        no_decay: Sequence[str],
        clip: float,
    ):
        super().__init__(schedule, no_decay, clip, {"weight_decay": decay})

    def _compute(
        self, value: tf.Tensor, grad: tf.Tensor, slots: Sequence[tf.Tensor], coefficients: Coefficients, norm: Norm
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        slots, (mean, square) = self._move_moments(slots, grad, coefficients)
        included = coefficients["included"]
        update = (
            mean / (tf.sqrt(square) + self.EPSILON) + self._get_hyper("weight_decay", value.dtype) * included * value
        )
        weight_norm, update_norm = norm(value), norm(update)
        adapts = (weight_norm * included > 0) & (update_norm > 0)
        rate = coefficients["lr_t"] * tf.where(adapts, weight_norm / update_norm, 1.0)
        return value - rate * update, slots


class RectifiedAdam(_AdamBase):
    """Rectified Adam (Liu et al. 2020, arXiv:1908.03265, algorithm 2) with decoupled weight decay.

    Adam whose step is scaled for the variance of the second moment; without the second moment in the first steps.
    """

    EPSILON = 1e-7
    THRESHOLD = 5.0  # length of the approximated moving average from which the step is rectified; the paper has 4

    def __init__(
        self,
        schedule: tf.keras.optimizers.schedules.LearningRateSchedule,
        decay: float,
        no_decay: Sequence[str],
    ):
        # Variables that Addons' checkpoints have and its update does not use, besides the threshold.
        scalars = {"sma_threshold": self.THRESHOLD, "total_steps": 0.0, "warmup_proportion": 0.1, "min_lr": 0.0}
        # Addons' weight decay is a schedule, which is no variable, or 0.
        super().__init__(schedule, no_decay, 0.0, scalars if decay else {**scalars, "weight_decay": 0.0})
        self.decoupled_decay = decay

    def _prepare_local(self, var_device: str, var_dtype: tf.DType, apply_state: dict) -> None:
        super()._prepare_local(var_device, var_dtype, apply_state)
        coefficients = apply_state[var_device, var_dtype]
        power = coefficients["beta_2_power"]
        longest = 2 / (1 - coefficients["beta_2"]) - 1
        length = longest - 2 * coefficients["step"] * power * (1 / (1 - power))
        factor = tf.sqrt((length - 4) / (longest - 4) * (length - 2) / (longest - 2) * longest / length)
        coefficients.update(is_tractable=length >= self.THRESHOLD, rectification=factor)

    def _compute(
        self, value: tf.Tensor, grad: tf.Tensor, slots: Sequence[tf.Tensor], coefficients: Coefficients, norm: Norm
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        rate = coefficients["lr_t"]
        value -= rate * self.decoupled_decay * coefficients["included"] * value
        slots, (mean, square) = self._move_moments(slots, grad, coefficients)
        rectified = coefficients["rectification"] * mean / (tf.sqrt(square) + self.EPSILON)
        return value - rate * tf.where(coefficients["is_tractable"], rectified, mean), slots


class Lookahead(_Optimizer):
    """Lookahead (Zhang et al. 2019, arXiv:1907.08610, algorithm 1).

    Every `PERIOD` steps of the inner optimizer, slow weights (slot `slow`) move `STEP_SIZE` of the way to the weights,
    which continue from there.
    """

    PERIOD, STEP_SIZE = 6, 0.5

    def __init__(self, inner: _AdamBase, clip: float):
        """Creates the optimizer. The global gradient is clipped here: the inner optimizer only updates variables."""
        super().__init__("Lookahead", **({"global_clipnorm": clip} if clip else {}))
        self.inner = inner
        self._track_trackable(inner, "lh_base_optimizer")

    @property
    def learning_rate(self) -> tf.keras.optimizers.schedules.LearningRateSchedule:
        """Returns the schedule of the inner optimizer."""
        return self.inner.learning_rate

    def _create_hypers(self) -> None:
        self.inner._iterations = self.iterations  # the steps of both, saved once
        self.inner._create_hypers()

    def _create_slots(self, var_list: Sequence[tf.Variable]) -> None:
        self.inner._create_slots(var_list)
        for variable in var_list:
            self.add_slot(variable, "slow", initializer=variable)

    def _get_slots(self, variable: tf.Variable) -> list[tf.Variable]:
        return [*self.inner._get_slots(variable), self.get_slot(variable, "slow")]

    def _is_excluded(self, variable: tf.Variable) -> bool:
        return self.inner._is_excluded(variable)

    def _prepare(self, var_list: Sequence[tf.Variable]) -> dict:
        return self.inner._prepare(var_list)

    def _compute(
        self, value: tf.Tensor, grad: tf.Tensor, slots: Sequence[tf.Tensor], coefficients: Coefficients, norm: Norm
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        *moments, slow = slots
        value, moments = self.inner._compute(value, grad, moments, coefficients, norm)
        is_sync = (self.iterations + 1) % self.PERIOD == 0
        moved = slow + self.STEP_SIZE * (value - slow)
        return tf.where(is_sync, moved, value), [*moments, tf.where(is_sync, moved, slow)]
