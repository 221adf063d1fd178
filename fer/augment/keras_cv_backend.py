"""KerasCV's layers behind the call of our own operations, to compare with: `augment.engine = "keras_cv"`.

They draw from TensorFlow's global state, MixUp and CutMix whatever seed they are given. So a run with this engine is
not repeated by its seed, nor continued bit for bit; `fused` is the engine that keeps those promises.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import keras_cv
import tensorflow as tf

from fer.rng import BatchRng

MAX_MAGNITUDE = 10  # ours; KerasCV's is 1
TOP = 255.0


def _randaugment(layers: float = 2, magnitude: float = 9.0, preset: str = "paper") -> tf.keras.layers.Layer:
    """KerasCV has the paper's set alone: `policy` refuses another preset."""
    return keras_cv.layers.RandAugment(
        value_range=(0, TOP),
        augmentations_per_image=int(layers),
        magnitude=magnitude / MAX_MAGNITUDE,
    )


LAYERS: dict[str, Callable[..., tf.keras.layers.Layer]] = {
    "flip": lambda p=0.5: keras_cv.layers.RandomFlip("horizontal", rate=p),
    "randaugment": _randaugment,
    "mixup": lambda alpha=0.2: keras_cv.layers.MixUp(alpha),
    "cutmix": lambda alpha=1.0: keras_cv.layers.CutMix(alpha),
}


def augmenter(
    operations: Sequence[tuple[str, dict[str, float | str]]],
) -> Callable[[tf.Tensor, tf.Tensor, BatchRng], tuple[tf.Tensor, tf.Tensor]]:
    """A function of images, targets and draws as `policy.augmenter` returns it; the draws are not used.

    RandAugment wants colours, so grey becomes red, green and blue alike, and the first of them is the answer.

    Args:
      operations: (name, arguments) pairs, whose names are keys of `LAYERS`.
    """
    with _in_float32():
        layers = [LAYERS[name](**arguments) for name, arguments in operations]

    def augment(images: tf.Tensor, targets: tf.Tensor, rng: BatchRng) -> tuple[tf.Tensor, tf.Tensor]:
        sample = {"images": tf.image.grayscale_to_rgb(tf.cast(images, tf.float32)), "labels": targets}
        for layer in layers:
            sample = layer(sample, training=True)
        grey = tf.round(tf.clip_by_value(sample["images"][..., :1], 0.0, TOP))
        return tf.ensure_shape(tf.cast(grey, images.dtype), images.shape), tf.cast(sample["labels"], tf.float32)

    return tf.autograph.to_graph(augment)  # in our functions it is off, and KerasCV's conditions are written for it


@contextlib.contextmanager
def _in_float32() -> Iterator[None]:
    """Layers made here compute in float32, also those that they make themselves and give no dtype on to.

    Under mixed precision MixUp would make the targets float16, and RandAugment would stop: its parts disagree.
    """
    policy = tf.keras.mixed_precision.global_policy()
    tf.keras.mixed_precision.set_global_policy("float32")
    try:
        yield
    finally:
        tf.keras.mixed_precision.set_global_policy(policy)
