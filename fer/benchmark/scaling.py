"""Benchmark of scaling: overhead of the distribution strategy on one machine, and communication volume per step.

Two candidates train the same model on the same global batches: one replica, and two logical replicas of the same CPU.
Both use the same cores, so the difference is the overhead of the strategy: copies of the variables, the all-reduce of
the gradients and smaller batches per kernel.

The communication volume is calculated (`ring_bytes`); docs/performance.md discusses it for GPUs.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from fer import progress
from fer.benchmark.harness import Result, run_interleaved
from fer.benchmark.train import EXPERIMENTS, build_training, draw_faces
from fer.config import Experiment
from fer.data.sampling import Batch
from fer.train.device_iterator import DeviceIterator
from fer.train.distributed.strategy import make_logical_cpus, make_mirrored
from fer.train.train_step import StepMetrics

SUITE = "scaling"
STEPS = 4  # per measurement
ROUNDS = 7
FACES = 1000
GPU_COUNTS = (8, 32)  # one server and four servers


def ring_bytes(parameters: int, replicas: int) -> float:
    """Returns the bytes that each replica sends in a ring all-reduce of float32 gradients: 2 (n - 1) / n of their size.

    No all-reduce can send less (Patarasuk and Yuan 2009, J. Parallel Distrib. Comput. 69, 117-124).
    """
    return 2 * (replicas - 1) / replicas * 4 * parameters


def measure() -> list[Result]:
    """Measures one and two replicas in images/s, and calculates the megabytes sent per step and GPU."""
    return measure_overhead("compact", EXPERIMENTS["compact"], STEPS, ROUNDS)


def measure_overhead(name: str, experiment: Experiment, steps: int, rounds: int) -> list[Result]:
    """Measures one experiment; see the docstring of this module.

    Args:
      name: the prefix of the names of the results.
      experiment: the experiment to train, at its global batch size.
      steps: training steps per measurement.
      rounds: measurements of each candidate.
    """
    two_cpus = make_logical_cpus(2)  # before the first op runs; TensorFlow cannot create them later
    with progress.stage("scaling: drawing synthetic faces"):
        faces = draw_faces(max(FACES, experiment.train.global_batch_size))
    one, two = f"{name}, one replica", f"{name}, two replicas of the same cores"
    strategies = {one: tf.distribute.OneDeviceStrategy("CPU:0"), two: make_mirrored(two_cpus)}
    candidates, parameters = {}, 0
    for title, strategy in strategies.items():
        with progress.stage(f"scaling: building and compiling {title}"):
            take_step, feed, state = build_training(strategy, experiment, faces)
            candidates[title] = _make_turn(take_step, feed, steps, experiment.train.global_batch_size)
            candidates[title]()  # compiles
        parameters = sum(variable.shape.num_elements() for variable in state.model.trainable_variables)
    measured = run_interleaved(SUITE, "images/s", candidates, baseline=one, rounds=rounds)
    for count in GPU_COUNTS:
        megabytes = float(f"{ring_bytes(parameters, count) / 1e6:.4g}")  # calculated, so without a range
        measured.append(
            Result(SUITE, f"{name}, sent by each of {count} GPUs", megabytes, "MB/step", megabytes, megabytes)
        )
    return measured


def _make_turn(
    take_step: Callable[[Batch], StepMetrics], feed: DeviceIterator, steps: int, global_batch: int
) -> Callable[[], int]:
    """Returns the function that trains `steps` steps, each on a new batch, and returns the number of images."""

    def turn() -> int:
        for _ in range(steps):
            metrics = take_step(next(feed))
        float(metrics.loss)  # waits for the devices
        return steps * global_batch

    return turn
