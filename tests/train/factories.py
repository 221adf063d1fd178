"""Builds small experiments and training states for tests."""

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
from fer.data.sampling import BatchSchedule
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
factories.replace_plots(setattr)
cli.run(train.main)
"""


def experiment(**train) -> Experiment:
    """Returns the experiment of a run of `tiny` that takes seconds; `train` are fields of `fer.config.Train`."""
    settings = {"global_batch_size": BATCH, "max_steps": 4, "save_every_steps": 2, "precision": "float32", **train}
    return Experiment(
        model=Model(name="tiny", image_size=24, dropout=0.2, sync_batch_norm=True),
        augment=Augment(policy="flip"),
        optimizer=Optimizer(learning_rate=0.01, warmup_epochs=0.0),
        train=Train(**settings),
    )


def augmented_experiment(**train) -> Experiment:
    """Returns `experiment` with an augmentation policy that XLA compiles."""
    settings = experiment(**train)
    settings.augment.policy = "flip|affine(rotate=10,shift=0.05)"
    return settings


def begin_training(
    strategy: tf.distribute.Strategy, settings: Experiment, faces: Faces, steps: int, weights=None
) -> tuple[train_state.TrainState, Callable[[], None]]:
    """Returns the state before the first step and a function that takes the next step, at most `steps` times."""
    epoch_steps = pipeline.steps_per_epoch(faces.examples, settings.train.global_batch_size)
    state = train_state.create_train_state(strategy, settings, epoch_steps, 1000)
    batches = device_iterator.DeviceIterator(strategy, faces, settings, 0, steps)
    groups = param_groups.set_phase(state.model, settings, head_only=settings.finetune.head_only_epochs > 0)
    vote_posterior = soft_labels.make_vote_posterior(faces, settings, epoch_steps, 7)
    context = train_step.StepContext(
        strategy, state, settings, class_weights=weights, param_groups=groups, vote_posterior=vote_posterior
    )
    step = train_step.make_train_step(context)
    return state, lambda: step(next(batches))


def train_steps(
    strategy: tf.distribute.Strategy, settings: Experiment, faces: Faces, steps: int, weights=None
) -> train_state.TrainState:
    """Returns the state after `steps` training steps."""
    state, take_step = begin_training(strategy, settings, faces, steps, weights)
    for _ in range(steps):
        take_step()
    return state


def start_training(settings, data: str, workdir: pathlib.Path) -> subprocess.Popen:
    """Starts a training run in a separate process, which a test can kill."""
    arguments = [json.dumps(settings.to_dict()), data, str(workdir)]
    return subprocess.Popen([sys.executable, "-c", RUN, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def record_autotune(monkeypatch) -> list[bool | None]:
    """Records the option autotune.enabled of each dataset iterated from now on; None is TensorFlow's default."""
    found, begin = [], tf.data.Dataset.__iter__

    def record(dataset):
        found.append(dataset.options().autotune.enabled)
        return begin(dataset)

    monkeypatch.setattr(tf.data.Dataset, "__iter__", record)
    return found


def select_face(settings: Experiment, faces: Faces, number: int) -> np.ndarray:
    """Returns one face of the batch of step `number`, uint8 [48, 48, 1]."""
    batches = pipeline.training_batches(faces, BatchSchedule(settings.seed, BATCH, number - 1, number, 1, [0]))
    return next(iter(batches)).images.numpy()[3]


def replace_plots(replace: Callable[[object, str, object], None]) -> None:
    """Replaces the plots after each epoch, 40 % of the time of a short run; `replace` as for `poison`."""
    file = io.BytesIO()
    PIL.Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(file, "PNG")
    for name in ("curves", "confusion_matrix", "mistakes"):
        replace(plots, name, lambda *_: file.getvalue())


def poison(replace: Callable[[object, str, object], None], face: np.ndarray) -> None:
    """Sets the target of a face to NaN in every step; `replace` is `setattr` or that of monkeypatch."""
    original = train_step.prepare_inputs

    def poisoned(context, batch, seed):
        inputs = original(context, batch, seed)
        here = tf.reduce_all(batch.images == face, axis=[1, 2, 3])
        return inputs._replace(targets=tf.where(here[:, tf.newaxis], np.nan, inputs.targets))

    replace(train_step, "prepare_inputs", poisoned)


def final_state(workdir: pathlib.Path, step: int) -> dict[str, np.ndarray]:
    """Returns the tensors of the checkpoint of a step by name."""
    reader = tf.train.load_checkpoint(str(workdir / "checkpoints" / f"step-{step:08d}" / "state"))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map() if name[0] != "_"}
