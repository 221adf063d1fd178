"""KerasCV layers behind the interface of our ops, for comparison: `augment.backend = "keras_cv"`.

The layers use TensorFlow's global random state; MixUp and CutMix ignore their seed. A run with this backend is
therefore neither reproducible by its seed nor resumable bit for bit, as runs with the backend `fused` are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

from fer.augment import randaugment
from fer.lazy_modules import keras_cv, tf
from fer.rng import BatchRng

MAX_LEVEL = 255.0


def _randaugment(layers: int, magnitude: float, preset: str) -> tf.keras.layers.Layer:
    """Builds RandAugment; `preset` is ignored, as `grammar.parse` accepts only the paper's, which KerasCV has."""
    return keras_cv.layers.RandAugment(
        value_range=(0, MAX_LEVEL),
        augmentations_per_image=layers,
        magnitude=magnitude / randaugment.MAX_MAGNITUDE,  # KerasCV's highest is 1
    )


# Ops that KerasCV has in nearly the same form.
LAYERS: dict[str, Callable[..., tf.keras.layers.Layer]] = {
    "flip": lambda p: keras_cv.layers.RandomFlip("horizontal", rate=p),
    "randaugment": _randaugment,
    "mixup": lambda alpha: keras_cv.layers.MixUp(alpha),
    "cutmix": lambda alpha: keras_cv.layers.CutMix(alpha),
}


def augmenter(
    operations: Sequence[tuple[str, dict[str, float | str]]],
) -> Callable[[tf.Tensor, tf.Tensor, BatchRng], tuple[tf.Tensor, tf.Tensor]]:
    """Returns a function of (images, targets, rng), as `policy.augmenter` does; `rng` is not used.

    RandAugment needs RGB: the grey channel is repeated three times, and the first channel is the result.

    Args:
      operations: (name, all arguments) pairs, whose names are keys of `LAYERS`.
    """
    with _in_float32():
        layers = [LAYERS[name](**arguments) for name, arguments in operations]

    def augment(images: tf.Tensor, targets: tf.Tensor, rng: BatchRng) -> tuple[tf.Tensor, tf.Tensor]:
        sample = {"images": tf.image.grayscale_to_rgb(tf.cast(images, tf.float32)), "labels": targets}
        for layer in layers:
            sample = layer(sample, training=True)
        grey = tf.round(tf.clip_by_value(sample["images"][..., :1], 0.0, MAX_LEVEL))
        return tf.ensure_shape(tf.cast(grey, images.dtype), images.shape), tf.cast(sample["labels"], tf.float32)

    return tf.autograph.to_graph(augment)  # the project's functions disable autograph, which KerasCV's conditions need


@contextlib.contextmanager
def _in_float32() -> Iterator[None]:
    """Makes layers that are constructed within the context compute in float32, with their sublayers.

    Under mixed precision MixUp would return float16 targets, and RandAugment would fail because its layers mix dtypes.
    """
    policy = tf.keras.mixed_precision.global_policy()
    tf.keras.mixed_precision.set_global_policy("float32")
    try:
        yield
    finally:
        tf.keras.mixed_precision.set_global_policy(policy)
