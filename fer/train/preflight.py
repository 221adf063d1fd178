"""Checks of a run before its data are read and its model is built."""

from __future__ import annotations

import copy
import shlex
from typing import NamedTuple

import tensorflow as tf

from fer import config, run_dir
from fer.augment import grammar, policy
from fer.config import Experiment, Train
from fer.config_fields import AUTO
from fer.data import manifest, pipeline
from fer.data.manifest import Manifest
from fer.errors import UserError
from fer.models import loading, precision, registry
from fer.run_dir import RunConfig, RunDir
from fer.train import checkpoints, soft_labels
from fer.train.distributed import multi_worker, replica_sync
from fer.train.distributed.cluster_resolver import Cluster
from fer.train.distributed.strategy import find_old_cudnn, make_strategy
from fer.train.optim import lr_schedules

DEVICE_FIELDS = ("precision", "deterministic", "jit_compile", "steps_per_execution")  # of `train`; may be `auto`


class CheckedRun(NamedTuple):
    """A run whose settings, data, directory and devices fit together."""

    experiment: Experiment  # with the values that "auto" stands for on these devices
    shards: Manifest  # without the test split
    folder: RunDir
    strategy: tf.distribute.Strategy
    cluster: Cluster | None  # the workers that train together, if there are several
    init_from: str  # the run whose best weights are loaded before the first step; "" for none, or if the run resumes
    loads_weights: bool  # whether `model.weights` is loaded; not if --init_from or a checkpoint gives the weights


def check_experiment(experiment: Experiment, weights: bool = True) -> None:
    """Checks all of an experiment that needs no data, devices or model.

    Args:
      experiment: validated.
      weights: whether the run loads `model.weights`.

    Raises:
      UserError: the augmentation policy or the backbone is unknown, or a file that the run starts from is missing.
    """
    loading.check_sources(experiment, weights)
    policy.parse(experiment.augment.policy, experiment.augment.backend)
    registry.backbone_spec(experiment.model.name)


def check_run(
    experiment: Experiment, data: str, workdir: str, strategy: str, workers: Cluster | None, init_from: str = ""
) -> CheckedRun:
    """Checks a run and creates the strategy of its devices; reads the manifest of the data only. Writes nothing.

    Args:
      experiment: validated.
      data: a folder that scripts/convert.py wrote.
      workdir: the run directory.
      strategy: one of `fer.config.STRATEGIES`.
      workers: the processes that train together, if there are several.
      init_from: the run whose best weights a new run starts from, or "".

    Raises:
      UserError: the experiment, the data, the run directory or the devices cannot be used; see the functions called.
    """
    folder = RunDir(workdir)
    recorded = folder.find_config()
    resumes = bool(recorded and checkpoints.list_steps(folder.checkpoints))
    loads_weights = not (resumes or init_from or (recorded and recorded.initialized_from))
    check_experiment(experiment, loads_weights)
    experiment = resolve_execution(precision.resolve_precision(experiment), recorded.experiment if recorded else None)
    precision.allow_tensor_float_32(experiment.train)
    shards = manifest.read_manifest(data).seal_test_split()
    manifest.check_sizes(shards)
    epoch_steps = pipeline.steps_per_epoch(shards.split("train").examples, experiment.train.global_batch_size)
    check_profile_steps(experiment.train, count_steps(experiment.train, epoch_steps))
    check_recorded_run(folder, recorded, experiment, shards)
    init_from = find_initial_run(folder, recorded, init_from)
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
    return CheckedRun(experiment, shards, folder, distribution, cluster, init_from, loads_weights)


def resolve_execution(experiment: Experiment, recorded: Experiment | None = None) -> Experiment:
    """Returns the experiment with `auto` in `train` replaced by the values for the devices, as the run records it.

    Deterministic ops cost nothing on a CPU. On a GPU, TensorFlow then takes fixed algorithms of cuDNN instead of the
    fastest, and XLA has no deterministic gradient of max-pooling. A GPU waits for launches, which XLA and several steps
    per call make fewer; a CPU gains nothing. The replicas of a function compiled by XLA cannot communicate.

    Args:
      experiment: of the command.
      recorded: of a run that goes on, which keeps its values on other devices.
    """
    resolved = copy.deepcopy(experiment)
    train, on_gpu = resolved.train, bool(tf.config.list_physical_devices("GPU"))

    def resolve(name: str, by_device: bool | int) -> None:
        if getattr(train, name) == AUTO:
            setattr(train, name, getattr(recorded.train, name) if recorded else by_device)

    resolve("deterministic", not on_gpu)
    compiles = on_gpu and not (train.deterministic or resolved.model.sync_batch_norm or find_old_cudnn())
    resolve("jit_compile", compiles)
    resolve("steps_per_execution", config.MAX_STEPS_PER_EXECUTION if on_gpu else 1)
    return resolved


def check_recorded_run(folder: RunDir, recorded: RunConfig | None, experiment: Experiment, shards: Manifest) -> None:
    """Checks that a run can start in `folder`, or that the run there, of config `recorded`, can go on.

    Raises:
      UserError: as `fer.run_dir.check_run_dir` and `check_length`.
    """
    run_dir.check_run_dir(folder, recorded, experiment, shards)
    if recorded:
        check_length(folder, recorded.experiment, experiment, shards)


def hash_settings(run: CheckedRun) -> dict[str, str]:
    """Returns the SHA-256 of what must be the same on all workers, by its name in messages.

    The fields whose `auto` depends on the device have hashes of their own, and come first: workers with different
    devices differ in them although their commands are equal.
    """
    train = run.experiment.train
    fields = {f"config.train.{name}": config.sha256({name: getattr(train, name)}) for name in DEVICE_FIELDS}
    return {**fields, "config": run.experiment.sha256(), "data": run.shards.sha256}


def find_initial_run(folder: RunDir, recorded: RunConfig | None, init_from: str) -> str:
    """Returns the run whose weights must be loaded before the first step; "" if there is none, or a checkpoint exists.

    Args:
      folder: of the run.
      recorded: its config.json, which decides; None if there is none.
      init_from: the run that the command names, or "".

    Raises:
      UserError: the run in `folder` started from another run, or the run that `init_from` names has no weights.
    """
    if recorded:
        initial = recorded.initialized_from.get("run", "")
        if init_from not in ("", initial):
            started = f"with --init_from={shlex.quote(initial)}" if initial else "without --init_from"
            raise UserError(
                f"{folder.config_file} records a run that started {started}: leave --init_from out to resume it, or "
                "choose another --workdir."
            )
        init_from = "" if checkpoints.list_steps(folder.checkpoints) else initial
    if init_from:
        loading.check_initial_run(init_from)
    return init_from


def count_steps(train: Train, epoch_steps: int) -> int:
    """Returns the number of steps of a run."""
    return train.max_steps or train.epochs * epoch_steps


def check_profile_steps(train: Train, num_steps: int) -> None:
    """Checks that the run reaches the steps that `train.profile_steps` names.

    Raises:
      UserError: it has fewer steps.
    """
    first, _ = config.parse_step_range(train.profile_steps) or (0, 0)
    if first > num_steps:
        raise UserError(
            f"config.train.profile_steps is {train.profile_steps!r}, and the run has {num_steps:,} steps: choose "
            "earlier steps."
        )


def check_length(folder: RunDir, before: Experiment, experiment: Experiment, shards: Manifest) -> None:
    """Checks that a run whose recorded length differs from that of `experiment` can go on to the new length.

    Args:
      folder: of the run.
      before: the recorded configuration. It differs from `experiment` in the length only.
      experiment: the configuration.
      shards: the training data.

    Raises:
      UserError: the new length is not larger, or the steps so far depended on the old length.
    """
    changed = config.diff(before, experiment)
    if not changed:
        return
    epoch_steps = pipeline.steps_per_epoch(shards.split("train").examples, experiment.train.global_batch_size)
    old, new = (count_steps(each.train, epoch_steps) for each in (before, experiment))
    if new <= old:
        raise UserError(
            f"{folder.config_file} records a run of {old} steps, which cannot be changed to {new} "
            f"({'; '.join(changed)}): a run can only become longer. Choose another --workdir, "
            "or give the flags of the run that is there."
        )
    done = max(checkpoints.list_steps(folder.checkpoints), default=0)
    reason = _find_dependence_on_length(experiment, old, epoch_steps, done)
    if reason:
        raise UserError(
            f"{folder.config_file} records a run of {old} steps, which cannot go on to {new}: {reason}. To start a new "
            f"run from its best weights, set --init_from={shlex.quote(folder.path)} and another --workdir."
        )


def _find_dependence_on_length(experiment: Experiment, steps: int, epoch_steps: int, done: int) -> str:
    """Returns why the first `done` steps of a run of `steps` steps are not those of a longer run; "" if they are."""
    if not done:
        return ""
    optimizer, augment = experiment.optimizer, experiment.augment
    if optimizer.schedule in lr_schedules.LENGTH_SCHEDULES:
        return f"the schedule {optimizer.schedule} decays the learning rate over the length of the run"
    mixes = grammar.mixes_images(augment.policy, augment.backend)
    last_epoch_start = (done - 1) // epoch_steps * epoch_steps
    if mixes and last_epoch_start >= steps - augment.mixup_off_epochs * epoch_steps:
        return f"its last {augment.mixup_off_epochs} epochs train without mixup (config.augment.mixup_off_epochs)"
    if round(optimizer.warmup_epochs * epoch_steps) >= steps:
        return "its warm-up was shortened to this length (config.optimizer.warmup_epochs)"
    if done == steps and steps % epoch_steps:  # the history and the best weights would keep this validation
        return "it ended, and was validated, within an epoch (config.train.max_steps)"
    return ""


def _check_all_labelled(shards: Manifest) -> None:
    """Checks that all faces of the train and validation splits have a label.

    Raises:
      UserError: some have none.
    """
    for name in ("train", "validation"):
        unlabelled = shards.split(name).unlabelled
        if unlabelled > 0:
            raise UserError(
                f"The {name} split of {shards.folder} has {unlabelled:,} faces without a label; convert a source that "
                "labels them all."
            )
