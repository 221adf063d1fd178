"""One training step: augment, forward, loss, backward, update, average."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable, NamedTuple

import numpy as np
import tensorflow as tf

from fer import rng
from fer.augment import policy
from fer.config import Experiment
from fer.data.sampling import Batch
from fer.models import dropout, heads
from fer.train import distillation, soft_labels
from fer.train.distributed import replica_sync
from fer.train.optim import losses, optimizers, param_groups, sam
from fer.train.optim.param_groups import ParamGroup
from fer.train.train_state import TrainState

AUGMENT_STREAM, DROPOUT_STREAM = 1, 2  # what the seed of a step is divided into
SUM = tf.distribute.ReduceOp.SUM


class TrainInputs(NamedTuple):
    """What the network sees of one replica's share of a batch."""

    images: tf.Tensor  # [B, H, W, 1] uint8
    targets: tf.Tensor  # [B, 7] float32, rows that sum to 1
    labels: tf.Tensor  # [B] int32
    positions: tf.Tensor  # [B] int32, in the global batch


class StepMetrics(NamedTuple):
    """What a step tells: scalars."""

    loss: tf.Tensor  # over the global batch
    gradient_norm: tf.Tensor  # of the whole gradient, before clipping


def prepare_inputs(
    batch: Batch,
    seed: tf.Tensor,
    experiment: Experiment,
    mix: bool,
    labels_of_votes: soft_labels.VotePosterior | None = None,
) -> TrainInputs:
    """The batch as the model sees it.

    Args:
      batch: one replica's share.
      seed: [2] int32: the experiment's and the step's number.
      experiment: names the policy and the targets.
      mix: whether mixup and cutmix are in force.
      labels_of_votes: see `fer.train.soft_labels.soft_targets`.
    """
    draws = rng.BatchRng(seed, batch.positions, experiment.train.global_batch).fold_in(AUGMENT_STREAM)
    augment = policy.augmenter(experiment.augment.policy, mix, engine=experiment.augment.engine)
    wanted = soft_labels.soft_targets(batch.labels, batch.votes, experiment.train.targets, labels_of_votes)
    images, targets = augment(batch.images, wanted, draws)
    return TrainInputs(images, targets, batch.labels, batch.positions)


def make_train_step(
    strategy: tf.distribute.Strategy,
    state: TrainState,
    experiment: Experiment,
    mix: bool = True,
    weights: np.ndarray | None = None,
    rates: Sequence[ParamGroup] | None = None,
    teach: distillation.DistillFn | None = None,
    labels_of_votes: soft_labels.VotePosterior | None = None,
) -> Callable[[Batch], StepMetrics]:
    """Returns the function that makes one step on a batch of every replica, as `DeviceIterator` gives them.

    Losses are summed and divided by the global batch, so that replicas' gradients add up to those of one device.

    Args:
      strategy: in whose scope the state was made.
      state: what changes.
      experiment: all that decides how.
      mix: whether mixup and cutmix are in force.
      weights: float32 [7], the factor of each class's losses; a mixed target's is the mean of its classes'.
      rates: see `fer.train.optim.param_groups`: the variables that change, each with its share of the learning rate;
        None changes all that the model trains, at the full rate.
      teach: puts what teachers see in the augmented images into their targets; see `fer.train.distillation`.
      labels_of_votes: see `fer.train.soft_labels.soft_targets`.
    """
    trained = state.model.trainable_variables if rates is None else [rate.variable for rate in rates]

    def replica_inputs(batch: Batch, seed: tf.Tensor) -> TrainInputs:
        inputs = prepare_inputs(batch, seed, experiment, mix, labels_of_votes)
        return inputs._replace(targets=teach(inputs.images, inputs.targets)) if teach else inputs

    def replica_gradients(inputs: TrainInputs, seed: tf.Tensor, count: bool) -> tuple[list[tf.Tensor], tf.Tensor]:
        return compute_gradients(state, experiment, trained, weights, inputs, seed, count)

    def replica_update(found: list[tf.Tensor]) -> None:
        optimizers.apply_gradients(state.optimizer, found, trained)
        replica_sync.sync_bn_stats(state.model)

    @tf.function(autograph=False)
    def step(batch: Batch) -> StepMetrics:
        seed = rng.step_seed(experiment.seed, state.step)
        inputs = strategy.run(replica_inputs, args=(batch, seed))
        found, loss = strategy.run(replica_gradients, args=(inputs, seed, True))
        norm = strategy.run(tf.linalg.global_norm, args=(found,))
        if experiment.optimizer.sam_rho:
            with sam.sam_perturbation(strategy, state.model, trained, found, experiment.optimizer.sam_rho):
                found, _ = strategy.run(replica_gradients, args=(inputs, seed, False))
        with param_groups.scaled_updates(strategy, rates or (), state.optimizer):
            strategy.run(replica_update, args=(found,))
        state.step.assign_add(1)
        if experiment.train.ema_decay:
            _update_ema(strategy, state, experiment.train.ema_decay)
        return StepMetrics(*(strategy.experimental_local_results(told)[0] for told in (loss, norm)))  # alike on all

    return step


def compute_gradients(
    state: TrainState,
    experiment: Experiment,
    trained: Sequence[tf.Variable],
    weights: np.ndarray | None,
    inputs: TrainInputs,
    seed: tf.Tensor,
    count: bool,
) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Forward and backward on one replica, in `train.accumulation` parts, one after another.

    Args:
      state: whose model it is.
      experiment: the loss, the precision, the number of parts.
      trained: the variables whose gradients are wanted.
      weights: of each class in the loss, or None.
      inputs: this replica's share of the batch.
      seed: [2] int32, of the step.
      count: whether the losses enter the epoch's metrics.

    Returns:
      The gradients of the global batch's mean loss, and that loss: both summed over replicas, so alike on each.
    """
    parts = experiment.train.accumulation
    of_part = _make_gradient_fn(state, experiment, trained, weights, seed)
    if parts == 1:
        found, loss, right = of_part(inputs)
    else:
        size = inputs.images.shape[0] // parts

        def body(part: tf.Tensor, found: list[tf.Tensor], loss: tf.Tensor, right: tf.Tensor) -> tuple:
            more, share, hits = of_part(TrainInputs(*(tensor[part * size : (part + 1) * size] for tensor in inputs)))
            return part + 1, [each + other for each, other in zip(found, more)], loss + share, right + hits

        nothing = [tf.zeros(variable.shape, variable.dtype) for variable in trained]
        start = (tf.constant(0), nothing, tf.zeros([]), tf.zeros([]))
        _, found, loss, right = tf.while_loop(lambda part, *_: part < parts, body, start, parallel_iterations=1)
    *found, loss, right = tf.distribute.get_replica_context().all_reduce(SUM, [*found, loss, right])
    if count:
        batch = experiment.train.global_batch
        state.loss.update_state(loss, sample_weight=batch)
        state.accuracy.update_state(right / batch, sample_weight=batch)
    return found, loss


def _make_gradient_fn(
    state: TrainState,
    experiment: Experiment,
    trained: Sequence[tf.Variable],
    weights: np.ndarray | None,
    seed: tf.Tensor,
) -> Callable[[TrainInputs], tuple[list[tf.Tensor], tf.Tensor, tf.Tensor]]:
    """The function from one part of a replica's share to its gradients, its part of the loss, and how many are right.

    Gradients and loss are over the global batch: those of all parts and replicas add up to the batch's.
    """
    train = experiment.train

    def forward_and_backward(part: TrainInputs) -> tuple:
        masks = rng.BatchRng(seed, part.positions, train.global_batch).fold_in(DROPOUT_STREAM)
        with tf.GradientTape() as tape, dropout.dropout_rng(masks):
            outputs = state.model(part.images, training=True)
            each = heads.losses(outputs, lambda logits: losses.example_losses(part.targets, logits, train, weights))
            loss = tf.reduce_sum(each) / train.global_batch
            objective = optimizers.scale_loss(state.optimizer, loss)
        found = tape.gradient(objective, trained, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        # int64: TensorFlow compares int32 in the host's memory, for which the host would wait
        right = tf.equal(tf.argmax(heads.main_logits(outputs), -1), tf.cast(part.labels, tf.int64))
        return optimizers.unscale_grads(state.optimizer, found), loss, tf.reduce_sum(tf.cast(right, tf.float32))

    if not train.jit_compile:
        return forward_and_backward
    return tf.function(forward_and_backward, autograph=False, jit_compile=True)


def _update_ema(strategy: tf.distribute.Strategy, state: TrainState, decay: float) -> None:
    """Moves every averaged weight towards the model's; faster at first, when the average still is random.

    The ramp (1 + step) / (10 + step) is that of tf.train.ExponentialMovingAverage.
    """
    step = tf.cast(state.step, tf.float32)
    towards = 1 - tf.minimum(decay, (1 + step) / (10 + step))
    for average, weight in zip(state.evaluated, state.trained):
        share = towards if weight.dtype.is_floating else tf.ones([], weight.dtype)  # counts are copied
        strategy.extended.update(
            average, lambda mean, value, share: mean.assign_add((value - mean) * share), args=(weight, share)
        )
