"""Benchmark of augmentation: throughput next to other libraries on the same images, and time of each stage."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from fer import progress
from fer.augment import geometric, mixup, ops, photometric, policy, random_erasing
from fer.benchmark import augmentation_baselines
from fer.benchmark.harness import ROUNDS, Result, run_interleaved
from fer.errors import install_command
from fer.labels import CLASSES
from fer.rng import BatchRng
from fer.synthetic import synthetic

RANDAUGMENT = "randaugment(layers=2,magnitude=9)"
FULL_POLICY = f"flip|affine(rotate=15,scale=0.1,shift=0.08,shear=0.1)|{RANDAUGMENT}|erase(p=0.25)|mixup(alpha=0.2)"
FER_RANDAUGMENT = "fer, randaugment(2, 9)"
KERAS_CV = "KerasCV, RandAugment"
MODE_UNIT = "images/s, by execution mode"


def measure(text: str = FULL_POLICY, batch: int = 256, repeats: int = 40, rounds: int = ROUNDS) -> list[Result]:
    """Measures throughput in images/s.

    Args:
      text: the policy that is measured in addition to RandAugment alone.
      batch: images per batch.
      repeats: batches per measurement; candidates that are about ten times slower process a tenth of them.
      rounds: see `run_interleaved`.

    Raises:
      UserError: see `policy.parse`.
    """
    policy.parse(text)
    images, _ = synthetic.generate_faces(batch, seed=0)
    faces = tf.constant(images.reshape(batch, 48, 48, 1))
    return [
        *_measure_baselines(text, faces, repeats, rounds),
        *_measure_modes(faces, repeats, rounds),
        *_measure_warps(faces, repeats, rounds),
        *_measure_stages(text, faces, repeats, rounds),
    ]


def _measure_baselines(text: str, faces: tf.Tensor, repeats: int, rounds: int) -> list[Result]:
    slow, cores = max(1, repeats // 10), os.cpu_count() or 1
    candidates = {
        FER_RANDAUGMENT: _augmenter_work(RANDAUGMENT, faces, repeats),
        "fer, the whole policy": _augmenter_work(text, faces, repeats),
        KERAS_CV: _augmenter_work(RANDAUGMENT, faces, slow, backend="keras_cv"),
        "Keras, ImageDataGenerator": _generator_work(faces.numpy(), slow),
    }
    others = ["Keras, ImageDataGenerator"]
    with contextlib.ExitStack() as stack:
        for name in augmentation_baselines.BASELINES:
            if augmentation_baselines.is_missing(name):
                print(f"{name} is not installed and is not measured. Install it with {install_command('bench')}.")
                continue
            work = stack.enter_context(augmentation_baselines.start_workers(name, faces.numpy(), cores, slow))
            others.append(f"{name}, {cores} processes")
            candidates[others[-1]] = work
        return _measure("images/s", candidates, KERAS_CV, rounds, [(FER_RANDAUGMENT, other) for other in others])


def _measure_modes(faces: tf.Tensor, repeats: int, rounds: int) -> list[Result]:
    """Measures RandAugment executed eagerly, in a graph as in training, and compiled by XLA."""
    candidates = {
        "randaugment, in tf.function": _augmenter_work(RANDAUGMENT, faces, repeats),
        "randaugment, eagerly": _augmenter_work(RANDAUGMENT, faces, repeats, graph=False),
        "randaugment, under jit_compile": _augmenter_work(RANDAUGMENT, faces, repeats, xla=True),
    }
    return _measure(MODE_UNIT, candidates, "randaugment, in tf.function", rounds)


def _measure_warps(faces: tf.Tensor, repeats: int, rounds: int) -> list[Result]:
    """Measures `geometric.warp` and TensorFlow's kernel."""
    matrices = ops.apply_randaugment(_make_rng(faces, tf.constant([0, 0])), 48).matrices

    def repeat(warp: Callable[..., tf.Tensor]) -> Callable[[], int]:
        return _repeat(tf.function(lambda _: warp(faces, matrices), autograph=False), faces, repeats)

    candidates = {"warp, kernel": repeat(warp_with_kernel), "warp, gathers": repeat(geometric.warp)}
    return _measure(MODE_UNIT, candidates, "warp, kernel", rounds)


def warp_with_kernel(images: tf.Tensor, matrices: geometric.Matrices, fill: float = 0.0) -> tf.Tensor:
    """Returns the result of `geometric.warp`, up to one grey level, by the kernel of ImageProjectiveTransformV3."""
    centre = (images.shape[1] - 1) / 2
    zero, one = tf.zeros_like(matrices.x), tf.ones_like(matrices.x)
    to_corner = geometric.Matrices(one, zero, one * centre, zero, one, one * centre)
    to_centre = geometric.Matrices(one, zero, -one * centre, zero, one, -one * centre)
    warped = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(images, tf.float32),  # on uint8 the kernel would truncate fractions instead of rounding
        transforms=tf.stack([*(to_corner @ matrices @ to_centre), zero, zero], axis=1),
        output_shape=images.shape[1:3],
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
        fill_value=fill,
    )
    return tf.cast(tf.round(warped), tf.uint8)


def _measure_stages(text: str, faces: tf.Tensor, repeats: int, rounds: int) -> list[Result]:
    """Measures each stage by itself. Its ratio to all stages is the inverse of its share of the time."""
    all_stages = "all stages of the policy"
    counts, tables = photometric.histogram(faces), photometric.identity(tf.shape(faces)[0])
    targets = tf.one_hot(tf.range(len(faces)) % len(CLASSES), len(CLASSES))

    def draw(seed: tf.Tensor) -> ops.LazyOp:
        return ops.apply_randaugment(_make_rng(faces, seed), 48)

    def draw_tables(seed: tf.Tensor) -> tf.Tensor:
        change = draw(seed).tables
        assert change is not None  # RandAugment has photometric ops
        return change(tables, counts)

    stages = {
        "draws and matrices": lambda seed: draw(seed).matrices,
        "warp": lambda seed: ops.apply(faces, [ops.LazyOp(matrices=draw(seed).matrices)]),
        "sharpness": lambda seed: ops.apply(faces, [ops.LazyOp(sharpness=draw(seed).sharpness)]),
        "histogram": lambda _: photometric.histogram(faces),
        "tables": draw_tables,
        "equalize, every image": lambda _: photometric.equalize(tables, counts),
        "table lookup": lambda _: photometric.apply(faces, tables),
        "erase": lambda seed: random_erasing.erase(faces, _make_rng(faces, seed), p=0.25),
        "mixup": lambda seed: mixup.mix(faces, targets, mixup.mixup(faces, _make_rng(faces, seed))),
    }
    candidates = {all_stages: _augmenter_work(text, faces, repeats)}
    for name, stage in stages.items():
        candidates[f"stage: {name}"] = _repeat(tf.function(stage, autograph=False), faces, repeats)
    return _measure("images/s, one stage", candidates, all_stages, rounds)


def _augmenter_work(
    text: str, faces: tf.Tensor, repeats: int, backend: str = "fused", graph: bool = True, xla: bool = False
) -> Callable[[], int]:
    augment = policy.augmenter(text, xla=xla, backend=backend)
    targets = tf.one_hot(tf.range(len(faces)) % len(CLASSES), len(CLASSES))

    def apply(seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return augment(faces, targets, _make_rng(faces, seed))

    function = tf.function(apply, autograph=False, jit_compile=xla or None) if graph else apply
    return _repeat(function, faces, repeats)


def _generator_work(faces: np.ndarray, repeats: int) -> Callable[[], int]:
    """Returns the work of Keras' ImageDataGenerator, which most published code for FER-2013 uses."""
    generator = tf.keras.preprocessing.image.ImageDataGenerator(
        rotation_range=15,
        zoom_range=0.1,
        width_shift_range=0.08,
        height_shift_range=0.08,
        shear_range=6,  # degrees
        horizontal_flip=True,
        fill_mode="constant",
    )
    batches = generator.flow(faces.astype(np.float32), batch_size=len(faces))
    return lambda: sum(len(next(batches)) for _ in range(repeats))


def _repeat(function: Callable[[tf.Tensor], object], faces: tf.Tensor, repeats: int) -> Callable[[], int]:
    """Returns the work that calls `function` with `repeats` new seeds and returns the number of images."""
    steps = itertools.count()

    def work() -> int:
        for _ in range(repeats):
            outputs = function(tf.constant([0, next(steps)]))
        tf.nest.map_structure(lambda tensor: tensor.numpy(), outputs)  # waits for the GPU, which runs asynchronously
        return repeats * len(faces)

    return work


def _measure(
    unit: str,
    candidates: Mapping[str, Callable[[], int]],
    baseline: str,
    rounds: int,
    pairs: Sequence[tuple[str, str]] = (),
) -> list[Result]:
    """Runs each candidate once, which traces, compiles or starts processes, and then measures all of them."""
    for name, work in candidates.items():
        with progress.stage(f"augment: warming up {name}"):
            work()
    return run_interleaved("augment", unit, candidates, baseline, rounds, pairs)


def _make_rng(faces: tf.Tensor, seed: tf.Tensor) -> BatchRng:
    return BatchRng(seed, tf.range(len(faces)), len(faces))
