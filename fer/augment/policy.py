"""Parser and builder of augmentation policies.

A policy is one string, for example

    flip|affine(rotate=15,scale=0.1)|randaugment(layers=2,magnitude=9)|erase(p=0.25)|choose(mixup(0.2),cutmix(1.0))

Operations stand in the order in which they apply, separated by "|". (Within randaugment and augmix it is geometry,
sharpness, tone.) What an operation may be told is the parameters of its function, by name or in their order. The
string is parsed strictly, before a run starts (`fer.augment.grammar`), and recorded with it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import tensorflow as tf

from fer.augment import augmix, mixup, ops, random_erasing
from fer.augment.grammar import Operation, parse
from fer.rng import BatchRng

# (rng, side, **arguments) -> Change
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
_ImageOp = Callable[..., tf.Tensor]
ERASE_OPS: dict[str, _ImageOp] = {"erase": random_erasing.erase}  # (images, rng, **arguments) -> images
SELF_MIX_OPS: dict[str, _ImageOp] = {"augmix": augmix.augmix}  # (images, rng, **arguments, xla) -> images
# (images, rng, **arguments) -> what each pixel keeps
MIX_OPS: dict[str, _ImageOp] = {"mixup": mixup.mixup, "cutmix": mixup.cutmix}
KNOWN = {**SINGLE_IMAGE_OPS, **ERASE_OPS, **SELF_MIX_OPS, **MIX_OPS}

# (images uint8 [B, H, W, 1], targets float32 [B, 7], rng) -> the same, changed
Augmenter = Callable[[tf.Tensor, tf.Tensor, BatchRng], "tuple[tf.Tensor, tf.Tensor]"]


def augmenter(policy: str, mix: bool = True, xla: bool = False, engine: str = "fused") -> Augmenter:
    """The function that a policy describes, pure in images, targets and rng.

    Operations that change images one by one, and follow each other in this order, are one warp, one smoothing and one
    table.

    Args:
      policy: see the head of this file.
      mix: False leaves out mixup and cutmix, as at the end of a run.
      xla: for callers under `jit_compile`; see `device`.
      engine: one of `fer.config.ENGINES`.

    Raises:
      UserError: see `parse`.
    """
    numbered = [(salt, each) for salt, each in enumerate(parse(policy, engine)) if mix or not each.mixes]
    if engine == "keras_cv":
        from fer.augment import keras_cv_backend  # importing KerasCV takes seconds, which other runs need not spend

        return keras_cv_backend.augmenter([(each.name, each.arguments) for _, each in numbered])
    stages = [(kind, list(members)) for kind, members in itertools.groupby(numbered, lambda pair: _kind(pair[1]))]

    def augment(images: tf.Tensor, targets: tf.Tensor, rng: BatchRng) -> tuple[tf.Tensor, tf.Tensor]:
        for kind, members in stages:
            if kind == "single":
                changes, side = [], images.shape[1]
                for salt, each in members:
                    changes.append(SINGLE_IMAGE_OPS[each.name](rng.fold_in(salt), side, **each.arguments))
                    side = changes[-1].side or side
                images = ops.apply(images, changes, xla)
                continue
            for salt, each in members:
                if kind == "covering":
                    images = ERASE_OPS[each.name](images, rng.fold_in(salt), **each.arguments)
                elif kind == "copying":
                    images = SELF_MIX_OPS[each.name](images, rng.fold_in(salt), **each.arguments, xla=xla)
                else:
                    images, targets = mixup.mix(images, targets, _keep(each, images, rng.fold_in(salt)))
        return images, targets

    return augment


def _kind(operation: Operation) -> str:
    kinds: dict[str, dict] = {"single": SINGLE_IMAGE_OPS, "covering": ERASE_OPS, "copying": SELF_MIX_OPS}
    return next((kind for kind, members in kinds.items() if operation.name in members), "mixing")


def _keep(operation: Operation, images: tf.Tensor, rng: BatchRng) -> tf.Tensor:
    """What each pixel keeps of itself, see `mixing.mix`; of choose(...), each image draws one."""
    if not operation.choices:
        return MIX_OPS[operation.name](images, rng, **operation.arguments)
    keeps = [_keep(choice, images, rng.fold_in(number)) for number, choice in enumerate(operation.choices)]
    chosen = tf.floor(rng.uniform(1)[:, 0] * len(keeps))
    keep = keeps[0]
    for number, other in enumerate(keeps[1:], start=1):
        keep = tf.where(tf.equal(chosen, float(number))[:, tf.newaxis, tf.newaxis, tf.newaxis], other, keep)
    return keep
