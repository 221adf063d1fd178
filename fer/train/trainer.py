"""Training of a run: from its first step, or from its last checkpoint, to its last step."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable
from typing import NamedTuple, NoReturn

import numpy as np
import tensorflow as tf

from fer import log_suppression, run_dir, storage, tf_workarounds
from fer.augment import policy
from fer.config import MAX_STEPS_PER_EXECUTION, Experiment
from fer.data import manifest, pipeline
from fer.data.manifest import Manifest
from fer.data.sampling import Batch
from fer.errors import Stopped, UserError
from fer.models import loading, precision, registry, weights
from fer.progress import TrainProgress
from fer.run_dir import Entry, RunDir
from fer.train import (
    checkpoints,
    device_iterator,
    distillation,
    eval_step,
    metric_logging,
    nan_recovery,
    preemption,
    run_lock,
    soft_labels,
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
from fer.train.train_step import StepMetrics, StepOptions
from fer.viz import plots

LOG_EVERY = MAX_STEPS_PER_EXECUTION  # steps between two reads of the loss: each read waits for the device


class RunHooks(NamedTuple):
    """Hooks by which a caller follows and stops a run.

    Attributes:
      on_epoch: called with the entry of history.json after an epoch, when its checkpoint is written. An exception that
        it raises ends the run; the same call resumes it.
      stop: the caller's request to stop; if None, the run handles SIGTERM and SIGINT itself.
      stop_on_spot_interruption: whether EC2's notice of a spot interruption stops the run with a checkpoint.
    """

    on_epoch: Callable[[Entry], None] = lambda entry: None
    stop: preemption.StopRequest | None = None
    stop_on_spot_interruption: bool = False


def check_experiment(experiment: Experiment) -> None:
    """Checks all of an experiment that needs no data, devices or model.

    Raises:
      UserError: the augmentation policy or the backbone is unknown, or a file that the run starts from is missing.
    """
    loading.check_sources(experiment)
    policy.parse(experiment.augment.policy, experiment.augment.backend)
    registry.backbone_spec(experiment.model.name)


def train(
    experiment: Experiment,
    data: str,
    workdir: str,
    strategy: str,
    workers: Cluster | None = None,
    hooks: RunHooks = RunHooks(),  # noqa: B008
) -> None:
    """Trains `experiment` on the shards in `data`; the same call resumes a run that was interrupted.

    Args:
      experiment: validated.
      data: a folder that scripts/convert.py wrote.
      workdir: the run directory.
      strategy: one of `fer.config.STRATEGIES`.
      workers: the processes that train together, if there are several.
      hooks: see `RunHooks`.

    Raises:
      Stopped: a signal or a spot notice stopped the run; it left a checkpoint.
      UserError: the data, the run directory, the devices or the experiment cannot be used; see the functions called.
    """
    check_experiment(experiment)  # reports its errors before any data is read
    experiment = precision.resolve_precision(experiment)
    precision.allow_tensor_float_32(experiment.train)
    shards = manifest.read_manifest(data).seal_test_split()
    manifest.check_sizes(shards)
    folder = run_dir.open_run_dir(workdir, experiment, shards)
    _check_all_labelled(shards)
    soft_labels.check_votes(shards, experiment.train.label_source)
    distribution = make_strategy(strategy, experiment.train, workers)
    replica_sync.check_sync_batch_norm(distribution, experiment)
    cluster = workers if multi_worker.is_multi_worker(distribution) else None
    if workers is not None and len(workers.workers) > 1 and cluster is None:
        raise UserError(
            f"--strategy={strategy} trains on this machine alone, but there are {len(workers.workers)} workers, which "
            f"would all write {workdir}: leave --strategy out, or start one process."
        )
    # The loss of a worker is reported by `worker_loss_errors`, before it can be taken for the loss of the storage.
    with (
        storage.storage_errors(workdir, data),
        multi_worker.worker_loss_errors(cluster),
        multi_worker.report_startup(distribution),
        run_lock.hold(workdir) if workers is None or workers.chief else contextlib.nullcontext(),
        multi_worker.worker_dir(cluster, workdir) as own_dir,
    ):
        multi_worker.assert_same_on_all(distribution, {"config": experiment.sha256(), "data": shards.sha256})
        with tf_workarounds.release_custom_gradients():
            _train(experiment, shards, dataclasses.replace(folder, path=own_dir), distribution, hooks)
        print(f"The best weights, the history and the curves are in {workdir}.")


def _check_all_labelled(shards: Manifest) -> None:
    """Checks that all faces of the train and validation splits have a label.

    Raises:
      UserError: some have none.
    """
    for name in ("train", "validation"):
        split = shards.split(name)
        unlabelled = split.examples - sum(split.class_counts.values())
        if unlabelled > 0:
            raise UserError(
                f"The {name} split of {shards.folder} has {unlabelled:,} faces without a label; convert a source that "
                "labels them all."
            )


def _train(
    experiment: Experiment, shards: Manifest, folder: RunDir, distribution: tf.distribute.Strategy, hooks: RunHooks
) -> None:
    """Trains on the devices of `distribution`, of which this process may be one worker; see `train`."""
    source = pipeline.open_split(shards, "train", experiment.data)
    held_out = pipeline.open_split(shards, "validation", experiment.data)
    epoch_steps = pipeline.steps_per_epoch(source.examples, experiment.train.global_batch_size)
    total_steps = experiment.train.max_steps or experiment.train.epochs * epoch_steps
    vote_posterior = soft_labels.make_vote_posterior(source, experiment, epoch_steps)
    with distribution.scope():
        teachers = distillation.load_teachers(experiment.train)
    if teachers:
        hashes = (teacher.weights_sha256 for teacher in teachers)
        multi_worker.assert_same_on_all(
            distribution, {f"teacher, number {number}": each for number, each in enumerate(hashes, 1)}
        )
    state = train_state.create_train_state(distribution, experiment, epoch_steps, total_steps)
    check_deterministic_jit(state.model, experiment.train)
    weighted = experiment.data.class_weights != "none"
    counts = shards.split("train").class_counts
    run = Trainer(
        experiment=experiment,
        strategy=distribution,
        state=state,
        source=source,
        options=StepOptions(
            class_weights=class_weights.compute_class_weights(counts, experiment.data) if weighted else None,
            distill=distillation.make_distill_fn(teachers, experiment.train.distill_weight),
            vote_posterior=vote_posterior,
        ),
        folder=folder,
        epoch_steps=epoch_steps,
        total_steps=total_steps,
        on_epoch=hooks.on_epoch,
    )
    score = eval_step.make_scorer(
        distribution, state.average, pipeline.evaluation_batches(held_out, experiment.train.global_batch_size)
    )
    print(_summary(run, shards), flush=True)
    param_groups.set_phase(state.model, experiment, head_only=False)  # only to report its errors before the run starts
    # Written last: a run that cannot start leaves no files.
    folder.write_config(experiment, shards, distillation.teacher_records(teachers))
    with (
        contextlib.nullcontext(hooks.stop) if hooks.stop else preemption.stop_on_signals() as stop,
        preemption.stop_on_spot_notice(stop) if hooks.stop_on_spot_interruption else contextlib.nullcontext(),
    ):
        run.fit(score, stop)


def _summary(run: Trainer, shards: Manifest) -> str:
    """Returns the network, devices, data and length of a run as text, for a person to check before the first step."""
    experiment, train = run.experiment, run.experiment.train
    side = experiment.model.image_size or registry.backbone_spec(experiment.model.name).size
    replicas = run.strategy.num_replicas_in_sync
    devices = f"{replicas} replica{'s' * (replicas != 1)} ({type(run.strategy).__name__})"
    faces = ", ".join(f"{shards.split(name).examples:,} {name}" for name in ("train", "validation"))
    lines = (
        ("network", f"{experiment.model.name} at {side} pixels, {run.state.model.count_params():,} parameters"),
        ("precision", train.precision),
        ("devices", f"{devices}, global batch {train.global_batch_size}"),
        ("faces", faces),
        ("steps", f"{run.total_steps:,}, {run.epoch_steps:,} per epoch"),
    )
    return "\n".join(f"{name:<10}{text}" for name, text in lines)


@dataclasses.dataclass
class Trainer:
    """A run in progress. `fit` is read first; the other methods follow in the order in which it calls them."""

    experiment: Experiment
    strategy: tf.distribute.Strategy
    state: train_state.TrainState
    source: pipeline.Source  # the train split
    options: StepOptions  # its `mixup` and `param_groups` are set anew for each phase
    folder: RunDir
    epoch_steps: int
    total_steps: int
    on_epoch: Callable[[Entry], None]
    seconds: float = 0.0  # of training and validation so far, over all sessions
    history: list[Entry] = dataclasses.field(default_factory=list)
    rollbacks: list[Rollback] = dataclasses.field(default_factory=list)
    phase: tuple[bool, bool] | None = None  # of `step`: whether it mixes images, whether it trains the head alone
    step: Callable[[Batch], StepMetrics] | None = None  # of the current phase
    multi_step: Callable[[int], StepMetrics] | None = None  # of `step` on `iterator`

    def fit(self, score: Callable[[], eval_step.Score], stop: preemption.StopRequest) -> None:
        """Restores the newest checkpoint, then trains epoch by epoch until the last step.

        Args:
          score: evaluates the averaged model on the validation split.
          stop: checked after each call of the device.

        Raises:
          Stopped: `stop` was requested; a checkpoint is written.
          UserError: the loss or the weights became NaN or infinite, and `train.on_nan` does not allow a rollback.
        """
        checkpoints.clean(self.folder.checkpoints)
        done = self._restore()
        if done >= self.total_steps:
            print(f"The run in {self.folder.path} is complete: {done} steps.")
            return
        if done:
            print(f"Resuming after step {done} of {self.total_steps} in {self.folder.path}.")
        self._open_outputs(done)
        try:
            if self.experiment.train.on_nan == "rollback" and not checkpoints.list_steps(self.folder.checkpoints):
                self._checkpoint(done, self.seconds)  # a rollback needs one, on every worker
            while done < self.total_steps:
                try:
                    done = self._train_epoch(done, score, stop)
                except NonFiniteError as error:
                    done = self._roll_back(error.step)
        finally:
            self.profiler.close()
            self.progress.close()
        self.events.close()

    def _restore(self) -> int:
        """Restores the newest checkpoint, if there is one. Returns the number of steps done."""
        restored = checkpoints.restore(self.folder.checkpoints, self.state.checkpoint())
        restored = multi_worker.broadcast_object(self.strategy, restored)
        if restored:
            self.seconds = restored["seconds"]
            self.rollbacks = nan_recovery.parse_rollbacks(restored.get("rollbacks", []))
            self.history = self.folder.read_history(until_step=restored["step"])
            self._report_changed_replicas()
        multi_worker.broadcast_variables(self.strategy, self.state.variables)
        done = restored["step"] if restored else 0
        self.state.step.assign(done)  # a worker without a checkpoint of its own gets the chief's step, too
        return done

    def _report_changed_replicas(self) -> None:
        """Prints a notice if the number of replicas differs from the last epoch's, which may change the result."""
        now = self.strategy.num_replicas_in_sync
        before = self.history[-1].get("replicas", now) if self.history else now
        if before != now:
            print(
                f"The last epoch was trained on {before} replicas, and the next is on {now}: mixup's partners and, "
                "unless config.model.sync_batch_norm is set, BatchNormalization's batches are others from here on."
            )

    def _open_outputs(self, done: int) -> None:
        """Opens the iterator, the logs and the profiler for the steps after `done`, and logs the config and a batch."""
        train = self.experiment.train
        self.nan_guard = NanGuard(scales=train.precision == "mixed_float16")
        self.profiler = Profiler(self.folder.events, train.profile_steps)
        self.events = metric_logging.EventWriter(self.folder.events)
        self.events.write_config(self.experiment)
        self.progress = TrainProgress(self.total_steps, done, train.global_batch_size, self.epoch_steps)
        print("Compiling the first step ...", flush=True)
        self._open_iterator(done)
        seed = tf.constant([self.experiment.seed, done])
        start = done + nan_recovery.count_skipped_batches(self.rollbacks)
        replicas = self.strategy.num_replicas_in_sync
        options = dataclasses.replace(self.options, mixup=self._applies_mixup(done), distill=None)
        for batch in device_iterator.build_dataset(self.source, self.experiment, start, start + 1, replicas, [0]):
            with log_suppression.suppress_stderr():  # XLA logs its first compilation
                inputs = train_step.prepare_inputs(batch, seed, self.experiment, options)
            self.events.write_augmented_images(inputs.images, done)

    def _open_iterator(self, done: int) -> None:
        """Opens the iterator over the batches of the steps after `done`, without those that rollbacks skip."""
        skipped = nan_recovery.count_skipped_batches(self.rollbacks)
        self.iterator = device_iterator.DeviceIterator(
            self.strategy, self.source, self.experiment, done + skipped, self.total_steps + skipped
        )
        self.multi_step = None  # reads from the iterator

    def _applies_mixup(self, done: int) -> bool:
        """Returns whether the epoch of the step after `done` mixes images; `mixup_off_epochs` at the end do not."""
        epoch_start = done - done % self.epoch_steps
        return epoch_start < self.total_steps - self.experiment.augment.mixup_off_epochs * self.epoch_steps

    def _train_epoch(self, done: int, score: Callable[[], eval_step.Score], stop: preemption.StopRequest) -> int:
        """Trains to the end of the epoch after `done` steps and validates. Returns the number of steps done."""
        until = min(self.total_steps, (done // self.epoch_steps + 1) * self.epoch_steps)
        started, start_step, waited = time.monotonic(), done, self.iterator.waited
        stop_requested = self._train_steps(done, until, stop)
        trained = time.monotonic() - started
        images_per_second = (until - start_step) * self.experiment.train.global_batch_size / trained
        wait_share = (self.iterator.waited - waited) / trained
        self._finish_epoch(until, images_per_second, wait_share, score(), time.monotonic() - started)
        if stop_requested and until < self.total_steps:
            self._stop(until, stop)
        return until

    def _train_steps(self, done: int, until: int, stop: preemption.StopRequest) -> bool:
        """Trains up to step `until`, with a checkpoint every `save_every_steps`.

        Returns:
          Whether a stop was requested during the last call.
        """
        every, multi_step = self.experiment.train.save_every_steps, self._get_multi_step(done)
        started, start_step, waited = time.monotonic(), done, self.iterator.waited
        while done < until:
            self.profiler.start_before(done)
            count = self._next_count(done, until)
            metrics = multi_step(count)
            multi_worker.report_started(self.strategy)
            self.nan_guard.record(done, metrics)
            done += count
            self.profiler.stop_after(done, self.state.optimizer.iterations)
            if done % LOG_EVERY == 0 or done == until:
                trained = time.monotonic() - started
                images_per_second = (done - start_step) * self.experiment.train.global_batch_size / trained
                self._log(done, metrics, images_per_second, (self.iterator.waited - waited) / trained)
            if done % every == 0 and done < until:
                self._checkpoint(done, self.seconds + time.monotonic() - started)
            stop_requested = multi_worker.sync_stop(self.strategy, stop)
            if stop_requested and done < until:
                self._checkpoint(done, self.seconds + time.monotonic() - started)
                self._stop(done, stop)
        return stop_requested

    def _get_multi_step(self, done: int) -> Callable[[int], StepMetrics]:
        """Returns the function that makes the steps after `done`.

        The step is built anew where the phase changes (mixup on or off, head alone or more layers), and the function
        where the step or the iterator changes.
        """
        phase = (self._applies_mixup(done), done < self.experiment.finetune.head_only_epochs * self.epoch_steps)
        if self.step is None or self.phase != phase:
            mixup, head_only = phase
            groups = param_groups.set_phase(self.state.model, self.experiment, head_only, self.epoch_steps)
            options = dataclasses.replace(self.options, mixup=mixup, param_groups=groups)
            self.step = train_step.make_train_step(self.strategy, self.state, self.experiment, options)
            self.phase, self.multi_step = phase, None
        if self.multi_step is None:
            self.multi_step = train_step.make_multi_step(
                self.iterator, self.step, self.experiment.train.steps_per_execution
            )
        return self.multi_step

    def _next_count(self, done: int, until: int) -> int:
        """Returns the number of steps of the next call, after `done`: up to the next step after which the host acts."""
        every = (LOG_EVERY, self.experiment.train.save_every_steps)
        boundaries = [until, *(done - done % each + each for each in every), *self.profiler.boundaries]
        return min(self.experiment.train.steps_per_execution, min(each for each in boundaries if each > done) - done)

    def _log(self, done: int, metrics: StepMetrics, images_per_second: float, wait_share: float) -> None:
        """Checks the steps so far for NaN and logs their metrics. Waits for the device.

        Raises:
          NonFiniteError: a loss or a gradient is NaN or infinite.
        """
        self.nan_guard.check()
        loss, accuracy = float(self.state.loss.result()), float(self.state.accuracy.result())
        self.progress.update(done, loss, accuracy, wait_share)
        self.events.write_step(
            done,
            {
                "epoch_loss_so_far": loss,
                "epoch_accuracy_so_far": accuracy,
                "batch_loss": float(np.ravel(metrics.loss)[-1]),
                "gradient_norm": float(np.ravel(metrics.gradient_norm)[-1]),
                "loss_scale": self.state.loss_scale(),
                "learning_rate": self.state.learning_rate(),
                "images_per_second": images_per_second,
                "input_wait_share": wait_share,
            },
        )

    def _checkpoint(self, done: int, seconds: float) -> None:
        """Writes a checkpoint of step `done`.

        Args:
          done: steps done.
          seconds: of training and validation so far, over all sessions.

        Raises:
          NonFiniteError: the loss or the weights are NaN or infinite; nothing is written.
        """
        self._check_finite(done)
        extra = {"seconds": round(seconds, 1), "rollbacks": [list(each) for each in self.rollbacks]}
        every, epoch_steps = self.experiment.train.save_every_steps, self.epoch_steps
        checkpoints.save(
            self.folder.checkpoints,
            self.state.checkpoint(),
            done,
            extra,
            lambda step: nan_recovery.is_planned(step, every, epoch_steps),
        )

    def _check_finite(self, done: int) -> None:
        """Checks loss and weights before they are saved: the loss shows a fault one step later than the weights.

        Raises:
          NonFiniteError: names the step.
        """
        self.nan_guard.check()
        if not self.state.is_finite():
            raise NonFiniteError(done)

    def _finish_epoch(
        self, done: int, images_per_second: float, wait_share: float, score: eval_step.Score, seconds: float
    ) -> None:
        """Writes the epoch's entry, the weights if they are the best so far, and a checkpoint.

        Raises:
          NonFiniteError: loss, weights or validation loss are NaN or infinite.
        """
        self._check_finite(done)
        if not np.isfinite(score.loss):  # the averaged weights lag behind, and may overflow in float16 by themselves
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
            "images_per_second": round(images_per_second, 1),
            "input_wait_share": round(wait_share, 4),
            "seconds": round(self.seconds, 1),
            "replicas": self.strategy.num_replicas_in_sync,
        }
        best = score.accuracy > max((past["validation_accuracy"] for past in self.history), default=-1.0)
        self.history.append(entry)
        self.folder.write_history(self.history, plots.curves(self.history))
        if best:
            self.folder.write_best(weights.to_bytes(self.state.ema_weights), entry)
        self.events.write_epoch(entry, score)
        self.progress.end_epoch(entry, best)
        self.state.loss.reset_state()
        self.state.accuracy.reset_state()
        self._checkpoint(done, self.seconds)
        self.on_epoch(entry)

    def _stop(self, done: int, stop: preemption.StopRequest) -> NoReturn:
        """Ends the run as requested, after the checkpoint of step `done` was written.

        Raises:
          Stopped: with the exit code of the signal.
        """
        self.events.close()  # the process may end at once
        raise Stopped(
            f"Stopped after step {done} of {self.total_steps} as requested, with a checkpoint in {self.folder.path}; "
            "the same command resumes the run.",
            stop.exit_code,
        )

    def _roll_back(self, failed_step: int) -> int:
        """Returns to an earlier checkpoint after loss or weights became NaN or infinite at `failed_step`.

        Returns:
          The number of steps done at that checkpoint.

        Raises:
          UserError: `train.on_nan` is "stop", or the rollbacks are used up.
        """
        train = self.experiment.train
        if train.on_nan == "stop":
            saved = multi_worker.broadcast_object(self.strategy, checkpoints.list_steps(self.folder.checkpoints))
            raise UserError(
                f"Loss or weights became NaN or infinite at step {failed_step}. Lower config.optimizer.learning_rate, "
                "set config.optimizer.grad_clip_norm or set config.train.on_nan=rollback, and choose another "
                f"--workdir. The last checkpoint, of step {saved[-1] if saved else 0}, is unchanged."
            )
        new = nan_recovery.roll_back(
            self.folder.checkpoints, self.rollbacks, failed_step, train.save_every_steps, self.epoch_steps
        )
        new = Rollback(*multi_worker.broadcast_object(self.strategy, new))
        before = self.rollbacks  # the checkpoint does not hold the rollbacks that returned to it
        done = self._restore()
        self.rollbacks = [*before, new._replace(to=done)]
        self.folder.write_rollbacks(nan_recovery.rollback_records(self.rollbacks))
        print(
            f"Loss or weights became NaN or infinite at step {failed_step}: returning to step {done} and skipping the "
            f"{failed_step - done} batches since then (rollback {len(self.rollbacks)} of at most "
            f"{nan_recovery.MAX_ROLLBACKS})."
        )
        self.progress.roll_back(done)
        self.nan_guard = NanGuard(scales=train.precision == "mixed_float16")
        self._open_iterator(done)
        return done
