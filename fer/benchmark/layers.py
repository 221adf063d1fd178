"""Benchmark of the layers for CPUs without AVX-512: training steps next to the same networks with Keras' layers.

Each step computes loss, gradients and an update by Adam on one constant batch. Where oneDNN computes with AVX-512 code,
both candidates are the same; ONEDNN_MAX_CPU_ISA=AVX2 makes it compute as on CPUs without.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from fer import progress, tf_workarounds
from fer.benchmark.harness import Result, run_interleaved
from fer.labels import CLASSES, SIDE
from fer.models import avx2_layers, registry

NETWORKS = ("compact_s", "mobilenet", "efficientnet_b0")
BATCH_SIZE, STEPS, ROUNDS = 128, 3, 7


def measure() -> list[Result]:
    """Measures the networks in images/s, each with Keras' layers and with those of `fer.models.avx2_layers`."""
    return [result for name in NETWORKS for result in measure_network(name, BATCH_SIZE, ROUNDS)]


def measure_network(name: str, batch_size: int, rounds: int) -> list[Result]:
    """Measures a network at 48 pixels.

    Args:
      name: of a backbone in `fer.models.registry`.
      batch_size: images in the batch.
      rounds: measurements of each candidate.
    """

    def turn(step: Callable[[], tf.Tensor]) -> int:
        for _ in range(STEPS):
            float(step())
        return STEPS * batch_size

    with tf_workarounds.release_custom_gradients():
        with progress.stage(f"layers: compiling {name}"):
            steps = {kind: make_step(name, batch_size, kind == "fer") for kind in ("Keras' layers", "fer")}
            for step in steps.values():
                step()
        candidates = {f"{name}, {kind}": functools.partial(turn, step) for kind, step in steps.items()}
        return run_interleaved("layers", "images/s", candidates, f"{name}, Keras' layers", rounds)


def make_step(name: str, batch_size: int, accelerated: bool) -> Callable[[], tf.Tensor]:
    """Returns a function that makes a training step of a new network and returns the loss."""
    generator = np.random.default_rng(0)
    faces = tf.constant(generator.uniform(-1, 1, (batch_size, SIDE, SIDE, 1)).astype(np.float32))
    labels = tf.constant(generator.integers(0, len(CLASSES), batch_size))
    backbone = registry.backbone_spec(name).build(SIDE, 1)
    features = tf.keras.layers.GlobalAveragePooling2D()(backbone.output)
    model = tf.keras.Model(backbone.input, tf.keras.layers.Dense(len(CLASSES))(features))
    if accelerated:
        avx2_layers.accelerate(model)
    optimizer = tf.keras.optimizers.Adam(1e-3)

    @tf.function(autograph=False)
    def step() -> tf.Tensor:
        with tf.GradientTape() as tape:
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, model(faces, training=True))
            loss = tf.reduce_mean(losses)
        optimizer.apply_gradients(zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables))
        return loss

    return step
