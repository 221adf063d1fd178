"""Scaling: what the strategy of several replicas costs on one machine, and how much they have to tell each other.

Two contestants train the same model on the same global batches in short turns: one replica, and two logical replicas
of the same CPU. Both have the same cores, so what two are slower than one is the strategy's own cost: copies of the
variables, the all-reduce of the gradients, smaller batches for each kernel.

What is told each other is arithmetic: see `ring_bytes`, and docs/performance.md for what it means on GPUs.
"""

from __future__ import annotations

from typing import Callable

import numpy as np
import tensorflow as tf

from fer.benchmark.harness import Result, run_interleaved
from fer.benchmark.train import EXPERIMENTS, TOTAL
from fer.config import Experiment
from fer.data.example_codec import Faces
from fer.synthetic import synthetic
from fer.train import train_state, train_step
from fer.train.device_iterator import DeviceIterator
from fer.train.distributed.strategy import make_logical_cpus, make_mirrored

SUITE = "scaling"
STEPS = 4  # of a turn
ROUNDS = 7
FACES = 1000
GPUS = (8, 32)  # one server, and four


def ring_bytes(parameters: int, replicas: int) -> float:
    """What each replica sends in one all-reduce of float32 gradients over a ring: 2 (n - 1) / n of their size.

    That is the least that any all-reduce can do (Patarasuk and Yuan 2009, J. Parallel Distrib. Comput. 69, 117-124).
    """
    return 2 * (replicas - 1) / replicas * 4 * parameters


def measure() -> list[Result]:
    """Images a second of one replica and of two, and the megabytes that gradients are on the way to eight and more."""
    return overhead("compact", EXPERIMENTS["compact"], STEPS, ROUNDS)


def overhead(name: str, experiment: Experiment, steps: int, rounds: int) -> list[Result]:
    """The figures of one experiment; see the head of this file.

    Args:
      name: of the figures.
      experiment: what is trained, at its global batch.
      steps: of a turn.
      rounds: turns of each contestant.
    """
    two_cpus = make_logical_cpus(2)  # before anything runs: afterwards they cannot be made any more
    images, labels = synthetic.generate_faces(max(FACES, experiment.train.global_batch), seed=0)
    faces = Faces(images[..., np.newaxis], labels.astype(np.int32), np.arange(len(labels)), None)
    one, two = f"{name}, one replica", f"{name}, two replicas of the same cores"
    strategies = {one: tf.distribute.OneDeviceStrategy("CPU:0"), two: make_mirrored(two_cpus)}
    contestants, parameters = {}, 0
    for title, strategy in strategies.items():
        made = train_state.create_train_state(strategy, experiment, TOTAL, TOTAL)
        contestants[title] = _turn(strategy, made, experiment, faces, steps)
        contestants[title]()  # compiles
        parameters = sum(variable.shape.num_elements() for variable in made.model.trainable_variables)
    measured = run_interleaved(SUITE, "images/s", contestants, baseline=one, rounds=rounds)
    for count in GPUS:
        megabytes = float(f"{ring_bytes(parameters, count) / 1e6:.4g}")  # reckoned, so without a spread
        measured.append(
            Result(SUITE, f"{name}, sent by each of {count} GPUs", megabytes, "MB/step", megabytes, megabytes)
        )
    return measured


def _turn(
    strategy: tf.distribute.Strategy, made: train_state.TrainState, experiment: Experiment, faces: Faces, steps: int
) -> Callable[[], int]:
    """The function that takes so many steps, each on its next batch, and says how many images that were."""
    feed = DeviceIterator(strategy, faces, experiment, 0, TOTAL)
    take_step = train_step.make_train_step(strategy, made, experiment)

    def turn() -> int:
        for _ in range(steps):
            told = take_step(next(feed))
        float(told.loss)  # waits for the devices
        return steps * experiment.train.global_batch

    return turn
