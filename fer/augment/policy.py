"""Executor of augmentation policies.

A policy is one string, for example

    flip|affine(rotate=15,scale=0.1)|randaugment(layers=2,magnitude=9)|erase(p=0.25)|choose(mixup(0.2),cutmix(1.0))

Ops apply in the order in which they stand, separated by "|". (Within randaugment and augmix the order is geometric,
sharpness, tone.) The arguments of an op are the parameters of its function, by name or by position; its decorator has
their bounds (`fer.augment.registry`). The string is parsed strictly before a run starts (`fer.augment.grammar`), and
recorded with the run.
"""

from __future__ import annotations

from collections.abc import Callable

from fer.augment import keras_cv_backend, mixup, ops, registry, xla_support
from fer.augment.grammar import Operation, parse
from fer.lazy_modules import tf
from fer.rng import BatchRng

# (images uint8 [B, H, W, 1], targets float32 [B, C], rng) -> augmented images and targets
Augmenter = Callable[["tf.Tensor", "tf.Tensor", BatchRng], "tuple[tf.Tensor, tf.Tensor]"]


def augmenter(policy: str, mix: bool = True, xla: bool = False, backend: str = "fused") -> Augmenter:
    """Builds the function that a policy describes, a pure function of images, targets and rng.

    Args:
      policy: see the module's docstring.
      mix: False leaves out mixup and cutmix, as in the last epochs of a run.
      xla: for callers under `jit_compile`; see `fer.augment.xla_support`.
      backend: a value of `config.augment.backend`.

    Raises:
      UserError: as `parse`.
    """
    numbered = [(salt, each) for salt, each in enumerate(parse(policy, backend)) if mix or each.kind != "mix"]
    if backend == "keras_cv":
        return keras_cv_backend.augmenter([(each.name, each.all_arguments()) for _, each in numbered])
    stages = _group(numbered)

    @xla_support.cluster_on_gpu
    def apply(images: tf.Tensor, targets: tf.Tensor, rng: BatchRng) -> tuple[tf.Tensor, tf.Tensor]:
        for stage in stages:
            salt, first = stage[0]
            if registry.KINDS[first.kind].fields:
                images = ops.apply(images, _draw(stage, images.shape[1], rng))
            elif first.kind == "pixel":
                images = first.call(images, rng.fold_in(salt))
            else:
                images, targets = mixup.mix(images, targets, _own_weights(first, images, rng.fold_in(salt)))
        return images, targets

    def augment(images: tf.Tensor, targets: tf.Tensor, rng: BatchRng) -> tuple[tf.Tensor, tf.Tensor]:
        with xla_support.under_xla(xla):
            return apply(images, targets, rng)

    return augment


_Stage = list[tuple[int, Operation]]  # (salt, op) pairs


def _group(numbered: _Stage) -> list[_Stage]:
    """Groups consecutive ops that `ops.apply` can combine, because each follows the one before in its order of passes.

    An op that is not lazy is a stage of its own.
    """
    stages: list[_Stage] = []
    last_pass = not_lazy = len(registry.FIELDS)
    for pair in numbered:
        fields = registry.KINDS[pair[1].kind].fields
        if fields and registry.FIELDS.index(fields[0]) >= last_pass:
            stages[-1].append(pair)
        else:
            stages.append([pair])
        last_pass = registry.FIELDS.index(fields[-1]) if fields else not_lazy
    return stages


def _draw(stage: _Stage, side: int, rng: BatchRng) -> list[ops.LazyOp]:
    """Draws the random numbers of lazy ops for images of `side` pixels."""
    changes: list[ops.LazyOp] = []
    for salt, each in stage:
        change = each.call(rng.fold_in(salt), side)
        made = tuple(name for name in registry.FIELDS if getattr(change, name) is not None)
        if made != registry.KINDS[each.kind].fields:
            raise TypeError(f"The op {each.name} of the kind {each.kind} changes {', '.join(made) or 'nothing'}.")
        side = change.side or side
        changes.append(change)
    return changes


def _own_weights(operation: Operation, images: tf.Tensor, rng: BatchRng) -> tf.Tensor:
    """Returns the own weight of each pixel, see `mixup.mix`; with choose(...), each image draws one op."""
    if not operation.choices:
        return operation.call(images, rng)
    keeps = [_own_weights(choice, images, rng.fold_in(number)) for number, choice in enumerate(operation.choices)]
    chosen = tf.floor(rng.uniform(1)[:, 0] * len(keeps))
    keep = keeps[0]
    for number, other in enumerate(keeps[1:], start=1):
        keep = tf.where(tf.equal(chosen, float(number))[:, tf.newaxis, tf.newaxis, tf.newaxis], other, keep)
    return keep
