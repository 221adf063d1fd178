"""Small experiments and states for the tests of training."""

from __future__ import annotations

import tensorflow as tf

from fer.config import Augment, Experiment, Model, Optimizer, Train
from fer.data import pipeline
from fer.data.records import Faces
from fer.train import state, step

BATCH = 16


def experiment(**train) -> Experiment:
    """A run of `compact` that takes seconds; arguments are fields of `fer.config.Train`."""
    settings = {"global_batch": BATCH, "steps": 4, "checkpoint_steps": 2, **train}
    return Experiment(
        model=Model(name="compact", image_size=24, dropout=0.2, sync_batch_norm=True),
        augment=Augment(policy="flip|affine(rotate=10,shift=0.05)"),
        optimizer=Optimizer(learning_rate=0.01, warmup_epochs=0.0),
        train=Train(**settings),
    )


def after_steps(strategy: tf.distribute.Strategy, settings: Experiment, faces: Faces, steps: int) -> state.State:
    """The state after so many training steps under a strategy."""
    epoch_steps = pipeline.steps_per_epoch(len(faces.labels), settings.train.global_batch)
    made = state.create(strategy, settings, epoch_steps, 1000)
    replicas = strategy.num_replicas_in_sync

    def batches(_: tf.distribute.InputContext) -> tf.data.Dataset:
        return pipeline.training_batches(
            faces, settings.seed, settings.train.global_batch, 0, steps, replicas, range(replicas)
        )

    iterator = iter(strategy.distribute_datasets_from_function(batches))
    train_step = step.train_step(strategy, made, settings)
    for _ in range(steps):
        train_step(iterator)
    return made
