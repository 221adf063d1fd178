"""Splits as `tf.data.Dataset` of (images, labels) for Keras' `fit`, or as NumPy arrays: `fer.open_dataset`."""

from __future__ import annotations

import functools
import itertools
import os
from typing import TYPE_CHECKING

from fer.config import Data
from fer.data import manifest
from fer.errors import UserError
from fer.lazy_modules import tf

if TYPE_CHECKING:
    import numpy as np

    from fer.data import pipeline


def open_dataset(folder: str | os.PathLike[str], split: str) -> Dataset:
    """Opens a split of a folder of shards.

    Args:
      folder: of scripts/convert.py.
      split: "train", "validation" or "test".

    Raises:
      UserError: the folder has no manifest or no such split, the split has 0 examples, or a shard is missing.
    """
    shards = manifest.read_manifest(os.fspath(folder))
    if not shards.split(split).examples:
        raise UserError(f"The split {split} of {shards.folder} has 0 examples. Open another split.")
    manifest.check_sizes(shards)
    return Dataset(shards, split)


class Dataset:
    """A split of a folder of shards. `open_dataset` creates it.

    Attributes:
      manifest: of the folder.
      name: of the split.
      classes: names of the classes in label order.
      examples: number of examples.
      class_counts: number of examples of each class.
    """

    def __init__(self, shards: manifest.Manifest, split: str):
        self.manifest, self.name = shards, split
        self.classes = shards.classes
        self.examples = shards.split(split).examples
        self.class_counts = shards.split(split).class_counts

    def __repr__(self) -> str:
        return f"fer.open_dataset({self.manifest.folder!r}, {self.name!r})"

    def batches(
        self,
        batch_size: int,
        seed: int = 0,
        *,
        shuffle: bool | None = None,
        one_hot: bool = False,
        with_seed: bool = False,
        first_epoch: int = 0,
    ) -> tf.data.Dataset:
        """Builds a dataset of one epoch for Keras' `fit` and `evaluate`.

        Shuffled batches are those of training: the order is a function of (seed, epoch), and the last partial batch is
        left out, with other examples in each epoch. Every iteration over the dataset is the next epoch, from
        `first_epoch` on, and `fit` iterates once an epoch. Batches that are not shuffled are in the order of the
        shards, the last one smaller.

        Args:
          batch_size: examples per batch.
          seed: of the order and of `with_seed`, an int32.
          shuffle: None shuffles the train split only. The test split is for evaluation: it is never shuffled.
          one_hot: labels float32 [B, C] (`CategoricalCrossentropy`, mixup) instead of int32 [B]
            (`SparseCategoricalCrossentropy`). Models of this package return logits: set `from_logits=True`.
          with_seed: adds a third component, a seed int32 [2], a function of (seed, epoch, step), for `fer.augmenter`.
          first_epoch: number of the first iteration's epoch, as `initial_epoch` of `fit`.

        Returns:
          A finite dataset of (images uint8 [B, 48, 48, 1], labels), of known cardinality.

        Raises:
          UserError: the batch size is below 1 or, shuffled, above the number of examples; the test split is to be
            shuffled; faces have no label; or a shard is damaged.
        """
        shuffle = self.name == "train" if shuffle is None else shuffle
        self._check(batch_size, shuffle)
        classes = len(self.classes)

        @tf.autograph.experimental.do_not_convert
        def with_labels(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return images, tf.one_hot(labels, classes) if one_hot else labels

        steps = self.examples // batch_size if shuffle else -(-self.examples // batch_size)
        found = self._shuffled(batch_size, seed, steps, first_epoch) if shuffle else self._in_order(batch_size)
        found = found.map(with_labels)
        if with_seed:
            found = tf.data.Dataset.zip((found, _seeds(seed, steps, first_epoch))).map(_append)
        return found.apply(tf.data.experimental.assert_cardinality(steps)).prefetch(2)

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Reads the split into memory, in the order of the shards.

        Returns:
          Images uint8 [n, 48, 48, 1] and labels int32 [n]; -1 is unlabelled.

        Raises:
          UserError: a shard is damaged.
        """
        from fer.data import example_codec

        faces = example_codec.read_split(self.manifest, self.name)
        return faces.images, faces.labels

    @functools.cached_property
    def _source(self) -> pipeline.Source:
        from fer.data import pipeline  # loads TensorFlow

        return pipeline.open_split(self.manifest, self.name, Data())

    def _check(self, batch_size: int, shuffle: bool) -> None:
        """Checks the arguments of `batches`.

        Raises:
          UserError: as `batches`.
        """
        unlabelled = self.manifest.split(self.name).unlabelled
        if unlabelled:
            raise UserError(
                f"The split {self.name} of {self.manifest.folder} has {unlabelled:,} faces without a label, which no "
                "loss can use: read it with arrays()."
            )
        if shuffle and self.name == "test":
            raise UserError("The test split is for evaluation only, so its batches cannot be shuffled: omit shuffle.")
        if batch_size < 1 or (shuffle and batch_size > self.examples):
            raise UserError(
                f"batch_size is {batch_size}; it must be 1 to {self.examples}, the examples of {self.name}."
            )

    def _shuffled(self, batch_size: int, seed: int, steps: int, first_epoch: int) -> tf.data.Dataset:
        """Returns the batches of training in the next epoch of each iteration: (images, labels)."""
        from fer.data import pipeline
        from fer.data.sampling import Batch, BatchSchedule

        @tf.autograph.experimental.do_not_convert
        def first_two(batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
            return batch.images, batch.labels

        schedule = BatchSchedule(seed, batch_size, 0, steps, 1, [0], _next_epoch(first_epoch))
        return pipeline.training_batches(self._source, schedule).map(first_two)

    def _in_order(self, batch_size: int) -> tf.data.Dataset:
        """Returns every example once: (images, labels)."""
        from fer.data import pipeline
        from fer.data.sampling import EvalBatch

        @tf.autograph.experimental.do_not_convert
        def without_padding(batch: EvalBatch) -> tuple[tf.Tensor, tf.Tensor]:
            count = tf.cast(tf.reduce_sum(batch.weights), tf.int32)
            return batch.images[:count], batch.labels[:count]

        return pipeline.evaluation_batches(self._source, batch_size).map(without_padding)


def _next_epoch(first: int) -> tf.data.Dataset:
    """Returns a dataset of one epoch number, int64, which is one more in each iteration."""
    numbers = itertools.count(first)
    return tf.data.Dataset.from_generator(lambda: iter([next(numbers)]), output_signature=tf.TensorSpec([], tf.int64))


def _seeds(seed: int, steps: int, first_epoch: int) -> tf.data.Dataset:
    """Returns the seeds of an epoch's steps, int32 [2], as functions of (seed, epoch, step)."""
    from fer import rng

    @tf.autograph.experimental.do_not_convert
    def of_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        base = tf.stack([seed, tf.cast(epoch, tf.int32)])
        return tf.data.Dataset.range(steps).map(lambda step: rng.fold_in(base, tf.cast(step, tf.int32)))

    return _next_epoch(first_epoch).flat_map(of_epoch)


def _append(batch: tuple[tf.Tensor, tf.Tensor], seed: tf.Tensor) -> tuple[tf.Tensor, ...]:
    return (*batch, seed)
