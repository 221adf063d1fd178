"""Parser and builder of augmentation policies.

A policy is one string, for example

    flip|affine(rotate=15,scale=0.1)|randaugment(layers=2,magnitude=9)|erase(p=0.25)|choose(mixup(0.2),cutmix(1.0))

Ops apply in the order in which they stand, separated by "|". (Within randaugment and augmix the order is geometric,
sharpness, tone.) The arguments of an op are the parameters of its function, by name or by position. The string is
parsed strictly before a run starts (`fer.augment.grammar`), and recorded with the run.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

from fer.augment import augmix, mixup, ops, random_erasing, xla_support
from fer.augment.grammar import Operation, parse
from fer.lazy_modules import tf
from fer.rng import BatchRng

# (rng, side, **arguments) -> LazyOp
SINGLE_IMAGE_OPS: dict[str, Callable[..., ops.LazyOp]] = {
    "flip": ops.flip,
    "affine": ops.affine,
    "crop": ops.crop,
    "brightness": ops.brightness,
    "contrast": ops.contrast,
    "gamma": ops.gamma,
    "solarize": ops.solarize,
    "posterize": ops.posterize,
    "invert": ops.invert,
    "autocontrast": ops.autocontrast,
    "equalize": ops.equalize,
    "sharpen": ops.sharpen,
    "blur": ops.blur,
    "randaugment": ops.apply_randaugment,
}
_ImageOp = Callable[..., "tf.Tensor"]
ERASE_OPS: dict[str, _ImageOp] = {"erase": random_erasing.erase}  # (images, rng, **arguments) -> images
SELF_MIX_OPS: dict[str, _ImageOp] = {"augmix": augmix.augmix}  # (images, rng, **arguments) -> images
# (images, rng, **arguments) -> own weights of the pixels
MIX_OPS: dict[str, _ImageOp] = {"mixup": mixup.mixup, "cutmix": mixup.cutmix}
ALL_OPS = {**SINGLE_IMAGE_OPS, **ERASE_OPS, **SELF_MIX_OPS, **MIX_OPS}

# (images uint8 [B, H, W, 1], targets float32 [B, 7], rng) -> augmented images and targets
Augmenter = Callable[["tf.Tensor", "tf.Tensor", BatchRng], "tuple[tf.Tensor, tf.Tensor]"]


def augmenter(policy: str, mix: bool = True, xla: bool = False, engine: str = "fused") -> Augmenter:
    """Builds the function that a policy describes, a pure function of images, targets and rng.

    Consecutive single-image ops are combined into one warp, one smoothing and one table (see `ops.apply`).

    Args:
      policy: see the module's docstring.
      mix: False leaves out mixup and cutmix, as in the last epochs of a run.
      xla: for callers under `jit_compile`; see `fer.augment.xla_support`.
      engine: one of `fer.config.BACKENDS`.

    Raises:
      UserError: as `parse`.
    """
    numbered = [(salt, each) for salt, each in enumerate(parse(policy, engine)) if mix or not each.mixes]
    if engine == "keras_cv":
        from fer.augment import keras_cv_backend  # imported here: importing KerasCV takes seconds

        return keras_cv_backend.augmenter([(each.name, each.arguments) for _, each in numbered])
    stages = [(kind, list(members)) for kind, members in itertools.groupby(numbered, lambda pair: _op_kind(pair[1]))]

    def augment(images: tf.Tensor, targets: tf.Tensor, rng: BatchRng) -> tuple[tf.Tensor, tf.Tensor]:
        with xla_support.under_xla(xla):
            for kind, members in stages:
                images, targets = _apply_stage(kind, members, images, targets, rng)
        return images, targets

    return augment


def _apply_stage(
    kind: str, members: list[tuple[int, Operation]], images: tf.Tensor, targets: tf.Tensor, rng: BatchRng
) -> tuple[tf.Tensor, tf.Tensor]:
    if kind == "single":
        changes, side = [], images.shape[1]
        for salt, each in members:
            changes.append(SINGLE_IMAGE_OPS[each.name](rng.fold_in(salt), side, **each.arguments))
            side = changes[-1].side or side
        return ops.apply(images, changes), targets
    for salt, each in members:
        if kind == "erase":
            images = ERASE_OPS[each.name](images, rng.fold_in(salt), **each.arguments)
        elif kind == "self_mix":
            images = SELF_MIX_OPS[each.name](images, rng.fold_in(salt), **each.arguments)
        else:
            images, targets = mixup.mix(images, targets, _own_weights(each, images, rng.fold_in(salt)))
    return images, targets


def _op_kind(operation: Operation) -> str:
    kinds: dict[str, dict] = {"single": SINGLE_IMAGE_OPS, "erase": ERASE_OPS, "self_mix": SELF_MIX_OPS}
    return next((kind for kind, members in kinds.items() if operation.name in members), "mix")


def _own_weights(operation: Operation, images: tf.Tensor, rng: BatchRng) -> tf.Tensor:
    """Returns the own weight of each pixel, see `mixup.mix`; with choose(...), each image draws one op."""
    if not operation.choices:
        return MIX_OPS[operation.name](images, rng, **operation.arguments)
    keeps = [_own_weights(choice, images, rng.fold_in(number)) for number, choice in enumerate(operation.choices)]
    chosen = tf.floor(rng.uniform(1)[:, 0] * len(keeps))
    keep = keeps[0]
    for number, other in enumerate(keeps[1:], start=1):
        keep = tf.where(tf.equal(chosen, float(number))[:, tf.newaxis, tf.newaxis, tf.newaxis], other, keep)
    return keep
