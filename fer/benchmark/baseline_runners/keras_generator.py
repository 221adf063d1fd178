"""Trains with Keras' fit and ImageDataGenerator, as most published notebooks for FER-2013."""

from __future__ import annotations

import keras_network
import numpy as np
import runner
import tensorflow as tf


def train(task: runner.Task, training: runner.Split, validation: runner.Split, weights: str) -> runner.Classifier:
    """Trains with rotation, shift, zoom and flip; see `runner.run`."""
    generator = tf.keras.preprocessing.image.ImageDataGenerator(
        rescale=1 / 255,
        rotation_range=runner.ROTATION,
        width_shift_range=runner.SHIFT,
        height_shift_range=runner.SHIFT,
        zoom_range=runner.SCALE,
        horizontal_flip=True,
    )
    targets, expected = (tf.keras.utils.to_categorical(each.labels, runner.CLASSES) for each in (training, validation))
    held_out = validation.images.astype(np.float32) / 255
    network = keras_network.build(task.network)
    network.fit(
        generator.flow(training.images.astype(np.float32), targets, batch_size=task.batch_size),
        epochs=task.epochs,
        validation_data=(held_out, expected),
        callbacks=[keras_network.save_best(weights)],
        verbose=2,
    )

    def predict(images: np.ndarray) -> np.ndarray:
        return network.predict(images.astype(np.float32) / 255, verbose=0).argmax(1)

    return runner.Classifier(predict, network.count_params())


if __name__ == "__main__":
    runner.run(train)
