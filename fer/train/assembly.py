"""Assembly of a run: opens its data and builds its model, optimizer, training step and validation."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from fer.config import Experiment, Train
from fer.data import pipeline
from fer.errors import UserError
from fer.models import loading, pretrained, registry
from fer.models.loading import LoadedRun
from fer.run_dir import Teacher
from fer.train import eval_step, preflight, soft_labels, train_state
from fer.train.distributed import multi_worker
from fer.train.distributed.strategy import check_deterministic_jit
from fer.train.optim import losses, param_groups
from fer.train.preflight import CheckedRun
from fer.train.train_step import StepContext

# Fields of a model in which a run may differ from its initial run; `weights` names what that run started from. The
# auxiliary heads of GoogLeNet have weights for one image size.
FREE_FIELDS = ("weights", "image_size", "dropout", "sync_batch_norm")


class RunParts(NamedTuple):
    """The parts of a run that do not change from step to step, besides the variables in `context.state`."""

    context: StepContext  # of the first step; its phase (`mixup`, `param_groups`) is set by the trainer
    source: pipeline.Source  # the train split
    score: Callable[[], eval_step.Score]  # evaluates the averaged model on the validation split
    epoch_steps: int
    total_steps: int
    teachers: list[Teacher]  # records for config.json
    initialized_from: dict[str, Any]  # record for config.json of the run that gave the initial weights; empty if none


def assemble(run: CheckedRun) -> RunParts:
    """Reads the train split and builds the model and all functions of a run, on the devices of its strategy.

    Raises:
      UserError: the data or the weights that the run starts from are damaged, or the model does not fit the settings.
    """
    experiment, strategy, train = run.experiment, run.strategy, run.experiment.train
    classes = run.shards.classes
    initial = load_initial_run(run.init_from, experiment) if run.init_from else None
    source = pipeline.open_split(run.shards, "train", experiment.data)
    held_out = pipeline.open_split(run.shards, "validation", experiment.data)
    epoch_steps = pipeline.steps_per_epoch(source.examples, train.global_batch_size)
    total_steps = preflight.count_steps(train, epoch_steps)
    vote_posterior = soft_labels.make_vote_posterior(source, experiment, epoch_steps, len(classes))
    with strategy.scope():
        teachers = soft_labels.load_teachers(train, run.shards)
    if teachers:
        hashes = {f"teacher, number {number}": each.weights_sha256 for number, each in enumerate(teachers, 1)}
        multi_worker.assert_same_on_all(strategy, hashes)
    initial_weights = get_initial_weights(initial, classes) if initial else None
    built = copy.deepcopy(experiment)
    if not run.loads_weights:
        built.model.weights = "none"
    state = train_state.create_train_state(strategy, built, epoch_steps, total_steps, initial_weights, classes)
    check_deterministic_jit(state.model, train)
    weighted, counts = experiment.data.class_weights != "none", run.shards.split("train").class_counts
    context = StepContext(
        strategy=strategy,
        state=state,
        experiment=experiment,
        classes=classes,
        class_weights=losses.compute_class_weights(counts, experiment.data) if weighted else None,
        distill=soft_labels.make_distill_fn(teachers, train.distill_weight),
        vote_posterior=vote_posterior,
    )
    validation = pipeline.evaluation_batches(held_out, train.global_batch_size)
    score = eval_step.make_scorer(strategy, state.average, validation)
    param_groups.set_phase(state.model, experiment, head_only=False)  # only to report its errors before the run starts
    records = soft_labels.teacher_records(teachers), initial.as_initial_run() if initial else {}
    return RunParts(context, source, score, epoch_steps, total_steps, *records)


def load_initial_run(name: str, experiment: Experiment) -> LoadedRun:
    """Loads the run whose best weights a new run starts from.

    Args:
      name: as for `fer.models.loading.open_run`.
      experiment: of the new run.

    Raises:
      UserError: the run cannot be opened, is an export, or its model has other fields than those in `FREE_FIELDS`.
    """
    try:
        run = loading.open_run(name, experiment.train.precision)  # only its weights are used
    except UserError as error:
        raise UserError(f"--init_from: {error}") from error
    if run.export:
        raise UserError(f"--init_from={name} names an export, which cannot be trained: name the run or a bundle.")
    ours, theirs = vars(experiment.model), vars(run.config.model)
    free = [field for field in FREE_FIELDS if field != "image_size" or not experiment.model.aux_logits]
    differences = [
        f"config.model.{field} is {ours[field]!r}, not {value!r}"
        for field, value in theirs.items()
        if field not in free and ours[field] != value
    ]
    if differences:
        raise UserError(f"--init_from={name} is another network: {'; '.join(differences)}. Set the fields of that run.")
    return run


def get_initial_weights(run: LoadedRun, classes: tuple[str, ...]) -> list[np.ndarray | None]:
    """Returns the weights of the initial run, without its head, which is printed, if it has other classes."""
    if run.classes == classes:
        return run.model.get_weights()
    print(pretrained.new_head_message(run.workdir, run.classes, classes))
    return pretrained.without_head(run.model, run.model.get_weights())


def describe(run: CheckedRun, parts: RunParts) -> str:
    """Returns the network, devices, data and length of a run as text, for a person to check before the first step."""
    experiment, train = run.experiment, run.experiment.train
    side = experiment.model.image_size or registry.backbone_spec(experiment.model.name).size
    replicas = run.strategy.num_replicas_in_sync
    devices = f"{replicas} replica{'s' * (replicas != 1)} ({type(run.strategy).__name__})"
    faces = ", ".join(f"{run.shards.split(name).examples:,} {name}" for name in ("train", "validation"))
    parameters = parts.context.state.model.count_params()
    lines = (
        ("network", f"{experiment.model.name} at {side} pixels, {parameters:,} parameters"),
        ("precision", train.precision),
        ("devices", f"{devices}, global batch {train.global_batch_size}"),
        ("execution", describe_execution(train)),
        ("faces", faces),
        ("steps", f"{parts.total_steps:,}, {parts.epoch_steps:,} per epoch"),
    )
    return "\n".join(f"{name:<10}{text}" for name, text in lines)


def describe_execution(train: Train) -> str:
    """Returns how the steps are executed, as `fer.train.preflight.resolve_execution` chose it, as text."""
    slower = not train.deterministic and tf.config.list_physical_devices("GPU")
    return ", ".join(
        (
            f"{train.steps_per_execution} step{'s' * (train.steps_per_execution != 1)} per call",
            f"XLA {'on' if train.jit_compile else 'off'}",
            f"deterministic ops {'on' if train.deterministic else 'off'}{' (slower on GPUs)' * bool(slower)}",
        )
    )
