"""Optimizers and metrics of TensorFlow Addons: LAMB, rectified Adam with Lookahead, kappa, Matthews correlation.

This is the only file that imports Addons, and it does so in the functions. Where Addons is not installed, as with
TensorFlow 2.21, `tfa_equivalents` and `fer.evaluation.metrics` compute the same.
"""

from __future__ import annotations

import re
import types
import warnings

import numpy as np
import tensorflow as tf


def is_installed() -> bool:
    """Returns whether TensorFlow Addons can be imported."""
    try:
        _import_tfa()
    except ImportError:
        return False
    return True


def make_lamb(
    schedule: tf.keras.optimizers.schedules.LearningRateSchedule, decay: float, no_decay: list[str], clip: float
) -> tf.keras.optimizers.legacy.Optimizer:
    """Makes LAMB (You et al. 2020, arXiv:1904.00962), an optimizer for large global batches.

    Args:
      schedule: of the learning rate.
      decay: weight decay, part of the layer's trust ratio as in the paper.
      no_decay: patterns of the names of variables without weight decay and without the trust ratio.
      clip: norm to which the global gradient is clipped; 0 does not clip.
    """
    return _import_tfa().optimizers.LAMB(
        learning_rate=schedule,
        weight_decay=decay,
        exclude_from_weight_decay=no_decay,
        exclude_from_layer_adaptation=no_decay,
        **_clip_arguments(clip),
    )


def make_radam_lookahead(
    schedule: tf.keras.optimizers.schedules.LearningRateSchedule, decay: float, no_decay: list[str], clip: float
) -> tf.keras.optimizers.legacy.Optimizer:
    """Makes rectified Adam (Liu et al. 2020, arXiv:1908.03265) in Lookahead (Zhang et al. 2019, arXiv:1907.08610).

    Weight decay is decoupled from the gradient: learning rate times `decay` a step. Arguments as for `make_lamb`.
    """
    tfa = _import_tfa()
    base = tfa.optimizers.RectifiedAdam
    if not decay:
        return tfa.optimizers.Lookahead(base(learning_rate=schedule), **_clip_arguments(clip))
    decayed = tfa.optimizers.extend_with_decoupled_weight_decay(base)

    class Decayed(decayed):  # type: ignore[misc, valid-type]  # a class that Addons makes
        """Rectified Adam that selects the variables with weight decay by name.

        RectifiedAdam's own weight decay applies to every variable. The extension's list is filled by a method that
        Lookahead does not call, and it does not hold the variables of replicas.
        """

        def _do_use_weight_decay(self, variable: tf.Variable) -> bool:
            return not any(re.search(pattern, variable.name) for pattern in no_decay)

    # Lookahead clips: it does not call the inner optimizer's apply_gradients, which would.
    return tfa.optimizers.Lookahead(
        Decayed(_ScaledSchedule(schedule, decay), learning_rate=schedule), **_clip_arguments(clip)
    )


def cohen_kappa(confusion: np.ndarray) -> float:
    """Computes Cohen's kappa of [k, k] counts (rows true, columns predicted); NaN if all counts are in one cell."""
    metric = _import_tfa().metrics.CohenKappa(num_classes=len(confusion), sparse_labels=True, dtype=tf.float64)
    return _compute_metric(metric, confusion)


def matthews(confusion: np.ndarray) -> float:
    """Computes the Matthews correlation of [k, k] counts (rows true, columns predicted); 0 where it is undefined.

    In float64: Addons squares the number of examples, and in its default float32 squares beyond 4,096 are not exact.
    """
    metric = _import_tfa().metrics.MatthewsCorrelationCoefficient(num_classes=len(confusion), dtype=tf.float64)
    return _compute_metric(metric, confusion)


@tf.autograph.experimental.do_not_convert
def _compute_metric(metric: tf.keras.metrics.Metric, confusion: np.ndarray) -> float:
    """Computes a metric of a confusion matrix.

    The matrix is assigned to the metric directly. Its update_state would trace a function anew in every epoch, which
    takes longer than the rest of a short epoch.
    """
    metric.conf_mtx.assign(confusion)
    return float(metric.result())


class _ScaledSchedule(tf.keras.optimizers.schedules.LearningRateSchedule):
    """Product of a schedule and a constant."""

    def __init__(self, schedule: tf.keras.optimizers.schedules.LearningRateSchedule, factor: float):
        self.schedule, self.factor = schedule, factor

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        return self.schedule(step) * self.factor

    def get_config(self) -> dict:
        return {"schedule": self.schedule, "factor": self.factor}


def _clip_arguments(clip: float) -> dict[str, float]:
    return {"global_clipnorm": clip} if clip else {}


def _import_tfa() -> types.ModuleType:
    """Imports TensorFlow Addons, without its notice that its development has ended.

    Raises:
      ImportError: it is not installed, as with TensorFlow 2.21: Addons works with TensorFlow 2.15 at most.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tensorflow_addons
    return tensorflow_addons
