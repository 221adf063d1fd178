"""Augmentation against its rivals on the same faces, and where its own time goes."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from fer.augment import geometric, mixup, ops, photometric, policy, random_erasing
from fer.benchmark import baselines
from fer.benchmark.harness import ROUNDS, Result, run_interleaved
from fer.labels import CLASSES
from fer.rng import BatchRng
from fer.synthetic import synthetic

RANDAUGMENT = "randaugment(layers=2,magnitude=9)"
WHOLE = f"flip|affine(rotate=15,scale=0.1,shift=0.08,shear=0.1)|{RANDAUGMENT}|erase(p=0.25)|mixup(alpha=0.2)"
OURS = "fer, randaugment(2, 9)"
KERAS_CV = "KerasCV, RandAugment"
WAYS = "images/s, by the way it is done"


def measure(text: str = WHOLE, batch: int = 256, repeats: int = 40, rounds: int = ROUNDS) -> list[Result]:
    """Images a second.

    Args:
      text: the policy that is measured beside RandAugment alone.
      batch: images a batch.
      repeats: batches a turn; of what is ten times slower, a tenth.
      rounds: see `race`.

    Raises:
      UserError: see `policy.parse`.
    """
    policy.parse(text)
    images, _ = synthetic.generate_faces(batch, seed=0)
    faces = tf.constant(images.reshape(batch, 48, 48, 1))
    return [
        *_rivals(text, faces, repeats, rounds),
        *_modes(faces, repeats, rounds),
        *_warps(faces, repeats, rounds),
        *_stages(text, faces, repeats, rounds),
    ]


def _rivals(text: str, faces: tf.Tensor, repeats: int, rounds: int) -> list[Result]:
    slow, cores = max(1, repeats // 10), os.cpu_count() or 1
    contestants = {
        OURS: _augmenting(RANDAUGMENT, faces, repeats),
        "fer, the whole policy": _augmenting(text, faces, repeats),
        KERAS_CV: _augmenting(RANDAUGMENT, faces, slow, engine="keras_cv"),
        "Keras, ImageDataGenerator": _generator(faces.numpy(), slow),
    }
    others = ["Keras, ImageDataGenerator"]
    with contextlib.ExitStack() as stack:
        for name in baselines.BASELINES:
            if baselines.missing(name):
                print(f"{name} is not installed, so it is not measured; the extra bench has it.")
                continue
            work = stack.enter_context(baselines.running(name, faces.numpy(), cores, slow))
            others.append(f"{name}, {cores} processes")
            contestants[others[-1]] = _warm(work)
        beside = [(OURS, other) for other in others]
        return run_interleaved("augment", "images/s", contestants, baseline=KERAS_CV, rounds=rounds, beside=beside)


def _modes(faces: tf.Tensor, repeats: int, rounds: int) -> list[Result]:
    """RandAugment op by op, in a graph as the trainer runs it, and compiled whole by XLA."""
    contestants = {
        "randaugment, in tf.function": _augmenting(RANDAUGMENT, faces, repeats),
        "randaugment, eagerly": _augmenting(RANDAUGMENT, faces, repeats, graph=False),
        "randaugment, under jit_compile": _augmenting(RANDAUGMENT, faces, repeats, xla=True),
    }
    return run_interleaved("augment", WAYS, contestants, baseline="randaugment, in tf.function", rounds=rounds)


def _warps(faces: tf.Tensor, repeats: int, rounds: int) -> list[Result]:
    """The two ways to warp, of which `geometry.warp` takes the faster."""
    matrices = ops.apply_randaugment(_draws(faces, tf.constant([0, 0])), 48).matrices

    def warp(gathers: bool) -> Callable[[], int]:
        function = tf.function(lambda _: geometric.warp(faces, matrices, gathers=gathers), autograph=False)
        return _timed(function, faces, repeats)

    contestants = {"warp, kernel": warp(False), "warp, gathers": warp(True)}
    return run_interleaved("augment", WAYS, contestants, baseline="warp, kernel", rounds=rounds)


def _stages(text: str, faces: tf.Tensor, repeats: int, rounds: int) -> list[Result]:
    """Each stage alone; the ratio to the whole is the inverse of its share."""
    whole = "all stages of the policy"
    counts, tables = photometric.histogram(faces), photometric.identity(tf.shape(faces)[0])
    targets = tf.one_hot(tf.range(len(faces)) % len(CLASSES), len(CLASSES))

    def drawn(seed: tf.Tensor) -> ops.LazyOp:
        return ops.apply_randaugment(_draws(faces, seed), 48)

    def drawn_tables(seed: tf.Tensor) -> tf.Tensor:
        change = drawn(seed).tables
        assert change is not None  # RandAugment has photometric ops
        return change(tables, counts, False)

    stages = {
        "draws and matrices": lambda seed: drawn(seed).matrices,
        "warp": lambda seed: ops.apply(faces, [ops.LazyOp(matrices=drawn(seed).matrices)]),
        "sharpness": lambda seed: ops.apply(faces, [ops.LazyOp(sharpness=drawn(seed).sharpness)]),
        "histogram": lambda _: photometric.histogram(faces),
        "tables": drawn_tables,
        "equalize, every image": lambda _: photometric.equalize(tables, counts),
        "table lookup": lambda _: photometric.apply(faces, tables),
        "erase": lambda seed: random_erasing.erase(faces, _draws(faces, seed), p=0.25),
        "mixup": lambda seed: mixup.mix(faces, targets, mixup.mixup(faces, _draws(faces, seed))),
    }
    contestants = {whole: _augmenting(text, faces, repeats)}
    for name, stage in stages.items():
        contestants[f"stage: {name}"] = _timed(tf.function(stage, autograph=False), faces, repeats)
    return run_interleaved("augment", "images/s, a stage alone", contestants, baseline=whole, rounds=rounds)


def _augmenting(
    text: str, faces: tf.Tensor, repeats: int, engine: str = "fused", graph: bool = True, xla: bool = False
) -> Callable[[], int]:
    augment = policy.augmenter(text, xla=xla, engine=engine)
    targets = tf.one_hot(tf.range(len(faces)) % len(CLASSES), len(CLASSES))

    def changed(seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return augment(faces, targets, _draws(faces, seed))

    function = tf.function(changed, autograph=False, jit_compile=xla or None) if graph else changed
    return _timed(function, faces, repeats)


def _generator(faces: np.ndarray, repeats: int) -> Callable[[], int]:
    """What most published code for FER-2013 uses."""
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
    return _warm(lambda: sum(len(next(batches)) for _ in range(repeats)))


def _timed(function: Callable[[tf.Tensor], object], faces: tf.Tensor, repeats: int) -> Callable[[], int]:
    """Runs `function` on as many seeds, each turn on others, and counts the images."""
    steps = itertools.count()

    def work() -> int:
        for _ in range(repeats):
            changed = function(tf.constant([0, next(steps)]))
        tf.nest.map_structure(lambda tensor: tensor.numpy(), changed)  # a GPU answers before it is done
        return repeats * len(faces)

    return _warm(work)


def _warm(work: Callable[[], int]) -> Callable[[], int]:
    """Once unmeasured: traces, compiles, starts processes."""
    work()
    return work


def _draws(faces: tf.Tensor, seed: tf.Tensor) -> BatchRng:
    return BatchRng(seed, tf.range(len(faces)), len(faces))
