"""A training step, and several in one call: augment, forward, loss, backward, update, moving average."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from fer import rng
from fer.augment import grammar, policy, xla_support
from fer.config import Experiment
from fer.data.sampling import Batch
from fer.labels import CLASSES
from fer.models import dropout, heads
from fer.train import soft_labels
from fer.train.device_iterator import DeviceIterator
from fer.train.distributed import replica_sync
from fer.train.optim import losses, optimizers, packed, param_groups, sam
from fer.train.optim.param_groups import ParamGroup
from fer.train.soft_labels import DistillFn
from fer.train.train_state import TrainState

AUGMENT_STREAM, DROPOUT_STREAM = 1, 2  # folded into the seed of a step: independent random streams
SUM = tf.distribute.ReduceOp.SUM


class TrainInputs(NamedTuple):
    """The augmented inputs and targets of one replica's share of a batch."""

    images: tf.Tensor  # [B, H, W, 1] uint8
    targets: tf.Tensor  # [B, C] float32, rows that sum to 1
    labels: tf.Tensor  # [B] int32 or int64, against which accuracy is counted; of a mixed image, the prevailing label
    positions: tf.Tensor  # [B] int32, in the global batch


class StepMetrics(NamedTuple):
    """Metrics of a step: scalars."""

    loss: tf.Tensor  # over the global batch
    gradient_norm: tf.Tensor  # of the whole gradient, before clipping


@dataclasses.dataclass(frozen=True)
class StepContext:
    """All that a training step depends on besides its batch; fixed when the step is compiled.

    Attributes:
      strategy: the state was created in its scope.
      state: the model, the optimizer and the step, which a step changes.
      experiment: the configuration.
      classes: names of the C classes; by default those of FER-2013.
      mixup: whether mixup and cutmix are applied.
      class_weights: float32 [C], the factor of each class's losses; None weighs all classes alike. A mixed target has
        the mean of its classes' factors.
      param_groups: the variables that are trained, each with its share of the learning rate; see
        `fer.train.optim.param_groups`. None trains all trainable variables of the model at the full learning rate.
      distill: adds the teachers' predictions for the augmented images to the targets; see `fer.train.soft_labels`.
      vote_posterior: see `fer.train.soft_labels.soft_targets`.
    """

    strategy: tf.distribute.Strategy
    state: TrainState
    experiment: Experiment
    classes: tuple[str, ...] = CLASSES
    mixup: bool = True
    class_weights: np.ndarray | None = None
    param_groups: Sequence[ParamGroup] | None = None
    distill: DistillFn | None = None
    vote_posterior: soft_labels.VotePosterior | None = None

    @property
    def variables(self) -> list[tf.Variable]:
        """The variables that the step trains."""
        if self.param_groups is None:
            return self.state.model.trainable_variables
        return [group.variable for group in self.param_groups]


def make_train_step(context: StepContext) -> Callable[[Batch], StepMetrics]:
    """Returns the function that makes one step on a batch of every replica, as `DeviceIterator` yields them.

    Losses are summed and divided by the global batch size, so that the gradients of all replicas add up to the
    gradients of one device.
    """
    strategy, state, experiment = context.strategy, context.state, context.experiment
    variables, groups = context.variables, context.param_groups or ()

    # The name scopes are the stages of `fer.benchmark.launches`.
    def replica_inputs(batch: Batch, seed: tf.Tensor) -> TrainInputs:
        with tf.name_scope("augmentation"):
            return prepare_inputs(context, batch, seed)

    def replica_gradients(inputs: TrainInputs, seed: tf.Tensor, update_metrics: bool) -> tuple:
        gradients, loss, correct = compute_gradients(context, inputs, seed)
        if update_metrics:
            global_batch = experiment.train.global_batch_size
            with tf.name_scope("metrics"):
                state.loss.update_state(loss, sample_weight=global_batch)
                state.accuracy.update_state(correct / global_batch, sample_weight=global_batch)
        return gradients, loss

    def replica_norm(gradients: list[tf.Tensor]) -> tf.Tensor:
        with tf.name_scope("gradient_norm"):
            return tf.linalg.global_norm(gradients if xla_support.on_cpu() else [packed.pack(gradients)])

    def replica_update(gradients: list[tf.Tensor]) -> None:
        with tf.name_scope("optimizer"):
            optimizers.apply_gradients(state.optimizer, gradients, variables)
        replica_sync.sync_bn_stats(state.model)

    @tf.function(autograph=False)
    def step(batch: Batch) -> StepMetrics:
        seed = rng.step_seed(experiment.seed, state.step)
        inputs = strategy.run(replica_inputs, args=(batch, seed))
        gradients, loss = strategy.run(replica_gradients, args=(inputs, seed, True))
        norm = strategy.run(replica_norm, args=(gradients,))
        if experiment.optimizer.sam_rho:
            with sam.sam_perturbation(strategy, state.model, variables, gradients, experiment.optimizer.sam_rho):
                gradients, _ = strategy.run(replica_gradients, args=(inputs, seed, False))
        with param_groups.scaled_updates(strategy, groups, state.optimizer):
            strategy.run(replica_update, args=(gradients,))
        state.step.assign_add(1)
        if experiment.train.ema_decay:
            with tf.name_scope("moving_average"):
                _update_ema(strategy, state, experiment.train.ema_decay)
        return StepMetrics(*(strategy.experimental_local_results(each)[0] for each in (loss, norm)))  # equal on all

    return step


def prepare_inputs(context: StepContext, batch: Batch, seed: tf.Tensor) -> TrainInputs:
    """Augments a batch and makes its targets.

    Args:
      context: names the policy and the targets.
      batch: one replica's share.
      seed: [2] int32: the experiment's seed and the step.
    """
    augmentation, train = context.experiment.augment, context.experiment.train
    batch_rng = rng.BatchRng(seed, batch.positions, train.global_batch_size).fold_in(AUGMENT_STREAM)
    augment = policy.augmenter(augmentation.policy, context.mixup, backend=augmentation.backend)
    targets = soft_labels.soft_targets(
        batch.labels, batch.votes, train.label_source, context.classes, context.vote_posterior
    )
    mixes = context.mixup and grammar.mixes_images(augmentation.policy, augmentation.backend)
    classes = len(context.classes)
    if mixes and train.label_source != "fer":  # the labels are mixed beside the targets, if these are not the labels
        targets = tf.concat([targets, tf.one_hot(batch.labels, classes)], axis=1)
    images, targets = augment(batch.images, targets, batch_rng)
    labels = batch.labels
    if mixes:  # in half of the mixed images, the partner prevails
        targets, labels = targets[:, :classes], tf.argmax(targets[:, -classes:], axis=-1)
    if context.distill is not None:
        targets = context.distill(images, targets)
    return TrainInputs(images, targets, labels, batch.positions)


def compute_gradients(
    context: StepContext, inputs: TrainInputs, seed: tf.Tensor
) -> tuple[list[tf.Tensor], tf.Tensor, tf.Tensor]:
    """Runs forward and backward on one replica, in `train.gradient_accumulation_steps` parts, one after another.

    Args:
      context: the model, the loss, the precision, the number of parts.
      inputs: this replica's share of the batch.
      seed: [2] int32, of the step.

    Returns:
      The gradients of the global batch's mean loss, that loss, and the number of correct predictions as float32. All
      of them are summed over the replicas, so they are the same on each.
    """
    parts = context.experiment.train.gradient_accumulation_steps
    part_gradients = _make_gradient_fn(context, seed)
    if parts == 1:
        gradients, loss, correct = part_gradients(inputs)
    else:
        size = inputs.images.shape[0] // parts

        def body(part: tf.Tensor, gradients: list[tf.Tensor], loss: tf.Tensor, correct: tf.Tensor) -> tuple:
            chunk = TrainInputs(*(tensor[part * size : (part + 1) * size] for tensor in inputs))
            more, part_loss, part_correct = part_gradients(chunk)
            total = [each + other for each, other in zip(gradients, more)]
            return part + 1, total, loss + part_loss, correct + part_correct

        zeros = [tf.zeros(variable.shape, variable.dtype) for variable in context.variables]
        start = (tf.constant(0), zeros, tf.zeros([]), tf.zeros([]))
        _, gradients, loss, correct = tf.while_loop(lambda part, *_: part < parts, body, start, parallel_iterations=1)
    *gradients, loss, correct = tf.distribute.get_replica_context().all_reduce(SUM, [*gradients, loss, correct])
    return gradients, loss, correct


def _make_gradient_fn(
    context: StepContext, seed: tf.Tensor
) -> Callable[[TrainInputs], tuple[list[tf.Tensor], tf.Tensor, tf.Tensor]]:
    """Returns the function from a part of a replica's share to its gradients, its loss and its correct predictions.

    Gradients and loss are divided by the global batch size: those of all parts and replicas add up to the batch's.
    """
    model, optimizer, train = context.state.model, context.state.optimizer, context.experiment.train
    variables, class_weights = context.variables, context.class_weights

    def forward_and_backward(part: TrainInputs) -> tuple:
        dropout_rng = rng.BatchRng(seed, part.positions, train.global_batch_size).fold_in(DROPOUT_STREAM)
        with tf.name_scope("forward"), tf.GradientTape() as tape, dropout.dropout_rng(dropout_rng):
            outputs = model(part.images, training=True)
            per_example = heads.losses(
                outputs, lambda logits: losses.example_losses(part.targets, logits, train, class_weights)
            )
            loss = tf.reduce_sum(per_example) / train.global_batch_size
            scaled_loss = optimizers.scale_loss(optimizer, loss)
        with tf.name_scope("backward"):
            gradients = tape.gradient(scaled_loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            gradients = optimizers.unscale_grads(optimizer, gradients)
        with tf.name_scope("metrics"):
            # int64: TensorFlow compares int32 in host memory, and the host would wait for it.
            correct = tf.equal(tf.argmax(heads.main_logits(outputs), -1), tf.cast(part.labels, tf.int64))
            num_correct = tf.reduce_sum(tf.cast(correct, tf.float32))
        return gradients, loss, num_correct

    if train.jit_compile is not True:  # `auto` outside of a run, which resolves it, compiles nothing
        return forward_and_backward
    return tf.function(forward_and_backward, autograph=False, jit_compile=True)


def _update_ema(strategy: tf.distribute.Strategy, state: TrainState, decay: float) -> None:
    """Moves every averaged weight towards the model's weight; faster at first, while the average is still random.

    The decay is min(decay, (1 + step) / (10 + step)), the ramp of tf.train.ExponentialMovingAverage.
    """
    with tf.device(rng.HOST):
        step = tf.cast(state.step, tf.float32)
        rate = 1 - tf.minimum(decay, (1 + step) / (10 + step))
    pairs = list(zip(state.ema_weights, state.model_weights))
    if not xla_support.on_cpu():
        packed.update_ema(strategy, [pair for pair in pairs if pair[0].dtype.is_floating], rate)
        pairs = [pair for pair in pairs if not pair[0].dtype.is_floating]
    for average, weight in pairs:
        share = rate if weight.dtype.is_floating else tf.ones([], weight.dtype)  # integers, such as counts, are copied
        strategy.extended.update(
            average, lambda mean, value, share: mean.assign_add((value - mean) * share), args=(weight, share)
        )


def make_multi_step(
    iterator: DeviceIterator, step: Callable[[Batch], StepMetrics], max_steps: int
) -> Callable[[int], StepMetrics]:
    """Returns the function that makes a number of steps, each on the iterator's next batch.

    Several steps (Keras: `steps_per_execution`) run as one loop on the device, with bit for bit the results of single
    steps: the host makes one call instead of one for each batch and each step. The number of steps is an argument of
    the compiled function, so that a call can end at any step.

    Args:
      iterator: yields the batches.
      step: from `make_train_step`.
      max_steps: the largest number of steps in one call; 1 leaves the loop out.

    Returns:
      A function of the number of steps, 1 to `max_steps`. It returns the `StepMetrics` of these steps, float32
      [steps], or scalars if `max_steps` is 1.
    """
    if max_steps == 1:
        return lambda count: step(next(iterator))

    @tf.function(autograph=False)
    def run_steps(count: tf.Tensor) -> tuple[StepMetrics, tf.Tensor]:
        def body(number: tf.Tensor, metrics: StepMetrics, waited: tf.Tensor) -> tuple:
            batch, wait = iterator.timed_next()
            written = StepMetrics(*(array.write(number, value) for array, value in zip(metrics, step(batch))))
            return number + 1, written, waited + wait

        metrics = StepMetrics(*(tf.TensorArray(tf.float32, count, element_shape=[]) for _ in StepMetrics._fields))
        start = (tf.constant(0), metrics, tf.zeros([], tf.float64))
        _, metrics, waited = tf.while_loop(lambda number, *_: number < count, body, start, parallel_iterations=1)
        return StepMetrics(*(array.stack() for array in metrics)), waited

    def multi_step(count: int) -> StepMetrics:
        with iterator.input_errors():
            metrics, waited = run_steps(tf.constant(count))
        iterator.add_wait(waited)
        return metrics

    return multi_step
