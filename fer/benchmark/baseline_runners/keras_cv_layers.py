"""Trains with Keras' fit, tf.data and the layers RandAugment and MixUp of KerasCV."""

from __future__ import annotations

import keras_cv
import keras_network
import numpy as np
import runner
import tensorflow as tf


def train(task: runner.Task, training: runner.Split, validation: runner.Split, weights: str) -> runner.Classifier:
    """Trains with flip, RandAugment(2, 9) and MixUp; see `runner.run`."""
    layers = [
        keras_cv.layers.RandomFlip("horizontal"),
        # The highest magnitude is 10 in the paper and 1 in KerasCV.
        keras_cv.layers.RandAugment(value_range=(0, 255), augmentations_per_image=2, magnitude=0.9),
        keras_cv.layers.MixUp(runner.MIXUP_ALPHA),
    ]

    def augment(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # RandAugment needs RGB images, MixUp needs float labels.
        sample = {"images": tf.image.grayscale_to_rgb(tf.cast(images, tf.float32)), "labels": one_hot(labels)}
        for layer in layers:
            sample = layer(sample, training=True)
        return sample["images"][..., :1] / 255, sample["labels"]

    def one_hot(labels: tf.Tensor) -> tf.Tensor:
        return tf.one_hot(labels, runner.CLASSES)

    batches = (
        tf.data.Dataset.from_tensor_slices(tuple(training))
        .shuffle(len(training.labels))
        .batch(task.batch_size)
        .map(augment, num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(tf.data.AUTOTUNE)
    )
    held_out = (
        tf.data.Dataset.from_tensor_slices(tuple(validation))
        .batch(task.batch_size)
        .map(lambda images, labels: (tf.cast(images, tf.float32) / 255, one_hot(labels)))
        .prefetch(tf.data.AUTOTUNE)
    )
    network = keras_network.build(task.network)
    save_best = keras_network.save_best(weights)
    network.fit(batches, epochs=task.epochs, validation_data=held_out, callbacks=[save_best], verbose=2)

    def predict(images: np.ndarray) -> np.ndarray:
        return network.predict(images.astype(np.float32) / 255, verbose=0).argmax(1)

    return runner.Classifier(predict, network.count_params())


if __name__ == "__main__":
    runner.run(train)
