"""Training of a run: from its first step, or from its last checkpoint, to its last step."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from fer import log_suppression, run_dir, storage, tf_workarounds
from fer.config import MAX_STEPS_PER_EXECUTION, Experiment
from fer.data.sampling import Batch
from fer.errors import Stopped, UserError
from fer.io import files, mirror
from fer.models import weights
from fer.progress import TrainProgress
from fer.run_dir import CheckpointRecord, Entry, Rollback, RunDir
from fer.train import assembly, checkpoints, device_iterator, nan_recovery, preemption, preflight, run_lock, train_step
from fer.train.assembly import RunParts
from fer.train.device_iterator import DeviceIterator
from fer.train.distributed import multi_worker
from fer.train.distributed.cluster_resolver import Cluster
from fer.train.eval_step import Score
from fer.train.metric_logging import EventWriter
from fer.train.nan_recovery import NanGuard, NonFiniteError
from fer.train.optim import param_groups
from fer.train.profiler import Profiler
from fer.train.train_step import StepMetrics
from fer.viz import plots

LOG_EVERY = MAX_STEPS_PER_EXECUTION  # steps between two reads of the loss: each read waits for the device


class RunOptions(NamedTuple):
    """Options of a run besides its config: where it starts, and hooks by which a caller follows and stops it.

    Attributes:
      on_epoch: called with the entry of history.json after an epoch, when its checkpoint is written. An exception that
        it raises ends the run; the same call resumes it.
      stop: the caller's request to stop; if None, the run handles SIGTERM and SIGINT itself.
      stop_on_spot_interruption: whether EC2's notice of a spot interruption stops the run with a checkpoint.
      init_from: the run whose best weights a new run starts from, as for `fer.models.loading.open_run`; "" for none.
      storage_timeout: seconds that the last upload to a run directory in a store may take.
    """

    on_epoch: Callable[[Entry], None] = lambda entry: None
    stop: preemption.StopRequest | None = None
    stop_on_spot_interruption: bool = False
    init_from: str = ""
    storage_timeout: float = 600.0


def train(
    experiment: Experiment,
    data: str,
    workdir: str,
    strategy: str,
    workers: Cluster | None = None,
    options: RunOptions = RunOptions(),  # noqa: B008
) -> None:
    """Trains `experiment` on the shards in `data`; the same call resumes a run that was interrupted.

    Args:
      experiment: validated.
      data: a folder that scripts/convert.py wrote.
      workdir: the run directory.
      strategy: one of `fer.config.STRATEGIES`.
      workers: the processes that train together, if there are several.
      options: see `RunOptions`.

    Raises:
      Stopped: a signal or a spot notice stopped the run; it left a checkpoint.
      UserError: the data, the run directory, the devices or the experiment cannot be used; see the functions called.
    """
    run = preflight.check_run(experiment, data, workdir, strategy, workers, options.init_from)
    is_chief = workers is None or workers.chief
    with (
        _memory_errors(),
        multi_worker.worker_loss_errors(run.cluster),
        multi_worker.report_startup(run.strategy),
        run_lock.hold(workdir) if is_chief else contextlib.nullcontext(lambda: None) as check_owner,
        multi_worker.worker_dir(run.cluster, workdir) as own_dir,
        _open_local_copy(own_dir, options.storage_timeout, check_owner) as copy,
        tf_workarounds.release_custom_gradients(),
    ):
        multi_worker.assert_same_on_all(run.strategy, preflight.hash_settings(run))
        folder = RunDir(copy.folder, url=own_dir if storage.is_remote(own_dir) else "")
        if is_chief:  # again, because another process may have started a run here before this one held the lock
            preflight.check_recorded_run(folder, folder.find_config(), run.experiment, run.shards)
        parts = assembly.assemble(run)
        print(assembly.describe(run, parts), flush=True)
        # Last: a run that cannot start leaves no files and changes none.
        folder.write_config(run.experiment, run.shards, parts.teachers, parts.initialized_from)
        folder.extend_config(run.experiment, max(checkpoints.list_steps(folder.checkpoints), default=0))
        with (
            contextlib.nullcontext(options.stop) if options.stop else preemption.stop_on_signals() as stop,
            preemption.stop_on_spot_notice(stop) if options.stop_on_spot_interruption else contextlib.nullcontext(),
        ):
            Trainer(parts, folder, stop, options.on_epoch, copy).fit()
        print(f"The best weights, the history and the curves are in {workdir}.")


def is_out_of_memory(error: tf.errors.ResourceExhaustedError) -> bool:
    """Returns whether a device lacks memory. The same exception reports a full disk and too many open files."""
    return bool(re.search("OOM|memory", str(error)))


@contextlib.contextmanager
def _memory_errors() -> Iterator[None]:
    """Converts TensorFlow's error about memory that a device cannot allocate to UserError."""
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            f"A device has too little memory for the run ({files.error_message(error)}). Lower "
            "config.train.global_batch_size or config.model.image_size, or raise "
            "config.train.gradient_accumulation_steps; another config needs another run directory."
        ) from error


class LocalCopy(NamedTuple):
    """The local files of a run: the run directory itself, or the copy of one in a store."""

    folder: str
    upload: Callable[[], None] = lambda: None  # called after each checkpoint
    upload_state: Callable[[], str] = str  # text for the progress display


@contextlib.contextmanager
def _open_local_copy(workdir: str, timeout: float, check_owner: run_lock.Check) -> Iterator[LocalCopy]:
    """Yields the local files of a run, and uploads them at the end: see `fer.io.mirror.open_mirror`.

    Each upload, the last one too, is preceded by a check that the run in the store still belongs to this process.
    """
    if not storage.is_remote(workdir):
        yield LocalCopy(workdir)
        return
    with mirror.open_mirror(workdir, run_dir.upload_rank, run_dir.is_state, timeout) as copy:

        def upload() -> None:
            check_owner()
            copy.upload()

        try:
            yield LocalCopy(copy.folder, upload, copy.state)
        finally:
            check_owner()


class Phase(NamedTuple):
    """The part of a run in which its step stays the same."""

    mixup: bool  # whether the step mixes images
    head_only: bool  # whether it trains the head alone


class Throughput(NamedTuple):
    """Speed of the training of an epoch, without its validation."""

    images_per_second: float
    input_wait_share: float  # share of the time that was spent in waiting for batches


class EpochTimer:
    """Measures the training of an epoch, or of the part of it that a resumed run trains."""

    def __init__(self, iterator: DeviceIterator, step: int, global_batch: int):
        self._iterator, self._first_step, self._global_batch = iterator, step, global_batch
        self._started, self._waited = time.monotonic(), iterator.waited

    def seconds(self) -> float:
        """Returns the time since the start, in seconds."""
        return time.monotonic() - self._started

    def throughput(self, step: int) -> Throughput:
        """Returns the throughput up to `step`."""
        seconds, images = self.seconds(), (step - self._first_step) * self._global_batch
        return Throughput(images / seconds, (self._iterator.waited - self._waited) / seconds)


class Trainer:
    """A run in progress. `fit` is read first; the other methods follow in the order in which it calls them.

    Args:
      parts: from `fer.train.assembly.assemble`.
      folder: the run directory.
      stop: checked after each call of the device.
      on_epoch: see `RunOptions`.
      copy: the local files, which `folder` names.
    """

    def __init__(
        self,
        parts: RunParts,
        folder: RunDir,
        stop: preemption.StopRequest,
        on_epoch: Callable[[Entry], None],
        copy: LocalCopy,
    ):
        self.context, self.source, self.score = parts.context, parts.source, parts.score
        self.experiment, self.strategy, self.state = self.context.experiment, self.context.strategy, self.context.state
        self.epoch_steps, self.total_steps = parts.epoch_steps, parts.total_steps
        self.folder, self.stop, self.on_epoch, self.copy = folder, stop, on_epoch, copy
        self.stop_requested = False  # when the workers last agreed on it
        # The position in the run. A checkpoint holds it, besides the variables of the state.
        self.done = 0  # steps
        self.seconds = 0.0  # of training and validation up to the last epoch, over all sessions
        self.history: list[Entry] = []
        self.rollbacks: list[Rollback] = []
        # The compiled step, which changes with the phase. `run_steps` makes it on a number of batches of `iterator`.
        self.phase: Phase | None = None
        self.step: Callable[[Batch], StepMetrics] | None = None
        self.run_steps: Callable[[int], StepMetrics] | None = None
        self.scales_loss = self.experiment.train.precision == "mixed_float16"
        self.loss_scale: float  # when the run was restored, or the metrics were last logged
        # Outputs. `fit` opens the events, the progress display and the iterator if there are steps to train.
        self.nan_guard = self._make_nan_guard()
        self.profiler = Profiler(folder.events, self.experiment.train.profile_steps)
        self.events: EventWriter
        self.progress: TrainProgress
        self.iterator: DeviceIterator

    def fit(self) -> None:
        """Restores the newest checkpoint, then trains epoch by epoch until the last step.

        Raises:
          Stopped: `stop` was requested; a checkpoint is written.
          UserError: the loss or the weights became NaN or infinite, and `train.on_nan` does not allow a rollback.
        """
        checkpoints.clean(self.folder.checkpoints)
        self._restore()
        if self.done >= self.total_steps:
            print(f"The run in {self.folder.name} is complete: {self.done} steps.")
            return
        with self._open_outputs():
            if self.experiment.train.on_nan == "rollback" and not checkpoints.list_steps(self.folder.checkpoints):
                self._save_checkpoint(self.seconds)  # a rollback needs one, on every worker
            while self.done < self.total_steps:
                timer = EpochTimer(self.iterator, self.done, self.experiment.train.global_batch_size)
                try:
                    throughput = self._train_epoch(timer)
                    score = self.score()
                    entry = self._record_epoch(score, throughput, timer.seconds())
                    self._save_checkpoint(self.seconds)
                except NonFiniteError as error:
                    self._roll_back(error.step)
                else:
                    self.on_epoch(entry)
                    self._stop_if_requested()

    def _restore(self) -> None:
        """Restores the newest checkpoint, if there is one."""
        own = checkpoints.restore(self.folder.checkpoints, self.state.checkpoint())
        restored = multi_worker.broadcast_object(self.strategy, own)
        self.done = 0
        if restored:
            self.done, self.seconds, rollbacks, _ = CheckpointRecord(*restored)
            self.rollbacks = [Rollback(*each) for each in rollbacks]
            self.history = self.folder.read_history(until_step=self.done)
            report_changed_replicas(self.history, self.strategy.num_replicas_in_sync)
        multi_worker.broadcast_variables(self.strategy, self.state.variables)
        self.loss_scale = self.state.loss_scale()
        self.state.step.assign(self.done)  # a worker without a checkpoint of its own gets the chief's step, too

    @contextlib.contextmanager
    def _open_outputs(self) -> Iterator[None]:
        """Opens the iterator, the logs and the profiler; logs the config and the next augmented batch."""
        if self.done:
            print(f"Resuming after step {self.done} of {self.total_steps} in {self.folder.name}.")
        global_batch = self.experiment.train.global_batch_size
        self.events = EventWriter(self.folder.events, self.context.classes)
        self.events.write_config(self.experiment)
        self.progress = TrainProgress(self.total_steps, self.done, global_batch, self.epoch_steps)
        print("Compiling the first step ...", flush=True)
        self._open_iterator()
        self._log_augmented_images()
        try:
            yield
        finally:
            self.profiler.close()
            self.progress.close()
        self.events.close()

    def _open_iterator(self) -> None:
        """Opens the iterator over the batches of the steps to come, without those that rollbacks skip."""
        skipped = nan_recovery.count_skipped_batches(self.rollbacks)
        self.iterator = DeviceIterator(
            self.strategy, self.source, self.experiment, self.done + skipped, self.total_steps + skipped
        )
        self.run_steps = None  # reads from the iterator

    def _log_augmented_images(self) -> None:
        """Logs the images of the next batch as the next step augments them."""
        seed = tf.constant([self.experiment.seed, self.done])
        start = self.done + nan_recovery.count_skipped_batches(self.rollbacks)
        replicas = self.strategy.num_replicas_in_sync
        context = dataclasses.replace(self.context, mixup=self._find_phase().mixup, distill=None)
        for batch in device_iterator.build_dataset(self.source, self.experiment, start, start + 1, replicas, [0]):
            with log_suppression.suppress_stderr():  # XLA logs its first compilation
                inputs = train_step.prepare_inputs(context, batch, seed)
            self.events.write_augmented_images(inputs.images, self.done)

    def _find_phase(self) -> Phase:
        """Returns the phase of the next step; the last `mixup_off_epochs` epochs do not mix images."""
        epoch_start = self.done - self.done % self.epoch_steps
        mixup_until = self.total_steps - self.experiment.augment.mixup_off_epochs * self.epoch_steps
        head_only_until = self.experiment.finetune.head_only_epochs * self.epoch_steps
        return Phase(mixup=epoch_start < mixup_until, head_only=self.done < head_only_until)

    def _train_epoch(self, timer: EpochTimer) -> Throughput:
        """Trains to the end of the epoch, with a checkpoint every `save_every_steps`.

        Raises:
          NonFiniteError: a loss or a gradient is NaN or infinite.
          Stopped: a stop was requested before the end of the epoch; a checkpoint is written.
        """
        until = min(self.total_steps, (self.done // self.epoch_steps + 1) * self.epoch_steps)
        run_steps = self._compile_steps()
        while self.done < until:
            self.profiler.start_before(self.done)
            count = self._next_count(until)
            metrics = run_steps(count)
            multi_worker.report_started(self.strategy)
            self.nan_guard.record(self.done, metrics)
            self.done += count
            self.profiler.stop_after(self.done, self.state.optimizer.iterations)
            if self.done % LOG_EVERY == 0 or self.done == until:
                self._log(metrics, timer.throughput(self.done))
            is_due = self.done % self.experiment.train.save_every_steps == 0
            self.stop_requested = multi_worker.sync_stop(self.strategy, self.stop, count)
            if (is_due or self.stop_requested) and self.done < until:
                self._save_checkpoint(self.seconds + timer.seconds())
                self._stop_if_requested()
        return timer.throughput(self.done)

    def _compile_steps(self) -> Callable[[int], StepMetrics]:
        """Returns the function that makes the next steps.

        The step is built anew where the phase changes, and the function where the step or the iterator changes.
        """
        phase = self._find_phase()
        if self.step is None or self.phase != phase:
            groups = param_groups.set_phase(self.state.model, self.experiment, phase.head_only, self.epoch_steps)
            context = dataclasses.replace(self.context, mixup=phase.mixup, param_groups=groups)
            self.step, self.phase, self.run_steps = train_step.make_train_step(context), phase, None
        if self.run_steps is None:
            steps_per_execution = self.experiment.train.steps_per_execution
            self.run_steps = train_step.make_multi_step(self.iterator, self.step, steps_per_execution)
        return self.run_steps

    def _next_count(self, until: int) -> int:
        """Returns the number of steps of the next call: up to the next step after which the host acts."""
        every = (LOG_EVERY, self.experiment.train.save_every_steps)
        boundaries = [until, *(self.done - self.done % each + each for each in every), *self.profiler.boundaries]
        next_boundary = min(each for each in boundaries if each > self.done)
        return min(self.experiment.train.steps_per_execution, next_boundary - self.done)

    def _log(self, metrics: StepMetrics, throughput: Throughput) -> None:
        """Checks the steps so far for NaN and logs their metrics. Waits for the device.

        Raises:
          NonFiniteError: a loss or a gradient is NaN or infinite.
        """
        self.nan_guard.check()
        gradient_norm = float(np.ravel(metrics.gradient_norm)[-1])
        # An overflow skips the update and halves the scale. At 1, the gradient itself is NaN or infinite. The scale is
        # that before the steps, because the last one may have halved it to 1.
        if self.scales_loss and self.loss_scale <= 1 and not np.isfinite(gradient_norm):
            raise NonFiniteError(self.done)
        self.loss_scale = self.state.loss_scale()
        loss, accuracy = float(self.state.loss.result()), float(self.state.accuracy.result())
        self.progress.update(self.done, loss, accuracy, throughput.input_wait_share, self.copy.upload_state())
        self.events.write_step(
            self.done,
            {
                "epoch_loss_so_far": loss,
                "epoch_accuracy_so_far": accuracy,
                "batch_loss": float(np.ravel(metrics.loss)[-1]),
                "gradient_norm": gradient_norm,
                "loss_scale": self.loss_scale,
                "learning_rate": self.state.learning_rate(),
                **throughput._asdict(),
            },
        )

    def _record_epoch(self, score: Score, throughput: Throughput, seconds: float) -> Entry:
        """Writes the epoch's entry in the history, and the weights if they are the best so far.

        Raises:
          NonFiniteError: loss, weights or validation loss are NaN or infinite.
        """
        self._check_finite()
        if not np.isfinite(score.loss):  # the averaged weights lag behind, and may overflow in float16 by themselves
            raise NonFiniteError(self.done)
        self.seconds += seconds
        entry = {
            "epoch": -(-self.done // self.epoch_steps),
            "step": self.done,
            "learning_rate": self.state.learning_rate(),
            "train_loss": float(self.state.loss.result()),
            "train_accuracy": float(self.state.accuracy.result()),
            "validation_loss": score.loss,
            "validation_accuracy": score.accuracy,
            "validation_macro_f1": score.macro_f1,
            "validation_cohen_kappa": score.cohen_kappa,
            "validation_matthews": score.matthews,
            "images_per_second": round(throughput.images_per_second, 1),
            "input_wait_share": round(throughput.input_wait_share, 4),
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
        return entry

    def _check_finite(self) -> None:
        """Checks loss and weights before they are saved: the loss shows a fault one step later than the weights.

        Raises:
          NonFiniteError: names the step.
        """
        self.nan_guard.check()
        if not self.state.is_finite():
            raise NonFiniteError(self.done)

    def _save_checkpoint(self, seconds: float) -> None:
        """Writes a checkpoint.

        Args:
          seconds: of training and validation so far, over all sessions.

        Raises:
          NonFiniteError: the loss or the weights are NaN or infinite; nothing is written.
        """
        self._check_finite()
        every, epoch_steps = self.experiment.train.save_every_steps, self.epoch_steps
        checkpoints.save(
            self.folder.checkpoints,
            self.state.checkpoint(),
            CheckpointRecord(self.done, round(seconds, 1), self.rollbacks),
            lambda step: nan_recovery.is_planned(step, every, epoch_steps),
        )
        self.copy.upload()

    def _stop_if_requested(self) -> None:
        """Ends the run if a stop is requested and steps are left; a checkpoint of the last step must be written.

        Raises:
          Stopped: with the exit code of the request.
        """
        if self.stop_requested and self.done < self.total_steps:
            self.events.close()  # the process may end at once
            raise Stopped(
                f"Stopped after step {self.done} of {self.total_steps} as requested, with a checkpoint in "
                f"{self.folder.name}; the same command resumes the run.",
                self.stop.exit_code,
            )

    def _roll_back(self, failed_step: int) -> None:
        """Returns to an earlier checkpoint after loss or weights became NaN or infinite at `failed_step`.

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
        self._restore()
        self.rollbacks = [*before, new._replace(to=self.done)]
        self.folder.write_rollbacks(self.rollbacks)
        print(
            f"Loss or weights became NaN or infinite at step {failed_step}: returning to step {self.done} and skipping "
            f"the {failed_step - self.done} batches since then (rollback {len(self.rollbacks)} of at most "
            f"{nan_recovery.MAX_ROLLBACKS})."
        )
        self.progress.roll_back(self.done)
        self.nan_guard = self._make_nan_guard()
        self._open_iterator()

    def _make_nan_guard(self) -> NanGuard:
        return NanGuard(scales=self.scales_loss)


def report_changed_replicas(history: Sequence[Entry], replicas: int) -> None:
    """Prints a notice if the number of replicas differs from the last epoch's, which may change the result."""
    before = history[-1].get("replicas", replicas) if history else replicas
    if before != replicas:
        print(
            f"The last epoch was trained on {before} replicas, and the next is on {replicas}: mixup's partners and, "
            "unless config.model.sync_batch_norm is set, BatchNormalization's batches are others from here on."
        )
