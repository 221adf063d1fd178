"""Benchmark of training: cost of input and augmentation relative to the training step.

Three candidates train the same model:

- a run: each step uses a new batch, with augmentation;
- one constant batch: the same compiled step with augmentation, on one batch that is on the device already. The
  difference to a run is the cost of input;
- one constant batch, not augmented: the difference to the previous candidate is the cost of augmentation.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from fer import progress
from fer.benchmark.harness import Result, run_interleaved
from fer.config import Augment, Experiment, Model, Optimizer, Train
from fer.data.example_codec import Faces
from fer.data.sampling import PREFETCH, Batch
from fer.models import precision
from fer.synthetic import synthetic
from fer.train import train_state, train_step
from fer.train.device_iterator import PREFETCH_PER_REPLICA, DeviceIterator
from fer.train.distributed.strategy import make_strategy
from fer.train.train_state import TrainState
from fer.train.train_step import StepMetrics

STEPS = {"compact": 10, "efficientnet_b0 at 48": 4}  # per measurement: some seconds on two cores
ROUNDS = 7
FACES = 2000
TOTAL_STEPS = 10**6  # steps of the learning rate schedule, more than a benchmark takes

# Equal to the configs in configs/, except that EfficientNet-B0 has 48 pixels, which suits a CPU.
EXPERIMENTS = {
    "compact": Experiment(
        model=Model(name="compact", dropout=0.3),
        augment=Augment(policy="flip|affine(rotate=15,scale=0.15,shift=0.08,shear=0.1)|erase(p=0.4,high=0.2)"),
        optimizer=Optimizer(name="sgd", learning_rate=0.1, weight_decay=2.5e-3, warmup_epochs=3.0),
        train=Train(global_batch_size=128, ema_decay=0.999, deterministic=False),
    ),
    "efficientnet_b0 at 48": Experiment(
        model=Model(name="efficientnet_b0", image_size=48, dropout=0.3),
        augment=Augment(policy="flip|affine(rotate=15,scale=0.1,shift=0.08,shear=0.1)"),
        optimizer=Optimizer(name="adamw", learning_rate=1e-3, weight_decay=0.05, warmup_epochs=5.0, grad_clip_norm=1.0),
        train=Train(global_batch_size=256, ema_decay=0.9995, deterministic=False),
    ),
}


def measure() -> list[Result]:
    """Measures each model in images/s: a run, its step alone, and its step without augmentation."""
    with progress.stage(f"train: drawing {FACES:,} synthetic faces"):
        faces = draw_faces(FACES)
    return [
        result
        for name, experiment in EXPERIMENTS.items()
        for result in measure_throughput(name, precision.resolve_precision(experiment), faces, STEPS[name], ROUNDS)
    ]


def measure_throughput(name: str, experiment: Experiment, faces: Faces, steps: int, rounds: int) -> list[Result]:
    """Measures the three candidates of one experiment; see the docstring of this module.

    Args:
      name: the prefix of the names of the results.
      experiment: the experiment to train.
      faces: the training data.
      steps: training steps per measurement.
      rounds: measurements of each candidate.
    """
    strategy = make_strategy("one", experiment.train)
    with progress.stage(f"train: building {name}"):
        augmenting, feed, state = build_training(strategy, experiment, faces)
        constant = next(feed)
    plain = copy.deepcopy(experiment)
    plain.augment = dataclasses.replace(plain.augment, policy="none")
    not_augmenting = train_step.make_train_step(train_step.StepContext(strategy, state, plain))

    def run() -> int:
        for _ in range(PREFETCH + PREFETCH_PER_REPLICA):
            next(feed)  # discards prefetched batches, so that the measurement includes the input of each step
        return turn(lambda: augmenting(next(feed)))

    def turn(work: Callable[[], object]) -> int:
        for _ in range(steps):
            work()
        float(state.loss.result())  # waits for the device
        return steps * experiment.train.global_batch_size

    candidates = {
        f"{name}, a run": run,
        f"{name}, one constant batch": lambda: turn(lambda: augmenting(constant)),
        f"{name}, one constant batch, not augmented": lambda: turn(lambda: not_augmenting(constant)),
    }
    with progress.stage(f"train: compiling {name}"):
        for train_on in (augmenting, not_augmenting):
            train_on(constant)
    return run_interleaved("train", "images/s", candidates, baseline=f"{name}, one constant batch", rounds=rounds)


def draw_faces(count: int) -> Faces:
    """Returns `count` synthetic faces, always the same."""
    images, labels = synthetic.generate_faces(count, seed=0)
    return Faces(images[..., np.newaxis], labels.astype(np.int32), np.arange(count), None)


def build_training(
    strategy: tf.distribute.Strategy, experiment: Experiment, faces: Faces, steps: int = TOTAL_STEPS
) -> tuple[Callable[[Batch], StepMetrics], DeviceIterator, TrainState]:
    """Builds a training of at most `steps` steps. Returns its step function, its input and its state."""
    state = train_state.create_train_state(strategy, experiment, TOTAL_STEPS, TOTAL_STEPS)
    take_step = train_step.make_train_step(train_step.StepContext(strategy, state, experiment))
    return take_step, DeviceIterator(strategy, faces, experiment, 0, steps), state
