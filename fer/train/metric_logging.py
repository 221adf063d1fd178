"""TensorBoard event files of a training run."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams

from fer.config import Experiment, flatten
from fer.errors import StorageError
from fer.io import files
from fer.labels import CLASSES
from fer.train.eval_step import Score
from fer.viz import plots

EPOCH_SCALARS = (
    "train_loss",
    "train_accuracy",
    "validation_loss",
    "validation_accuracy",
    "validation_macro_f1",
    "validation_cohen_kappa",
    "validation_matthews",
    "input_wait_share",
)
HPARAMS_METRICS = (
    "validation_accuracy",
    "validation_macro_f1",
    "validation_loss",
)  # that TensorBoard's HParams page compares runs by
MAX_IMAGES = 64  # augmented faces in TensorBoard


class EventWriter:
    """Writer of a run's TensorBoard event files.

    Each method raises StorageError if they cannot be written, as on a full disk.
    """

    def __init__(self, folder: str):
        self._folder = folder
        with self._writing():
            self._writer = tf.summary.create_file_writer(folder)

    def write_config(self, experiment: Experiment) -> None:
        """Writes the configuration as text and as hyperparameters for the HParams page."""
        text = json.dumps(experiment.to_dict(), indent=2)
        fields = flatten(experiment.to_dict())
        with self._writing(0):
            tf.summary.text("config", f"```\n{text}\n```")
            hparams.hparams_config(
                [hparams.HParam(name) for name in fields],
                [hparams.Metric("epoch/" + name, display_name=name.replace("_", " ")) for name in HPARAMS_METRICS],
            )
            hparams.hparams(fields)

    def write_step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Writes metrics by name, of the steps up to this one."""
        with self._writing(step):
            for name, value in metrics.items():
                tf.summary.scalar("train/" + name, value)

    def write_epoch(self, entry: dict[str, Any], score: Score) -> None:
        """Writes an epoch's metrics, the validation split's confusion matrix and its most confident mistakes."""
        title = f"validation, epoch {entry['epoch']}"
        with self._writing(entry["step"]):
            for name in EPOCH_SCALARS:
                if entry[name] is not None:
                    tf.summary.scalar("epoch/" + name, entry[name])
            self._write_image("confusion_matrix", plots.confusion_matrix(score.confusion, CLASSES, title))
            if score.mistakes is not None and len(score.mistakes.labels):
                total = int(score.confusion.sum() - score.confusion.trace())
                _, images, labels, probabilities = score.mistakes
                self._write_image("mistakes", plots.mistakes(images, labels, probabilities, title, total))
            self._writer.flush()

    def write_augmented_images(self, images: tf.Tensor, step: int) -> None:
        """Writes a sheet of the augmented faces of a step; images [B, 48, 48, 1] uint8."""
        with self._writing(step):
            tf.summary.image("augmented", tile_images(images[:MAX_IMAGES])[tf.newaxis])

    def close(self) -> None:
        """Writes buffered events and closes the file."""
        with self._writing():
            self._writer.close()

    @staticmethod
    def _write_image(name: str, png: bytes) -> None:
        tf.summary.image(name, tf.io.decode_png(png, channels=3)[tf.newaxis])

    @contextlib.contextmanager
    def _writing(self, step: int | None = None) -> Iterator[None]:
        try:
            with contextlib.nullcontext() if step is None else self._writer.as_default(step=step):
                yield
        except (OSError, tf.errors.OpError) as error:
            raise StorageError(
                f"Cannot write TensorBoard's events in {self._folder}: {files.error_message(error)}. Free disk space "
                "and run the same command again; the checkpoints so far are complete."
            ) from error


def tile_images(images: tf.Tensor, columns: int = 8) -> tf.Tensor:
    """Stitches images [B, H, W, C] into one, [rows * H, columns * W, C]; empty tiles in the last row are black."""
    count, height, width, channels = images.shape
    padded = tf.pad(images, [[0, -count % columns], [0, 0], [0, 0], [0, 0]])
    rows = padded.shape[0] // columns
    tiles = tf.reshape(padded, [rows, columns, height, width, channels])
    return tf.reshape(tf.transpose(tiles, [0, 2, 1, 3, 4]), [rows * height, columns * width, channels])
