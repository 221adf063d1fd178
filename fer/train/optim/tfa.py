"""What TensorFlow Addons provides: LAMB, rectified Adam with Lookahead, Cohen's kappa and Matthews' correlation.

The only file that imports it. It is imported where it is asked for, so that everything else runs without it.
"""

from __future__ import annotations

import re
import types
import warnings

import numpy as np
import tensorflow as tf

from fer.errors import UserError


def make_lamb(
    rate: tf.keras.optimizers.schedules.LearningRateSchedule, decay: float, undecayed: list[str], clip: float
) -> tf.keras.optimizers.legacy.Optimizer:
    """LAMB (You et al. 2020, arXiv:1904.00962), made for large global batches.

    Args:
      rate: the learning rate.
      decay: weight decay, which enters the layer's trust ratio as in the paper.
      undecayed: patterns of the names of variables without decay and without the trust ratio.
      clip: norm to which the global gradient is clipped; 0 does not clip.
    """
    return _import_tfa().optimizers.LAMB(
        learning_rate=rate,
        weight_decay=decay,
        exclude_from_weight_decay=undecayed,
        exclude_from_layer_adaptation=undecayed,
        **_clip_arguments(clip),
    )


def make_radam_lookahead(
    rate: tf.keras.optimizers.schedules.LearningRateSchedule, decay: float, undecayed: list[str], clip: float
) -> tf.keras.optimizers.legacy.Optimizer:
    """Rectified Adam (Liu et al. 2020, arXiv:1908.03265) in Lookahead (Zhang et al. 2019, arXiv:1907.08610).

    Weights decay decoupled from the gradient, by rate times `decay` a step; arguments as for `lamb`.
    """
    tfa = _import_tfa()
    base = tfa.optimizers.RectifiedAdam
    if not decay:
        return tfa.optimizers.Lookahead(base(learning_rate=rate), **_clip_arguments(clip))
    decayed = tfa.optimizers.extend_with_decoupled_weight_decay(base)

    class Decayed(decayed):  # type: ignore[misc, valid-type]  # a class that Addons makes
        """Knows by name which variables decay.

        RectifiedAdam's own decay takes every variable along. The extension's list is filled by a method that
        Lookahead does not call, and holds no variable of a replica.
        """

        def _do_use_weight_decay(self, variable: tf.Variable) -> bool:
            return not any(re.search(pattern, variable.name) for pattern in undecayed)

    # Lookahead clips, not the optimizer in it, whose own apply_gradients it does not call.
    return tfa.optimizers.Lookahead(Decayed(_ScaledSchedule(rate, decay), learning_rate=rate), **_clip_arguments(clip))


def cohen_kappa(confusion: np.ndarray) -> float:
    """Cohen's kappa of [k, k] counts, rows true, columns predicted; NaN where all of them are in one cell."""
    metric = _import_tfa().metrics.CohenKappa(num_classes=len(confusion), sparse_labels=True, dtype=tf.float64)
    return _compute_metric(metric, confusion)


def matthews(confusion: np.ndarray) -> float:
    """Matthews' correlation of [k, k] counts, rows true, columns predicted; 0 where it is undefined.

    In Addons' default float32 it squares the number of examples, which beyond 4,096 of them is no longer exact.
    """
    metric = _import_tfa().metrics.MatthewsCorrelationCoefficient(num_classes=len(confusion), dtype=tf.float64)
    return _compute_metric(metric, confusion)


@tf.autograph.experimental.do_not_convert
def _compute_metric(metric: tf.keras.metrics.Metric, confusion: np.ndarray) -> float:
    """Computes a metric of a confusion matrix.

    The metric is given the matrix itself. To count labels and predictions into it, CohenKappa would trace a function
    anew in every epoch, which takes longer than the rest of a short one.
    """
    metric.conf_mtx.assign(confusion)
    return float(metric.result())


class _ScaledSchedule(tf.keras.optimizers.schedules.LearningRateSchedule):
    """Another schedule times a number."""

    def __init__(self, schedule: tf.keras.optimizers.schedules.LearningRateSchedule, factor: float):
        self.schedule, self.factor = schedule, factor

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        return self.schedule(step) * self.factor

    def get_config(self) -> dict:
        return {"schedule": self.schedule, "factor": self.factor}


def _clip_arguments(clip: float) -> dict[str, float]:
    return {"global_clipnorm": clip} if clip else {}


def _import_tfa() -> types.ModuleType:
    """TensorFlow Addons, without its notice that it is no longer developed.

    Raises:
      UserError: it is not installed, as beside TensorFlow 2.21: it imports on nothing newer than 2.15.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import tensorflow_addons
        except ImportError as error:
            raise UserError(
                "config.optimizer.name may be lamb or radam_lookahead only where tensorflow-addons is installed, which "
                "is beside TensorFlow 2.15 (Python 3.9 to 3.11); choose sgd or adamw."
            ) from error
    return tensorflow_addons
