"""Training: what input and augmentation take from the rate of the step.

Three contestants take the same steps of the same model in short turns:

- a run: each step on its next batch, augmented;
- one constant batch: the same compiled step, augmentation included, on one batch that is there already. What a run
  is slower than this, input costs;
- one constant batch, not augmented: what the former is slower than this, augmentation costs.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Callable

import numpy as np

from fer.benchmark.harness import Result, run_interleaved
from fer.config import Augment, Experiment, Model, Optimizer, Train
from fer.data.example_codec import Faces
from fer.data.sampling import PREFETCH
from fer.models import precision
from fer.synthetic import synthetic
from fer.train import train_state, train_step
from fer.train.device_iterator import PREFETCH_PER_REPLICA, DeviceIterator
from fer.train.distributed.strategy import make_strategy

STEPS = {"compact": 10, "efficientnet_b0 at 48": 4}  # of a turn: some seconds on two cores
ROUNDS = 7
FACES = 2000
TOTAL = 10**6  # steps of the schedule, more than are ever taken

# Models, policies, optimizers and precisions are those of configs/; a CPU can afford EfficientNet-B0 at 48 pixels.
EXPERIMENTS = {
    "compact": Experiment(
        model=Model(name="compact", dropout=0.3),
        augment=Augment(policy="flip|affine(rotate=15,scale=0.15,shift=0.08,shear=0.1)|erase(p=0.4,high=0.2)"),
        optimizer=Optimizer(name="sgd", learning_rate=0.1, weight_decay=2.5e-3, warmup_epochs=3.0),
        train=Train(global_batch=128, ema_decay=0.999, deterministic=False),
    ),
    "efficientnet_b0 at 48": Experiment(
        model=Model(name="efficientnet_b0", image_size=48, dropout=0.3),
        augment=Augment(policy="flip|affine(rotate=15,scale=0.1,shift=0.08,shear=0.1)"),
        optimizer=Optimizer(name="adamw", learning_rate=1e-3, weight_decay=0.05, warmup_epochs=5.0, clip_norm=1.0),
        train=Train(global_batch=256, ema_decay=0.9995, deterministic=False),
    ),
}


def measure() -> list[Result]:
    """Images a second of each model's run, of its step alone, and of its step without augmentation."""
    images, labels = synthetic.generate_faces(FACES, seed=0)
    faces = Faces(images[..., np.newaxis], labels.astype(np.int32), np.arange(FACES), None)
    return [
        result
        for name, experiment in EXPERIMENTS.items()
        for result in rates(name, precision.resolve_precision(experiment), faces, STEPS[name], ROUNDS)
    ]


def rates(name: str, experiment: Experiment, faces: Faces, steps: int, rounds: int) -> list[Result]:
    """The three figures of one experiment; see the head of this file.

    Args:
      name: of the figures.
      experiment: what is trained.
      faces: to train on.
      steps: of a turn.
      rounds: turns of each contestant.
    """
    strategy = make_strategy("one", experiment.train)
    made = train_state.create_train_state(strategy, experiment, TOTAL, TOTAL)
    feed = DeviceIterator(strategy, faces, experiment, 0, TOTAL)
    constant = next(feed)
    plain = copy.deepcopy(experiment)
    plain.augment = dataclasses.replace(plain.augment, policy="none")
    augmenting, not_augmenting = (train_step.make_train_step(strategy, made, each) for each in (experiment, plain))

    def run() -> int:
        for _ in range(PREFETCH + PREFETCH_PER_REPLICA):
            next(feed)  # what lay ready: so the turn pays for each batch that it trains on
        return turn(lambda: augmenting(next(feed)))

    def turn(work: Callable[[], object]) -> int:
        for _ in range(steps):
            work()
        float(made.loss.result())  # waits for the device
        return steps * experiment.train.global_batch

    contestants = {
        f"{name}, a run": run,
        f"{name}, one constant batch": lambda: turn(lambda: augmenting(constant)),
        f"{name}, one constant batch, not augmented": lambda: turn(lambda: not_augmenting(constant)),
    }
    for compile_it in (augmenting, not_augmenting):
        compile_it(constant)
    return run_interleaved("train", "images/s", contestants, baseline=f"{name}, one constant batch", rounds=rounds)
