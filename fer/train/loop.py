"""A run from its first step, or from where it was stopped, to its last."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from fer.augment import policy
from fer.config import Experiment
from fer.data import manifest, pipeline, records
from fer.data.pipeline import Batch
from fer.errors import UserError
from fer.train import checkpoints, devices, runfolder, state, step, telemetry, validation
from fer.train.runfolder import RunFolder

LOOK = 20  # steps between two looks at the loss: each look waits for the device


def train(experiment: Experiment, data: str, workdir: str, strategy: str) -> None:
    """Trains `experiment` on the shards in `data`; the same call goes on where a killed one stopped.

    Args:
      experiment: validated.
      data: a folder that scripts/convert.py wrote.
      workdir: the run folder.
      strategy: one of `fer.train.devices.STRATEGIES`.

    Raises:
      UserError: the data, the folder, the devices or the experiment cannot be used; see the functions called.
    """
    policy.parse(experiment.augment.policy)  # a fault in it is told before anything is read
    shards = manifest.read(data).without_test()
    manifest.check_sizes(shards)
    folder = runfolder.open_folder(workdir, experiment, shards)
    distribution = devices.strategy(strategy, experiment.train)
    faces = records.read_split(shards, "train")
    held_out = records.read_split(shards, "validation")
    epoch_steps = pipeline.steps_per_epoch(len(faces.labels), experiment.train.global_batch)
    total = experiment.train.steps or experiment.train.epochs * epoch_steps
    run = Run(
        experiment=experiment,
        strategy=distribution,
        state=state.create(distribution, experiment, epoch_steps, total),
        faces=faces,
        folder=folder,
        epoch_steps=epoch_steps,
        total=total,
    )
    score = validation.scorer(
        distribution, run.state.average, pipeline.evaluation_batches(held_out, experiment.train.global_batch)
    )
    folder.record(experiment, shards)  # last: a run that cannot start leaves nothing behind
    run.go(score)
    print(f"The best weights, the history and the curves are in {workdir}. To evaluate them:")
    print(f"  python scripts/evaluate.py --workdir={workdir} --data={data} --split=validation")


@dataclasses.dataclass
class Run:
    """A run under way."""

    experiment: Experiment
    strategy: tf.distribute.Strategy
    state: state.State
    faces: records.Faces
    folder: RunFolder
    epoch_steps: int
    total: int
    seconds: float = 0.0  # of training and validation so far, over all sessions
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def go(self, score: Callable[[], validation.Score]) -> None:
        """Restores, then trains to the end of each epoch, until the last step is done."""
        done = self._restore()
        if done >= self.total:
            print(f"The run in {self.folder.path} is complete: {done} steps.")
            return
        events = telemetry.Events(self.folder.events)
        progress = telemetry.Progress(self.total, done, self.experiment.train.global_batch)
        self._show(events, done)
        batches = self._batches(done)
        steps = {mix: step.train_step(self.strategy, self.state, self.experiment, mix) for mix in (True, False)}
        while done < self.total:
            until = min(self.total, (done // self.epoch_steps + 1) * self.epoch_steps)
            started, begun = time.monotonic(), done
            done = self._steps(steps[self._mixes(done)], batches, done, until, events, progress)
            rate = (done - begun) * self.experiment.train.global_batch / (time.monotonic() - started)
            self._finish_epoch(done, rate, score(), time.monotonic() - started, events, progress)
        progress.close()
        events.close()

    def _mixes(self, done: int) -> bool:
        """Whether the epoch of the step after `done` mixes images; the last few may not."""
        begins = done - done % self.epoch_steps
        return begins < self.total - self.experiment.augment.mixing_off_epochs * self.epoch_steps

    def _restore(self) -> int:
        """Takes up the newest checkpoint. Returns the steps that are done."""
        checkpoints.clean(self.folder.checkpoints)
        found = checkpoints.restore(self.folder.checkpoints, self.state.trackable())
        if found is None:
            return 0
        self.seconds = found["seconds"]
        self.history = self.folder.read_history(until_step=found["step"])
        print(f"Going on after step {found['step']} of {self.total} in {self.folder.path}.")
        return found["step"]

    def _batches(self, done: int) -> Iterator[Batch]:
        """The batches from step `done` on, each replica its share."""
        seed, global_batch = self.experiment.seed, self.experiment.train.global_batch
        replicas = self.strategy.num_replicas_in_sync

        def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
            share = replicas // context.num_input_pipelines
            local = range(context.input_pipeline_id * share, (context.input_pipeline_id + 1) * share)
            return pipeline.training_batches(self.faces, seed, global_batch, done, self.total, replicas, local)

        return iter(self.strategy.distribute_datasets_from_function(of_worker))

    def _steps(self, train_step, batches, done: int, until: int, events, progress) -> int:
        """Trains up to step `until`, with a checkpoint every so often. Returns `until`."""
        started, begun = time.monotonic(), done
        while done < until:
            train_step(batches)
            done += 1
            if done % LOOK == 0 or done == until:
                loss, accuracy = float(self.state.loss.result()), float(self.state.accuracy.result())
                rate = (done - begun) * self.experiment.train.global_batch / (time.monotonic() - started)
                progress.steps(done, loss, accuracy)
                events.step(done, loss, self.state.learning_rate(), rate)
            if done % self.experiment.train.checkpoint_steps == 0 and done < until:
                self._checkpoint(done, self.seconds + time.monotonic() - started)
        return done

    def _finish_epoch(self, done: int, rate: float, score: validation.Score, seconds: float, events, progress) -> None:
        """Records the epoch, keeps the weights if they are the best, and makes a checkpoint."""
        self._check_finite(done)
        self.seconds += seconds
        entry = {
            "epoch": -(-done // self.epoch_steps),
            "step": done,
            "learning_rate": self.state.learning_rate(),
            "train_loss": float(self.state.loss.result()),
            "train_accuracy": float(self.state.accuracy.result()),
            "validation_loss": score.loss,
            "validation_accuracy": score.accuracy,
            "validation_macro_f1": score.macro_f1,
            "images_per_second": round(rate, 1),
            "seconds": round(self.seconds, 1),
        }
        best = score.accuracy > max((past["validation_accuracy"] for past in self.history), default=-1.0)
        self.history.append(entry)
        self.folder.write_history(self.history)
        if best:
            self.folder.write_best(self.state.average, entry)
        events.epoch(entry, score)
        progress.epoch(entry, best)
        self.state.loss.reset_state()
        self.state.accuracy.reset_state()
        self._checkpoint(done, self.seconds)

    def _check_finite(self, done: int) -> None:
        """Stops before anything that is not a number is saved: the loss shows it a step later than the weights."""
        if not (math.isfinite(float(self.state.loss.result())) and self.state.finite()):
            kept = checkpoints.steps(self.folder.checkpoints)
            raise UserError(
                f"Loss or weights are no numbers any more at step {done}; the last checkpoint, of step "
                f"{kept[-1] if kept else 0}, is kept. Lower config.optimizer.learning_rate or set clip_norm, with "
                "another --workdir."
            )

    def _checkpoint(self, done: int, seconds: float) -> None:
        self._check_finite(done)
        checkpoints.save(self.folder.checkpoints, self.state.trackable(), done, {"seconds": round(seconds, 1)})

    def _show(self, events: telemetry.Events, done: int) -> None:
        """Puts the config and the first batch, augmented, before people's eyes."""
        events.config(json.dumps(self.experiment.to_dict(), indent=2))
        replicas = self.strategy.num_replicas_in_sync
        batches = pipeline.training_batches(
            self.faces, self.experiment.seed, self.experiment.train.global_batch, done, done + 1, replicas, [0]
        )
        for batch in itertools.islice(batches, 1):
            seed = tf.constant([self.experiment.seed, done])
            images, _ = step.augmented(batch, seed, self.experiment, self._mixes(done))
            events.augmented(images, done)
