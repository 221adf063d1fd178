"""A run from its first step, or from where it was stopped, to its last."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from fer.augment import policy
from fer.config import Experiment
from fer.data import manifest, pipeline
from fer.data.manifest import Manifest
from fer.data.pipeline import Batch
from fer.errors import Stopped, UserError
from fer.train import (
    checkpoints,
    devices,
    finetuning,
    runfolder,
    state,
    step,
    stopping,
    telemetry,
    validation,
    weighting,
)
from fer.train import workers as together
from fer.train.cluster import Cluster
from fer.train.feed import Feed
from fer.train.runfolder import RunFolder

LOOK = 20  # steps between two looks at the loss: each look waits for the device


def train(
    experiment: Experiment,
    data: str,
    workdir: str,
    strategy: str,
    watch_spot: bool = False,
    workers: Cluster | None = None,
) -> None:
    """Trains `experiment` on the shards in `data`; the same call goes on where a killed one stopped.

    Args:
      experiment: validated.
      data: a folder that scripts/convert.py wrote.
      workdir: the run folder.
      strategy: one of `fer.train.devices.STRATEGIES`.
      watch_spot: whether EC2's notice that it takes a spot instance away stops the run in good order.
      workers: the processes that train together, if there are several.

    Raises:
      Stopped: a signal or a notice asked the run to stop; it left a checkpoint.
      UserError: the data, the folder, the devices or the experiment cannot be used; see the functions called.
    """
    policy.parse(experiment.augment.policy, experiment.augment.engine)  # a fault in it is told before anything is read
    shards = manifest.read(data).without_test()
    manifest.check_sizes(shards)
    folder = runfolder.open_folder(workdir, experiment, shards)
    _check_labelled(shards)
    distribution = devices.strategy(strategy, experiment.train, workers)
    several = workers if together.several(distribution) else None
    with together.watched(several), together.scratch(several, workdir) as place:
        together.check_alike(distribution, {"config": experiment.sha256(), "data": shards.sha256})
        _train(experiment, shards, dataclasses.replace(folder, path=place), distribution, watch_spot)
        print(f"The best weights, the history and the curves are in {workdir}. To evaluate them:")
        print(f"  python scripts/evaluate.py --workdir={workdir} --data={data} --split=validation")


def _train(
    experiment: Experiment,
    shards: Manifest,
    folder: RunFolder,
    distribution: tf.distribute.Strategy,
    watch_spot: bool,
) -> None:
    """Trains on the devices of `distribution`, of which this process may be one worker; see `train`."""
    source = pipeline.open_split(shards, "train", experiment.data)
    held_out = pipeline.open_split(shards, "validation", experiment.data)
    epoch_steps = pipeline.steps_per_epoch(source.examples, experiment.train.global_batch)
    total = experiment.train.steps or experiment.train.epochs * epoch_steps
    run = Run(
        experiment=experiment,
        strategy=distribution,
        state=state.create(distribution, experiment, epoch_steps, total),
        source=source,
        weights=weighting.class_weights(shards.split("train").class_counts, experiment.data),
        folder=folder,
        epoch_steps=epoch_steps,
        total=total,
    )
    score = validation.scorer(
        distribution, run.state.average, pipeline.evaluation_batches(held_out, experiment.train.global_batch)
    )
    folder.record(experiment, shards)  # last: a run that cannot start leaves nothing behind
    with stopping.on_signals() as stop, stopping.on_spot_notice(stop) if watch_spot else contextlib.nullcontext():
        run.go(score, stop)


def _check_labelled(shards: Manifest) -> None:
    """Stops where faces have no label to learn or to be measured by."""
    for name in ("train", "validation"):
        split = shards.split(name)
        unlabelled = split.examples - sum(split.class_counts.values())
        if unlabelled > 0:
            raise UserError(
                f"The {name} split of {shards.folder} has {unlabelled:,} faces without a label; convert a source that "
                "labels them all."
            )


@dataclasses.dataclass
class Run:
    """A run under way."""

    experiment: Experiment
    strategy: tf.distribute.Strategy
    state: state.State
    source: pipeline.Source
    weights: np.ndarray  # float32 [7]: of each class in the loss
    folder: RunFolder
    epoch_steps: int
    total: int
    seconds: float = 0.0  # of training and validation so far, over all sessions
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    built: tuple[tuple[bool, bool], Callable[[Batch], step.Done]] | None = None  # the step in use, and for what

    def go(self, score: Callable[[], validation.Score], stop: stopping.Stop) -> None:
        """Restores, then trains to the end of each epoch, until the last step is done."""
        done = self._restore()
        if done >= self.total:
            print(f"The run in {self.folder.path} is complete: {done} steps.")
            return
        events = telemetry.Events(self.folder.events)
        progress = telemetry.Progress(self.total, done, self.experiment.train.global_batch)
        self._show(events, done)
        feed = Feed(self.strategy, self.source, self.experiment, done, self.total)
        while done < self.total:
            until = min(self.total, (done // self.epoch_steps + 1) * self.epoch_steps)
            started, begun, waited = time.monotonic(), done, feed.waited
            done = self._steps(self._train_step(done), feed, done, until, events, progress, stop)
            trained = time.monotonic() - started
            rate = (done - begun) * self.experiment.train.global_batch / trained
            share = (feed.waited - waited) / trained
            self._finish_epoch(done, rate, share, score(), time.monotonic() - started, events, progress)
        progress.close()
        events.close()

    def _mixes(self, done: int) -> bool:
        """Whether the epoch of the step after `done` mixes images; the last few may not."""
        begins = done - done % self.epoch_steps
        return begins < self.total - self.experiment.augment.mixing_off_epochs * self.epoch_steps

    def _train_step(self, done: int) -> Callable[[Batch], step.Done]:
        """The step of the epoch after `done` steps: built anew where what is trained, or mixed, changes."""
        key = (self._mixes(done), done < self.experiment.finetune.head_epochs * self.epoch_steps)
        if self.built is None or self.built[0] != key:
            mix, head_only = key
            weights = None if self.experiment.data.class_weights == "none" else self.weights
            rates = finetuning.begin(self.state.model, self.experiment, head_only)
            built = step.train_step(self.strategy, self.state, self.experiment, mix, weights, rates)
            self.built = (key, built)
        return self.built[1]

    def _restore(self) -> int:
        """Takes up the newest checkpoint. Returns the steps that are done."""
        checkpoints.clean(self.folder.checkpoints)
        found = checkpoints.restore(self.folder.checkpoints, self.state.trackable())
        if found:
            self.seconds = found["seconds"]
            self.history = self.folder.read_history(until_step=found["step"])
            print(f"Going on after step {found['step']} of {self.total} in {self.folder.path}.")
        together.take_from_chief(self.strategy, self.state.variables)
        return int(self.state.step.numpy())

    def _steps(self, train_step, feed: Feed, done: int, until: int, events, progress, stop: stopping.Stop) -> int:
        """Trains up to step `until`, with a checkpoint every so often. Returns `until`."""
        started, begun, waited = time.monotonic(), done, feed.waited
        while done < until:
            told = train_step(next(feed))
            done += 1
            if done % LOOK == 0 or done == until:
                loss, accuracy = float(self.state.loss.result()), float(self.state.accuracy.result())
                trained = time.monotonic() - started
                rate = (done - begun) * self.experiment.train.global_batch / trained
                share = (feed.waited - waited) / trained
                progress.steps(done, loss, accuracy, share)
                events.step(
                    done,
                    {
                        "epoch_loss_so_far": loss,
                        "batch_loss": float(told.loss),
                        "gradient_norm": float(told.gradient_norm),
                        "loss_scale": self.state.loss_scale(),
                        "learning_rate": self.state.learning_rate(),
                        "images_per_second": rate,
                        "input_wait_share": share,
                    },
                )
            if done % self.experiment.train.checkpoint_steps == 0 and done < until:
                self._checkpoint(done, self.seconds + time.monotonic() - started)
            if together.asked_to_stop(self.strategy, stop) and done < until:
                self._checkpoint(done, self.seconds + time.monotonic() - started)
                raise Stopped(
                    f"Stopped after step {done} of {self.total} as asked, with a checkpoint in {self.folder.path}; the "
                    "same command goes on from there.",
                    stop.exit_code,
                )
        return done

    def _finish_epoch(
        self, done: int, rate: float, waited: float, score: validation.Score, seconds: float, events, progress
    ) -> None:
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
            "input_wait_share": round(waited, 4),
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
            self.source,
            self.experiment.seed,
            self.experiment.train.global_batch,
            done,
            done + 1,
            replicas,
            [0],
            self.experiment.data.sampling,
        )
        for batch in itertools.islice(batches, 1):
            seed = tf.constant([self.experiment.seed, done])
            events.augmented(step.augmented(batch, seed, self.experiment, self._mixes(done)).images, done)
