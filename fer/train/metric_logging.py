"""TensorBoard event files of a training run."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf
from PIL import Image
from tensorboard.plugins.hparams import api as hparams
from tensorboard.plugins.image import metadata as image_metadata

from fer.config import Experiment, flatten
from fer.errors import StorageError
from fer.evaluation.metrics import metrics
from fer.io import files
from fer.train.eval_step import Score
from fer.viz import plots

# Scalars of each epoch: field of history.json -> (writer, tag). Training and validation share a tag, and so a chart.
EPOCH_SCALARS = {
    "train_loss": ("train", "epoch/loss"),
    "train_accuracy": ("train", "epoch/accuracy"),
    "input_wait_share": ("train", "epoch/input_wait_share"),
    "validation_loss": ("validation", "epoch/loss"),
    "validation_accuracy": ("validation", "epoch/accuracy"),
    "validation_macro_f1": ("validation", "epoch/macro_f1"),
    "validation_cohen_kappa": ("validation", "epoch/cohen_kappa"),
    "validation_matthews": ("validation", "epoch/matthews"),
}
# Fields that TensorBoard's HParams page compares runs by, and the hyperparameters that it lists first.
HPARAMS_METRICS = ("validation_accuracy", "validation_macro_f1", "validation_loss")
FIRST_HPARAMS = (
    *("model.name", "optimizer.learning_rate", "train.global_batch_size"),
    *("augment.policy", "seed"),
)
MAX_IMAGES = 64  # augmented faces in TensorBoard


class EventWriter:
    """Writer of a run's TensorBoard event files, in the layout of Keras' callback.

    Args:
      folder: of the files.
      classes: their names, in label order.

    The files in train/ and validation/ have the metrics of these splits, those in the folder itself the rest. Each
    method raises StorageError if a file cannot be written, as on a full disk.
    """

    def __init__(self, folder: str, classes: Sequence[str]):
        self._folder, self._classes = folder, classes
        with self._translate_errors():
            self._writers = {
                name: tf.summary.create_file_writer(os.path.join(folder, name)) for name in ("", "train", "validation")
            }

    def write_config(self, experiment: Experiment) -> None:
        """Writes the configuration as text and as hyperparameters for the HParams page."""
        text = json.dumps(experiment.to_dict(), indent=2)
        fields = name_hparams(experiment)
        with self._writing("", 0):
            tf.summary.text("config", f"```\n{text}\n```")
            hparams.hparams_config(
                [hparams.HParam(name, display_name=name.split()[-1]) for name in fields],
                [_make_hparams_metric(name) for name in HPARAMS_METRICS],
            )
            hparams.hparams(fields)

    def write_step(self, step: int, values: Mapping[str, float]) -> None:
        """Writes metrics by name, of the steps up to this one."""
        with self._writing("train", step):
            for name, value in values.items():
                tf.summary.scalar("step/" + name, value)

    def write_epoch(self, entry: dict[str, Any], score: Score) -> None:
        """Writes an epoch's metrics, the validation split's confusion matrix and its most confident mistakes.

        With several workers, the mistakes are those of this worker's part of the split, as their title states.
        """
        title = f"validation, epoch {entry['epoch']}"
        for name, (writer, tag) in EPOCH_SCALARS.items():
            if entry[name] is not None:
                with self._writing(writer, entry["step"]):
                    tf.summary.scalar(tag, entry[name])
        with self._writing("validation", entry["step"]):
            for name, recall in zip(self._classes, metrics.recall(score.confusion)):
                tf.summary.scalar("recall/" + name, recall)
            self._write_image("confusion_matrix", plots.confusion_matrix(score.confusion, self._classes, title))
            if score.mistakes is not None and len(score.mistakes.labels):
                total = int(score.confusion.sum() - score.confusion.trace())
                _, images, labels, probabilities = score.mistakes
                if score.of_one_worker:
                    title += ", faces of one worker"
                picture = plots.mistakes(images, labels, probabilities, self._classes, title, total)
                self._write_image("mistakes", picture)
        with self._translate_errors():
            for each in self._writers.values():
                each.flush()

    def write_augmented_images(self, images: tf.Tensor, step: int) -> None:
        """Writes a sheet of the augmented faces of a step; images [B, 48, 48, 1] uint8."""
        with self._writing("", step):
            tf.summary.image("augmented", tile_images(images[:MAX_IMAGES])[tf.newaxis])

    def close(self) -> None:
        """Writes buffered events and closes the files."""
        with self._translate_errors():
            for writer in self._writers.values():
                writer.close()

    @staticmethod
    def _write_image(name: str, png: bytes) -> None:
        """Writes a PNG as `tf.summary.image` would, which takes pixels and encodes them again."""
        size = [str(side).encode() for side in Image.open(io.BytesIO(png)).size]
        metadata = image_metadata.create_summary_metadata(display_name=None, description="")
        tf.summary.write(name, tf.constant([*size, png]), metadata=metadata)

    @contextlib.contextmanager
    def _writing(self, writer: str, step: int) -> Iterator[None]:
        with self._translate_errors(), self._writers[writer].as_default(step=step):
            yield

    @contextlib.contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, tf.errors.OpError) as error:
            raise StorageError(
                f"Cannot write TensorBoard's events in {self._folder}: {files.error_message(error)}. Free disk space "
                "and run the same command again; the checkpoints so far are complete."
            ) from error


def name_hparams(experiment: Experiment) -> dict[str, Any]:
    """Returns the values of a configuration by their names on the HParams page.

    The page sorts by name, so those of `FIRST_HPARAMS` get a number before their path: "1 model.name". It shows the
    number 64 as 64.000, so integers are text.
    """
    fields = flatten(experiment.to_dict())
    names = {path: f"{number} {path}" for number, path in enumerate(FIRST_HPARAMS, 1)}
    return {names.get(path, path): str(value) if type(value) is int else value for path, value in fields.items()}


def _make_hparams_metric(name: str) -> hparams.Metric:
    writer, tag = EPOCH_SCALARS[name]
    return hparams.Metric(tag, group=writer, display_name=name.replace("_", " "))


def tile_images(images: tf.Tensor, columns: int = 8) -> tf.Tensor:
    """Stitches images [B, H, W, C] into one, [rows * H, columns * W, C]; empty tiles in the last row are black."""
    count, height, width, channels = images.shape
    padded = tf.pad(images, [[0, -count % columns], [0, 0], [0, 0], [0, 0]])
    rows = padded.shape[0] // columns
    tiles = tf.reshape(padded, [rows, columns, height, width, channels])
    return tf.reshape(tf.transpose(tiles, [0, 2, 1, 3, 4]), [rows * height, columns * width, channels])
