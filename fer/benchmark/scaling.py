"""Benchmark of scaling: overhead of replicas on one machine, bytes sent between processes, and a model for GPUs.

Three measurements:

- throughput of one, two and four logical replicas of the same CPU, on the same global batches. All use the same cores,
  so the difference is the overhead of the strategy: copies of the variables, the all-reduce of the gradients and
  smaller batches per kernel;
- bytes that two and four worker processes send per step, relative to `ring_bytes`;
- the share of its throughput that a GPU keeps among 8, 32 and 128 GPUs, calculated: see `efficiency`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import tensorflow as tf

from fer import progress
from fer.benchmark.harness import Result, run_interleaved
from fer.benchmark.train import EXPERIMENTS, build_training, draw_faces
from fer.benchmark.worker_process import measure_sent_bytes
from fer.config import Experiment
from fer.data.sampling import Batch
from fer.models import model_table, precision
from fer.train.device_iterator import DeviceIterator
from fer.train.distributed.strategy import make_logical_cpus, make_mirrored
from fer.train.train_step import StepMetrics

SUITE = "scaling"
STEPS = 4  # per measurement
ROUNDS = 7
FACES = 1000
REPLICAS = {"two": 2, "four": 4}
GPU_COUNTS = (8, 32, 128)
BATCH_PER_GPU = 256
EFFICIENT = 0.9

# Of AWS' p4d.24xlarge: 8 A100 with NVLink, and a network of 400 Gbit/s between servers.
GPUS_PER_SERVER = 8
GPU_RATE, NETWORK_RATE = 300e9, 50e9  # bytes/s
# Of one step of NCCL's ring, and once per all-reduce (protocol Simple, NCCL's src/graph/tuning.cc); seconds.
GPU_LATENCY, NETWORK_LATENCY, START_LATENCY = 3.4e-6, 14e-6, 8.4e-6
BACKWARD_SHARE = 2 / 3  # of a step's computation; an all-reduce could run beside it

# Images/s of one GPU: compact in docs/results/gpu/gpu_check.json, on an H200; EfficientNet-B0 and ResNet-50 at 224
# pixels on an A100 in mixed precision (NVIDIA, DeepLearningExamples); Inception-v3 by its operations from ResNet-50.
GPU_THROUGHPUT = {
    "compact": ("compact", 12276.0),
    "efficientnet_b0": ("efficientnet_b0", 3454.0),
    "inception_v3": ("resnet50", 2375.0),
    "resnet50": ("resnet50", 2375.0),
}


def ring_bytes(values: int, replicas: int) -> float:
    """Returns the bytes that each replica sends in a ring all-reduce of float32 values: 2 (n - 1) / n of their size.

    No all-reduce can send less (Patarasuk and Yuan 2009, J. Parallel Distrib. Comput. 69, 117-124).
    """
    return 2 * (replicas - 1) / replicas * 4 * values


def ring_seconds(values: int, gpus: int) -> float:
    """Returns the time of a ring all-reduce of float32 values: its transfer at the slowest link, and its latencies."""
    servers = math.ceil(gpus / GPUS_PER_SERVER)
    steps, network_steps = 2 * (gpus - 1), 2 * (servers - 1)
    latency = START_LATENCY + (steps - network_steps) * GPU_LATENCY + network_steps * NETWORK_LATENCY
    return ring_bytes(values, gpus) / (GPU_RATE if servers == 1 else NETWORK_RATE) + latency


def efficiency(compute_s: float, reduce_s: float, overlap: bool) -> float:
    """Returns the share of a step in which a GPU computes, 0 to 1.

    Args:
      compute_s: time of a step on one GPU.
      reduce_s: time of its all-reduce.
      overlap: the all-reduce runs beside the backward pass; only the rest of it takes time.
    """
    waiting = max(0.0, reduce_s - BACKWARD_SHARE * compute_s) if overlap else reduce_s
    return compute_s / (compute_s + waiting)


def min_global_batch(images_per_second: float, reduce_s: float, gpus: int, overlap: bool) -> int:
    """Returns the smallest global batch at which the efficiency exceeds `EFFICIENT`.

    Args:
      images_per_second: throughput of one GPU, taken as constant: below some batch it is lower.
      reduce_s: time of the all-reduce of a step.
      gpus: the number of GPUs.
      overlap: the all-reduce runs beside the backward pass.
    """
    compute_s = reduce_s / (1 / EFFICIENT - 1 + BACKWARD_SHARE * overlap)
    return gpus * (math.floor(compute_s * images_per_second) + 1)


def model_results() -> list[Result]:
    """Calculates, for each network and number of GPUs, its efficiency and its smallest efficient global batch."""
    rows = {row.name: row for row in model_table.table()}
    results = []
    for name, (anchor, rate) in GPU_THROUGHPUT.items():
        throughput = rate * rows[anchor].multiply_adds / rows[name].multiply_adds
        for gpus in GPU_COUNTS:
            reduce_s = ring_seconds(rows[name].parameters, gpus)
            for column, overlap in ((f"{gpus} GPUs", False), (f"{gpus}, overlapped", True)):
                share = round(100 * efficiency(BATCH_PER_GPU / throughput, reduce_s, overlap), 1)
                results.append(Result(SUITE, f"efficiency: {name}: {column}", share, "%", share, share))
                batch = float(min_global_batch(throughput, reduce_s, gpus, overlap))
                results.append(Result(SUITE, f"global batch: {name}: {column}", batch, "images", batch, batch))
    return results


def measure() -> list[Result]:
    """Runs all measurements of this suite, and calculates the model."""
    return [
        *measure_overhead("compact", EXPERIMENTS["compact"], STEPS, ROUNDS),
        *measure_communication("compact", EXPERIMENTS["compact"], STEPS),
        *model_results(),
    ]


def measure_overhead(name: str, experiment: Experiment, steps: int, rounds: int) -> list[Result]:
    """Measures one experiment in images/s with one and with several replicas.

    Args:
      name: the prefix of the names of the results.
      experiment: the experiment to train, at its global batch size.
      steps: training steps per measurement.
      rounds: measurements of each candidate.
    """
    cpus = make_logical_cpus(max(REPLICAS.values()))  # before the first op runs; TensorFlow cannot create them later
    experiment = precision.resolve_precision(experiment)
    with progress.stage("scaling: drawing synthetic faces"):
        faces = draw_faces(max(FACES, experiment.train.global_batch_size))
    one = f"{name}, one replica"
    strategies: dict[str, tf.distribute.Strategy] = {one: tf.distribute.OneDeviceStrategy("CPU:0")}
    for word, count in REPLICAS.items():
        strategies[f"{name}, {word} replicas of the same cores"] = make_mirrored(cpus[:count])
    candidates = {}
    for title, strategy in strategies.items():
        with progress.stage(f"scaling: building and compiling {title}"):
            take_step, feed, _ = build_training(strategy, experiment, faces)
            candidates[title] = _make_turn(take_step, feed, steps, experiment.train.global_batch_size)
            candidates[title]()  # compiles
    return run_interleaved(SUITE, "images/s", candidates, baseline=one, rounds=rounds)


def measure_communication(name: str, experiment: Experiment, steps: int) -> list[Result]:
    """Measures the megabytes that each of several worker processes sends per step, relative to `ring_bytes`."""
    results = []
    for word, workers in REPLICAS.items():
        with progress.stage(f"scaling: training {name} with {word} processes"):
            sent, values = measure_sent_bytes(copy.deepcopy(experiment), workers, steps)
        expected = ring_bytes(values, workers)
        title, formula = f"{name}, sent by each of {word} processes", f"{name}, formula for {word} processes"
        mean = sum(sent) / len(sent)
        low, middle, high = (float(f"{number / 1e6:.4g}") for number in (min(sent), mean, max(sent)))
        calculated = float(f"{expected / 1e6:.4g}")
        results.append(Result(SUITE, formula, calculated, "MB/step", calculated, calculated))
        results.append(Result(SUITE, title, middle, "MB/step", low, high, formula, round(mean / expected, 3)))
    return results


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
