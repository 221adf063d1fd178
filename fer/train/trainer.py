"""A run from its first step, or from where it was stopped, to its last."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import tensorflow as tf

from fer import log_suppression, storage
from fer.augment import policy
from fer.config import STEPS_PER_CALL, Experiment
from fer.data import manifest, pipeline
from fer.data.manifest import Manifest
from fer.data.sampling import Batch
from fer.errors import Stopped, UserError
from fer.models import precision, registry, run_loading
from fer.progress import TrainProgress
from fer.train import (
    checkpoints,
    device_iterator,
    distillation,
    eval_step,
    metric_logging,
    multi_step,
    nan_recovery,
    preemption,
    run_dir,
    run_lock,
    soft_labels,
    tf_workarounds,
    train_state,
    train_step,
)
from fer.train.distributed import multi_worker, replica_sync
from fer.train.distributed.cluster_resolver import Cluster
from fer.train.distributed.strategy import check_deterministic_jit, make_strategy
from fer.train.nan_guard import NanGuard, NonFiniteError
from fer.train.nan_recovery import Rollback
from fer.train.optim import class_weights, param_groups
from fer.train.profiler import Profiler
from fer.train.run_dir import RunDir

LOG_EVERY = STEPS_PER_CALL  # steps between two looks at the loss: each look waits for the device


def check_experiment(experiment: Experiment) -> None:
    """What can be told of an experiment without data, devices or a model.

    Raises:
      UserError: its augmentation or its backbone is none, or a file that it begins with is missing.
    """
    run_loading.check_sources(experiment)
    policy.parse(experiment.augment.policy, experiment.augment.engine)
    registry.backbone_spec(experiment.model.name)


def train(
    experiment: Experiment,
    data: str,
    workdir: str,
    strategy: str,
    watch_spot: bool = False,
    workers: Cluster | None = None,
    on_epoch: Callable[[dict[str, Any]], None] = lambda entry: None,
    stop: preemption.StopRequest | None = None,
) -> None:
    """Trains `experiment` on the shards in `data`; the same call goes on where a killed one stopped.

    Args:
      experiment: validated.
      data: a folder that scripts/convert.py wrote.
      workdir: the run folder.
      strategy: one of `fer.config.STRATEGIES`.
      watch_spot: whether EC2's notice that it takes a spot instance away stops the run in good order.
      workers: the processes that train together, if there are several.
      on_epoch: called with the entry of history.json once an epoch is over and its checkpoint written; what it raises
        ends the run, which the same call goes on with.
      stop: what the caller's own signals ask; without it the run listens to SIGTERM and SIGINT itself.

    Raises:
      Stopped: a signal or a notice asked the run to stop; it left a checkpoint.
      UserError: the data, the folder, the devices or the experiment cannot be used; see the functions called.
    """
    check_experiment(experiment)  # a fault of these is told before anything is read
    experiment = precision.resolve_precision(experiment)
    precision.allow_tensor_float_32(experiment.train)
    shards = manifest.read_manifest(data).seal_test_split()
    manifest.check_sizes(shards)
    folder = run_dir.open_run_dir(workdir, experiment, shards)
    _check_all_labelled(shards)
    soft_labels.check_votes(shards, experiment.train.targets)
    distribution = make_strategy(strategy, experiment.train, workers)
    replica_sync.check_sync_batch_norm(distribution, experiment)
    several = workers if multi_worker.is_multi_worker(distribution) else None
    if workers is not None and len(workers.workers) > 1 and several is None:
        raise UserError(
            f"--strategy={strategy} trains on this machine alone, but there are {len(workers.workers)} workers, which "
            f"would all write {workdir}: leave --strategy out, or start one process."
        )
    # A worker that is lost is told by `watched`, before it can be taken for a store that is.
    chief = workers is None or workers.chief
    with (
        storage.storage_errors(workdir, data),
        multi_worker.worker_loss_errors(several),
        multi_worker.report_startup(distribution),
        run_lock.hold(workdir) if chief else contextlib.nullcontext(),
        multi_worker.worker_dir(several, workdir) as place,
    ):
        multi_worker.assert_same_on_all(distribution, {"config": experiment.sha256(), "data": shards.sha256})
        with tf_workarounds.release_custom_gradients():
            here = dataclasses.replace(folder, path=place)
            _train(experiment, shards, here, distribution, watch_spot, on_epoch, stop)
        print(f"The best weights, the history and the curves are in {workdir}.")


def _train(
    experiment: Experiment,
    shards: Manifest,
    folder: RunDir,
    distribution: tf.distribute.Strategy,
    watch_spot: bool,
    on_epoch: Callable[[dict[str, Any]], None],
    stop: preemption.StopRequest | None,
) -> None:
    """Trains on the devices of `distribution`, of which this process may be one worker; see `train`."""
    source = pipeline.open_split(shards, "train", experiment.data)
    held_out = pipeline.open_split(shards, "validation", experiment.data)
    epoch_steps = pipeline.steps_per_epoch(source.examples, experiment.train.global_batch)
    total = experiment.train.steps or experiment.train.epochs * epoch_steps
    labels_of_votes = soft_labels.make_vote_posterior(source, experiment, epoch_steps)
    with distribution.scope():
        taught_by = distillation.load_teachers(experiment.train)
    if taught_by:
        hashes = (teacher.weights_sha256 for teacher in taught_by)
        multi_worker.assert_same_on_all(
            distribution, {f"teacher, number {number}": each for number, each in enumerate(hashes, 1)}
        )
    made = train_state.create_train_state(distribution, experiment, epoch_steps, total)
    check_deterministic_jit(made.model, experiment.train)
    run = Trainer(
        experiment=experiment,
        strategy=distribution,
        state=made,
        source=source,
        weights=class_weights.compute_class_weights(shards.split("train").class_counts, experiment.data),
        teach=distillation.make_distill_fn(taught_by, experiment.train.teacher_share),
        labels_of_votes=labels_of_votes,
        folder=folder,
        epoch_steps=epoch_steps,
        total=total,
        on_epoch=on_epoch,
    )
    score = eval_step.make_scorer(
        distribution, run.state.average, pipeline.evaluation_batches(held_out, experiment.train.global_batch)
    )
    print(_summary(run, shards), flush=True)
    param_groups.set_phase(run.state.model, experiment, head_only=False)  # for its faults: each phase begins by itself
    folder.record(
        experiment, shards, distillation.teacher_records(taught_by)
    )  # last: a run that cannot start leaves nothing behind
    with (
        contextlib.nullcontext(stop) if stop else preemption.stop_on_signals() as asked,
        preemption.stop_on_spot_notice(asked) if watch_spot else contextlib.nullcontext(),
    ):
        run.fit(score, asked)


def _summary(run: Trainer, shards: Manifest) -> str:
    """Returns what is about to be trained, on what and for how long, for a person to check before the first step."""
    experiment, train = run.experiment, run.experiment.train
    side = experiment.model.image_size or registry.backbone_spec(experiment.model.name).size
    replicas_used = run.strategy.num_replicas_in_sync
    devices_used = f"{replicas_used} replica{'s' * (replicas_used != 1)} ({type(run.strategy).__name__})"
    faces = ", ".join(f"{shards.split(name).examples:,} {name}" for name in ("train", "validation"))
    lines = (
        ("network", f"{experiment.model.name} at {side} pixels, {run.state.model.count_params():,} parameters"),
        ("precision", train.precision),
        ("devices", f"{devices_used}, global batch {train.global_batch}"),
        ("faces", faces),
        ("steps", f"{run.total:,}, of which {run.epoch_steps:,} make an epoch"),
    )
    return "\n".join(f"{name:<10}{text}" for name, text in lines)


def _check_all_labelled(shards: Manifest) -> None:
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
class Trainer:
    """A run under way."""

    experiment: Experiment
    strategy: tf.distribute.Strategy
    state: train_state.TrainState
    source: pipeline.Source
    weights: np.ndarray  # float32 [7]: of each class in the loss
    teach: distillation.DistillFn | None
    labels_of_votes: soft_labels.VotePosterior | None
    folder: RunDir
    epoch_steps: int
    total: int
    on_epoch: Callable[[dict[str, Any]], None]
    seconds: float = 0.0  # of training and validation so far, over all sessions
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    rollbacks: list[Rollback] = dataclasses.field(default_factory=list)
    built: tuple[tuple[bool, bool], Callable[[Batch], train_step.StepMetrics]] | None = (
        None  # the step in use, and for what
    )

    def fit(self, score: Callable[[], eval_step.Score], stop: preemption.StopRequest) -> None:
        """Restores, then trains to the end of each epoch, until the last step is done."""
        checkpoints.clean(self.folder.checkpoints)
        done = self._restore()
        if done >= self.total:
            print(f"The run in {self.folder.path} is complete: {done} steps.")
            return
        if done:
            print(f"Going on after step {done} of {self.total} in {self.folder.path}.")
        self._begin(done)
        try:
            if self.experiment.train.on_nan == "rollback" and not checkpoints.list_steps(self.folder.checkpoints):
                self._checkpoint(done, self.seconds)  # so that there is one to go back to, on every worker
            while done < self.total:
                try:
                    done = self._epoch(done, score, stop)
                except NonFiniteError as fault:
                    done = self._go_back(fault.step)
        finally:
            self.profile.close()
            self.progress.close()
        self.events.close()

    def _begin(self, done: int) -> None:
        """Opens what the steps after `done` need, and puts the config and the first batch before people's eyes."""
        train = self.experiment.train
        self.watch = NanGuard(scales=train.precision == "mixed_float16")
        self.profile = Profiler(self.folder.events, train.profile_steps)
        self.events = metric_logging.EventWriter(self.folder.events)
        self.events.experiment(self.experiment)
        self.progress = TrainProgress(self.total, done, train.global_batch, self.epoch_steps)
        print("Compiling the first step ...", flush=True)
        self._open_feed(done)
        seed = tf.constant([self.experiment.seed, done])
        start, count = done + nan_recovery.count_skipped_batches(self.rollbacks), self.strategy.num_replicas_in_sync
        for batch in device_iterator.build_dataset(self.source, self.experiment, start, start + 1, count, [0]):
            with log_suppression.suppress_stderr():  # where XLA says that it compiles, the first time that it does
                inputs = train_step.prepare_inputs(
                    batch, seed, self.experiment, self._mixes(done), self.labels_of_votes
                )
            self.events.augmented(inputs.images, done)

    def _open_feed(self, done: int) -> None:
        """Feeds the steps after `done`; the batches of rollbacks are left out."""
        ahead = nan_recovery.count_skipped_batches(self.rollbacks)
        self.feed = device_iterator.DeviceIterator(
            self.strategy, self.source, self.experiment, done + ahead, self.total + ahead
        )
        self.call: Callable[[int], train_step.StepMetrics] | None = None  # of the step in use, on this feed

    def _mixes(self, done: int) -> bool:
        """Whether the epoch of the step after `done` mixes images; the last few may not."""
        begins = done - done % self.epoch_steps
        return begins < self.total - self.experiment.augment.mixing_off_epochs * self.epoch_steps

    def _call(self, done: int) -> Callable[[int], train_step.StepMetrics]:
        """The steps of the epoch after `done` steps: built anew where what is trained, mixed or fed changes."""
        key = (self._mixes(done), done < self.experiment.finetune.head_epochs * self.epoch_steps)
        if self.built is None or self.built[0] != key:
            mix, head_only = key
            weights = None if self.experiment.data.class_weights == "none" else self.weights
            rates = param_groups.set_phase(self.state.model, self.experiment, head_only, self.epoch_steps)
            built = train_step.make_train_step(
                self.strategy, self.state, self.experiment, mix, weights, rates, self.teach, self.labels_of_votes
            )
            self.built = (key, built)
            self.call = None
        if self.call is None:
            self.call = multi_step.make_multi_step(self.feed, self.built[1], self.experiment.train.steps_per_call)
        return self.call

    def _restore(self) -> int:
        """Takes up the newest checkpoint. Returns the steps that are done."""
        found = checkpoints.restore(self.folder.checkpoints, self.state.trackable())
        found = multi_worker.broadcast_object(self.strategy, found)
        if found:
            self.seconds = found["seconds"]
            self.rollbacks = nan_recovery.parse_rollbacks(found.get("rollbacks", []))
            self.history = self.folder.read_history(until_step=found["step"])
            self._tell_of_other_replicas()
        multi_worker.broadcast_variables(self.strategy, self.state.variables)
        done = found["step"] if found else 0
        self.state.step.assign(done)  # a worker that found no checkpoint itself has the chief's step, too
        return done

    def _tell_of_other_replicas(self) -> None:
        """Says so where a run goes on with another number of replicas, which may end with other weights."""
        now = self.strategy.num_replicas_in_sync
        before = self.history[-1].get("replicas", now) if self.history else now
        if before != now:
            print(
                f"The last epoch was trained on {before} replicas, and the next is on {now}: mixup's partners and, "
                "unless config.model.sync_batch_norm is set, BatchNormalization's batches are others from here on."
            )

    def _go_back(self, fault: int) -> int:
        """Stops the run at a step whose loss or weights are no numbers, or goes back. Returns the steps done then."""
        train = self.experiment.train
        if train.on_nan == "stop":
            kept = multi_worker.broadcast_object(self.strategy, checkpoints.list_steps(self.folder.checkpoints))
            raise UserError(
                f"Loss or weights are no numbers any more at step {fault}; the last checkpoint, of step "
                f"{kept[-1] if kept else 0}, is kept. Lower config.optimizer.learning_rate, set clip_norm or set "
                "config.train.on_nan=rollback, with another --workdir."
            )
        new = nan_recovery.roll_back(
            self.folder.checkpoints, self.rollbacks, fault, train.checkpoint_steps, self.epoch_steps
        )
        new = Rollback(*multi_worker.broadcast_object(self.strategy, new))
        before = self.rollbacks  # the checkpoint does not know those that went back to it
        done = self._restore()
        self.rollbacks = [*before, new._replace(to=done)]
        self.folder.write_rollbacks(nan_recovery.rollback_records(self.rollbacks))
        print(
            f"Loss or weights are no numbers any more at step {fault}: back to step {done}, and on without the "
            f"{fault - done} batches since then (rollback {len(self.rollbacks)} of at most "
            f"{nan_recovery.MAX_ROLLBACKS})."
        )
        self.progress.roll_back(done)
        self.watch = NanGuard(scales=train.precision == "mixed_float16")
        self._open_feed(done)
        return done

    def _epoch(self, done: int, score: Callable[[], eval_step.Score], stop: preemption.StopRequest) -> int:
        """Trains to the end of the epoch after `done` steps. Returns the steps done then."""
        until = min(self.total, (done // self.epoch_steps + 1) * self.epoch_steps)
        started, begun, waited = time.monotonic(), done, self.feed.waited
        asked = self._steps(done, until, stop)
        trained = time.monotonic() - started
        rate = (until - begun) * self.experiment.train.global_batch / trained
        share = (self.feed.waited - waited) / trained
        self._finish_epoch(until, rate, share, score(), time.monotonic() - started)
        if asked and until < self.total:
            self._stop(until, stop)
        return until

    def _steps(self, done: int, until: int, stop: preemption.StopRequest) -> bool:
        """Trains up to step `until`, with a checkpoint every so often. Returns whether a stop was asked for at last."""
        every, call = self.experiment.train.checkpoint_steps, self._call(done)
        started, begun, waited = time.monotonic(), done, self.feed.waited
        while done < until:
            self.profile.before(done)
            count = self._count(done, until)
            told = call(count)
            multi_worker.report_started(self.strategy)
            self.watch.record(done, told)
            done += count
            self.profile.after(done, self.state.optimizer.iterations)
            if done % LOG_EVERY == 0 or done == until:
                trained = time.monotonic() - started
                rate = (done - begun) * self.experiment.train.global_batch / trained
                self._log(done, told, rate, (self.feed.waited - waited) / trained)
            if done % every == 0 and done < until:
                self._checkpoint(done, self.seconds + time.monotonic() - started)
            asked = multi_worker.sync_stop(self.strategy, stop)
            if asked and done < until:
                self._checkpoint(done, self.seconds + time.monotonic() - started)
                self._stop(done, stop)
        return asked

    def _stop(self, done: int, stop: preemption.StopRequest) -> NoReturn:
        """Ends the run, whose checkpoint of step `done` is written, as it was asked to."""
        self.events.close()  # whoever stops may leave at once
        raise Stopped(
            f"Stopped after step {done} of {self.total} as asked, with a checkpoint in {self.folder.path}; the same "
            "command goes on from there.",
            stop.exit_code,
        )

    def _count(self, done: int, until: int) -> int:
        """Steps that may be asked for at once after `done`: up to the next one after which the host has work."""
        every = (LOG_EVERY, self.experiment.train.checkpoint_steps)
        edges = [until, *(done - done % each + each for each in every), *self.profile.edges]
        return min(self.experiment.train.steps_per_call, min(edge for edge in edges if edge > done) - done)

    def _log(self, done: int, told: train_step.StepMetrics, rate: float, share: float) -> None:
        """Looks at the steps so far, and tells people."""
        self.watch.check()
        loss, accuracy = float(self.state.loss.result()), float(self.state.accuracy.result())
        self.progress.update(done, loss, accuracy, share)
        self.events.step(
            done,
            {
                "epoch_loss_so_far": loss,
                "epoch_accuracy_so_far": accuracy,
                "batch_loss": float(np.ravel(told.loss)[-1]),
                "gradient_norm": float(np.ravel(told.gradient_norm)[-1]),
                "loss_scale": self.state.loss_scale(),
                "learning_rate": self.state.learning_rate(),
                "images_per_second": rate,
                "input_wait_share": share,
            },
        )

    def _finish_epoch(self, done: int, rate: float, waited: float, score: eval_step.Score, seconds: float) -> None:
        """Records the epoch, keeps the weights if they are the best, and makes a checkpoint."""
        self._check_finite(done)
        if not np.isfinite(score.loss):  # in float16 what training did without may overflow: averages of weights lag
            raise NonFiniteError(done)
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
            "validation_cohen_kappa": score.cohen_kappa,
            "validation_matthews": score.matthews,
            "images_per_second": round(rate, 1),
            "input_wait_share": round(waited, 4),
            "seconds": round(self.seconds, 1),
            "replicas": self.strategy.num_replicas_in_sync,
        }
        best = score.accuracy > max((past["validation_accuracy"] for past in self.history), default=-1.0)
        self.history.append(entry)
        self.folder.write_history(self.history)
        if best:
            self.folder.write_best(self.state.evaluated, entry)
        self.events.epoch(entry, score)
        self.progress.end_epoch(entry, best)
        self.state.loss.reset_state()
        self.state.accuracy.reset_state()
        self._checkpoint(done, self.seconds)
        self.on_epoch(entry)

    def _check_finite(self, done: int) -> None:
        """Sees to it that nothing but numbers is saved: the loss shows it a step later than the weights.

        Raises:
          NotANumber: names the step.
        """
        self.watch.check()
        if not self.state.finite():
            raise NonFiniteError(done)

    def _checkpoint(self, done: int, seconds: float) -> None:
        self._check_finite(done)
        extra = {"seconds": round(seconds, 1), "rollbacks": [list(each) for each in self.rollbacks]}
        every, epoch_steps = self.experiment.train.checkpoint_steps, self.epoch_steps
        checkpoints.save(
            self.folder.checkpoints,
            self.state.trackable(),
            done,
            extra,
            lambda step: nan_recovery.is_planned(step, every, epoch_steps),
        )
