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
HPARAMS_METRICS = ("validation_accuracy", "validation_macro_f1", "validation_loss")  # of runs, on the page HParams
MAX_IMAGES = 64  # augmented faces in TensorBoard


class EventWriter:
    """TensorBoard's event files.

    Each method raises UserError where they cannot be written, as on a full disk.
    """

    def __init__(self, folder: str):
        self._folder = folder
        with self._writing():
            self._writer = tf.summary.create_file_writer(folder)

    def experiment(self, experiment: Experiment) -> None:
        """The experiment: as text, and as hyperparameters that the page HParams compares runs by."""
        text = json.dumps(experiment.to_dict(), indent=2)
        fields = flatten(experiment.to_dict())
        with self._writing(0):
            tf.summary.text("config", f"```\n{text}\n```")
            hparams.hparams_config(
                [hparams.HParam(name) for name in fields],
                [hparams.Metric("epoch/" + name, display_name=name.replace("_", " ")) for name in HPARAMS_METRICS],
            )
            hparams.hparams(fields)

    def step(self, step: int, figures: Mapping[str, float]) -> None:
        """Figures by name, of the steps up to this one."""
        with self._writing(step):
            for name, value in figures.items():
                tf.summary.scalar("train/" + name, value)

    def epoch(self, entry: dict[str, Any], score: Score) -> None:
        """The figures of an epoch, the validation split's confusion matrix, and the faces that were mistaken."""
        title = f"validation, epoch {entry['epoch']}"
        with self._writing(entry["step"]):
            for name in EPOCH_SCALARS:
                if entry[name] is not None:
                    tf.summary.scalar("epoch/" + name, entry[name])
            self._picture("confusion_matrix", plots.confusion_matrix(score.confusion, CLASSES, title))
            if score.mistakes is not None and len(score.mistakes.labels):
                total = int(score.confusion.sum() - score.confusion.trace())
                _, images, labels, probabilities = score.mistakes
                self._picture("mistakes", plots.mistakes(images, labels, probabilities, title, total))
            self._writer.flush()

    def augmented(self, images: tf.Tensor, step: int) -> None:
        """A sheet of faces as the model sees them at `step`; images [B, 48, 48, 1] uint8."""
        with self._writing(step):
            tf.summary.image("augmented", tile_images(images[:MAX_IMAGES])[tf.newaxis])

    def close(self) -> None:
        """Writes buffered events and closes the file."""
        with self._writing():
            self._writer.close()

    @staticmethod
    def _picture(name: str, png: bytes) -> None:
        tf.summary.image(name, tf.io.decode_png(png, channels=3)[tf.newaxis])

    @contextlib.contextmanager
    def _writing(self, step: int | None = None) -> Iterator[None]:
        try:
            with contextlib.nullcontext() if step is None else self._writer.as_default(step=step):
                yield
        except (OSError, tf.errors.OpError) as error:
            raise StorageError(
                f"Cannot write TensorBoard's events in {self._folder}: {files.error_message(error)}. The checkpoints "
                "so far are whole; make room and run the same command again."
            ) from error


def tile_images(images: tf.Tensor, columns: int = 8) -> tf.Tensor:
    """Images [B, H, W, C] side by side, [rows * H, columns * W, C]; the last row is filled up with black."""
    count, height, width, channels = images.shape
    padded = tf.pad(images, [[0, -count % columns], [0, 0], [0, 0], [0, 0]])
    rows = padded.shape[0] // columns
    tiles = tf.reshape(padded, [rows, columns, height, width, channels])
    return tf.reshape(tf.transpose(tiles, [0, 2, 1, 3, 4]), [rows * height, columns * width, channels])
