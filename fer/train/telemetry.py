"""What a person sees of a run while it goes on: TensorBoard, a progress bar or plain lines."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
from tqdm import tqdm

from fer.evaluation import plots
from fer.labels import CLASSES
from fer.train.validation import Score

EPOCH_SCALARS = (
    "train_loss",
    "train_accuracy",
    "validation_loss",
    "validation_accuracy",
    "validation_macro_f1",
    "input_wait_share",
)
SHOWN = 64  # augmented faces in TensorBoard
QUIET = 60.0  # seconds between two plain lines where there is no terminal


class Progress:
    """Tells how far a run is: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, total_steps: int, done: int, global_batch: int):
        self._global_batch, self._total = global_batch, total_steps
        self._bar = tqdm(total=total_steps, initial=done, unit="step", disable=not sys.stderr.isatty())
        self._told, self._told_step = time.monotonic(), done

    def steps(self, step: int, loss: float, accuracy: float, input_wait_share: float) -> None:
        """Step `step` is done; the figures are those of the epoch so far, the share that of time spent waiting."""
        self._bar.update(step - self._bar.n)
        self._bar.set_postfix(loss=f"{loss:.3f}", accuracy=f"{accuracy:.3f}", waiting=f"{input_wait_share:.1%}")
        now = time.monotonic()
        if self._bar.disable and now - self._told > QUIET:
            rate = (step - self._told_step) * self._global_batch / (now - self._told)
            left = (self._total - step) * self._global_batch / rate / 60
            print(
                f"step {step} of {self._total}: loss {loss:.3f}, accuracy {accuracy:.3f}, "
                f"{rate:.0f} images/s, {input_wait_share:.1%} waiting for input, {left:.0f} min left",
                flush=True,
            )
            self._told, self._told_step = now, step

    def epoch(self, entry: dict[str, Any], best: bool) -> None:
        """An epoch is over."""
        line = (
            f"epoch {entry['epoch']}: train loss {entry['train_loss']:.3f}, "
            f"validation loss {entry['validation_loss']:.3f}, accuracy {entry['validation_accuracy']:.4f}, "
            f"macro F1 {entry['validation_macro_f1']:.4f}, {entry['images_per_second']:.0f} images/s, "
            f"{entry['input_wait_share']:.1%} waiting for input" + (" (best so far)" if best else "")
        )
        self._bar.write(line, file=sys.stdout)
        sys.stdout.flush()
        self._told, self._told_step = time.monotonic(), entry["step"]

    def close(self) -> None:
        self._bar.close()


class Events:
    """TensorBoard's event files."""

    def __init__(self, folder: str):
        self._writer = tf.summary.create_file_writer(folder)

    def config(self, text: str) -> None:
        """The experiment, as it was asked for."""
        with self._writer.as_default(step=0):
            tf.summary.text("config", f"```\n{text}\n```")

    def step(self, step: int, figures: Mapping[str, float]) -> None:
        """Figures by name, of the steps up to this one."""
        with self._writer.as_default(step=step):
            for name, value in figures.items():
                tf.summary.scalar("train/" + name, value)

    def epoch(self, entry: dict[str, Any], score: Score) -> None:
        """The figures of an epoch and the confusion matrix of the validation split."""
        title = f"validation, epoch {entry['epoch']}"
        with self._writer.as_default(step=entry["step"]):
            for name in EPOCH_SCALARS:
                tf.summary.scalar("epoch/" + name, entry[name])
            picture = tf.io.decode_png(plots.confusion_matrix(score.confusion, CLASSES, title), channels=3)
            tf.summary.image("confusion_matrix", picture[tf.newaxis])
        self._writer.flush()

    def augmented(self, images: tf.Tensor, step: int) -> None:
        """A sheet of faces as the model sees them at `step`; images [B, 48, 48, 1] uint8."""
        with self._writer.as_default(step=step):
            tf.summary.image("augmented", sheet(images[:SHOWN])[tf.newaxis])

    def close(self) -> None:
        self._writer.close()


def sheet(images: tf.Tensor, columns: int = 8) -> tf.Tensor:
    """Images [B, H, W, C] side by side, [rows * H, columns * W, C]; the last row is filled up with black."""
    count, height, width, channels = images.shape
    padded = tf.pad(images, [[0, -count % columns], [0, 0], [0, 0], [0, 0]])
    rows = padded.shape[0] // columns
    tiles = tf.reshape(padded, [rows, columns, height, width, channels])
    return tf.reshape(tf.transpose(tiles, [0, 2, 1, 3, 4]), [rows * height, columns * width, channels])
