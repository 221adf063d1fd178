"""Small experiments and states for the tests of training."""

from __future__ import annotations

import io
import json
import pathlib
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import PIL.Image
import tensorflow as tf

from fer.config import Augment, Experiment, Model, Optimizer, Train
from fer.data import pipeline
from fer.data.example_codec import Faces
from fer.train import device_iterator, soft_labels, train_state, train_step
from fer.train.optim import param_groups
from fer.viz import plots

BATCH = 16

RUN = """
import sys
from fer.config import from_dict
from fer.train import trainer
import json
trainer.train(from_dict(json.loads(sys.argv[1])), sys.argv[2], sys.argv[3], "one")
"""

POISONED = """
import numpy as np
from fer import cli
from scripts import train
from tests.train import factories
factories.poison(setattr, np.load({face!r}))
factories.small_pictures(setattr)
cli.run(train.main)
"""


def experiment(**train) -> Experiment:
    """A run of `tiny` that takes seconds; arguments are fields of `fer.config.Train`."""
    settings = {"global_batch": BATCH, "steps": 4, "checkpoint_steps": 2, "precision": "float32", **train}
    return Experiment(
        model=Model(name="tiny", image_size=24, dropout=0.2, sync_batch_norm=True),
        augment=Augment(policy="flip"),
        optimizer=Optimizer(learning_rate=0.01, warmup_epochs=0.0),
        train=Train(**settings),
    )


def augmented(**train) -> Experiment:
    """As `experiment`, with an augmentation that XLA compiles."""
    settings = experiment(**train)
    settings.augment.policy = "flip|affine(rotate=10,shift=0.05)"
    return settings


def begun(
    strategy: tf.distribute.Strategy, settings: Experiment, faces: Faces, steps: int, weights=None
) -> tuple[train_state.TrainState, Callable[[], None]]:
    """The state before the first step under a strategy, and the function that makes the next one, up to `steps`."""
    epoch_steps = pipeline.steps_per_epoch(faces.examples, settings.train.global_batch)
    made = train_state.create_train_state(strategy, settings, epoch_steps, 1000)
    batches = device_iterator.DeviceIterator(strategy, faces, settings, 0, steps)
    groups = param_groups.set_phase(made.model, settings, head_only=settings.finetune.head_epochs > 0)
    vote_posterior = soft_labels.make_vote_posterior(faces, settings, epoch_steps)
    options = train_step.StepOptions(class_weights=weights, param_groups=groups, vote_posterior=vote_posterior)
    take_step = train_step.make_train_step(strategy, made, settings, options)
    return made, lambda: take_step(next(batches))


def after_steps(
    strategy: tf.distribute.Strategy, settings: Experiment, faces: Faces, steps: int, weights=None
) -> train_state.TrainState:
    """The state after so many training steps under a strategy."""
    found, go = begun(strategy, settings, faces, steps, weights)
    for _ in range(steps):
        go()
    return found


def start(settings, data: str, workdir: pathlib.Path) -> subprocess.Popen:
    """Trains in a process of its own, which can be killed."""
    arguments = [json.dumps(settings.to_dict()), data, str(workdir)]
    return subprocess.Popen([sys.executable, "-c", RUN, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def tuned(monkeypatch) -> list[bool | None]:
    """Whether a thread tunes it, of every iterator that is made from now on; None where TensorFlow is not told."""
    found, begin = [], tf.data.Dataset.__iter__

    def recorded(dataset):
        found.append(dataset.options().autotune.enabled)
        return begin(dataset)

    monkeypatch.setattr(tf.data.Dataset, "__iter__", recorded)
    return found


def face_of(settings: Experiment, faces: Faces, number: int) -> np.ndarray:
    """A face of the batch that step `number` takes, uint8 [48, 48, 1]."""
    batches = pipeline.training_batches(faces, settings.seed, BATCH, number - 1, number, 1, [0])
    return next(iter(batches)).images.numpy()[3]


def small_pictures(replace: Callable[[object, str, object], None]) -> None:
    """Replaces what a run draws after each epoch, 40 % of the time of a short one; `replace` as for `poison`."""
    file = io.BytesIO()
    PIL.Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(file, "PNG")
    for name in ("curves", "confusion_matrix", "mistakes"):
        replace(plots, name, lambda *_: file.getvalue())


def poison(replace: Callable[[object, str, object], None], face: np.ndarray) -> None:
    """Makes the target of a face no number, wherever a step takes it; `replace` is `setattr` or monkeypatch's."""
    healthy = train_step.prepare_inputs

    def poisoned(batch, *arguments):
        inputs = healthy(batch, *arguments)
        here = tf.reduce_all(batch.images == face, axis=[1, 2, 3])
        return inputs._replace(targets=tf.where(here[:, tf.newaxis], np.nan, inputs.targets))

    replace(train_step, "prepare_inputs", poisoned)


def final_state(workdir: pathlib.Path, step: int) -> dict[str, np.ndarray]:
    reader = tf.train.load_checkpoint(str(workdir / "checkpoints" / f"step-{step:08d}" / "state"))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map() if name[0] != "_"}
