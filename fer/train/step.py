"""One training step: augment, forward, loss, backward, update, average."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Callable

import tensorflow as tf

from fer.augment import policy
from fer.augment.draws import Draws
from fer.config import Experiment
from fer.data.pipeline import Batch
from fer.labels import CLASSES
from fer.models import dropout
from fer.train.state import State

AUGMENT, DROPOUT = 1, 2  # what the seed of a step is divided into


def smooth(targets: tf.Tensor, smoothing: float) -> tf.Tensor:
    """Moves a share of the probability to all classes alike (Szegedy et al. 2016, arXiv:1512.00567, section 7).

    Args:
      targets: [B, classes] float32, rows that sum to 1.
      smoothing: the share, in [0, 1).
    """
    return targets * (1 - smoothing) + smoothing / targets.shape[-1]


def augmented(batch: Batch, seed: tf.Tensor, experiment: Experiment, mix: bool) -> tuple[tf.Tensor, tf.Tensor]:
    """The batch as the model sees it.

    Args:
      batch: one replica's share.
      seed: [2] int32: the experiment's and the step's number.
      experiment: names the policy.
      mix: whether mixup and cutmix are in force.

    Returns:
      Images uint8 [B, 48, 48, 1] and targets float32 [B, 7], rows that sum to 1.
    """
    draws = Draws(seed, batch.positions, experiment.train.global_batch).salted(AUGMENT)
    augment = policy.augmenter(experiment.augment.policy, mix)
    return augment(batch.images, tf.one_hot(batch.labels, len(CLASSES)), draws)


def train_step(
    strategy: tf.distribute.Strategy, state: State, experiment: Experiment, mix: bool = True
) -> Callable[[Iterator[Batch]], None]:
    """The function that takes the next batch of every replica and makes one step.

    Losses are summed and divided by the global batch, so that replicas' gradients add up to those of one device.
    """
    train = experiment.train
    scaled = isinstance(state.optimizer, tf.keras.mixed_precision.LossScaleOptimizer)

    def replica_step(batch: Batch, seed: tf.Tensor) -> None:
        images, targets = augmented(batch, seed, experiment, mix)
        targets = smooth(targets, train.label_smoothing)
        masks = Draws(seed, batch.positions, train.global_batch).salted(DROPOUT)
        with tf.GradientTape() as tape, dropout.drawn_from(*masks):
            logits = state.model(images, training=True)
            losses = tf.nn.softmax_cross_entropy_with_logits(targets, logits)
            loss = tf.reduce_sum(losses) / train.global_batch
            objective = state.optimizer.get_scaled_loss(loss) if scaled else loss
        gradients = tape.gradient(objective, state.model.trainable_variables)
        if scaled:
            gradients = state.optimizer.get_unscaled_gradients(gradients)
        state.optimizer.apply_gradients(zip(gradients, state.model.trainable_variables))
        state.loss.update_state(losses)
        state.accuracy.update_state(tf.equal(tf.argmax(logits, -1, tf.int32), batch.labels))

    @tf.function
    def step(batches: Iterator[Batch]) -> None:
        seed = tf.stack([experiment.seed, tf.cast(state.step, tf.int32)])
        strategy.run(replica_step, args=(next(batches), seed))
        state.step.assign_add(1)
        if train.ema_decay:
            _move_average(strategy, state, train.ema_decay)

    return step


def _move_average(strategy: tf.distribute.Strategy, state: State, decay: float) -> None:
    """Moves every averaged weight towards the model's; faster at first, when the average still is random.

    The ramp (1 + step) / (10 + step) is that of tf.train.ExponentialMovingAverage.
    """
    step = tf.cast(state.step, tf.float32)
    towards = 1 - tf.minimum(decay, (1 + step) / (10 + step))
    for average, weight in zip(state.average.variables, state.model.variables):
        share = towards if weight.dtype.is_floating else tf.ones([], weight.dtype)  # counts are copied
        strategy.extended.update(
            average, lambda mean, value, share: mean.assign_add((value - mean) * share), args=(weight, share)
        )
