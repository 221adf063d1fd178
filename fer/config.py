"""Typed configuration of an experiment: read from configs/, overridden by flags, validated, recorded with its run."""

import dataclasses
import difflib
import hashlib
import json
import os
import re
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from fer.config_fields import AUTO, Auto, check_fields, field, limits_by_path, require
from fer.errors import UserError

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16", "auto")
NORMALIZATIONS = ("grey", "unit", "tf", "v2", "lite", "arcface", "caffe", "dlib", "torch")
WEIGHT_FILES = (".h5", ".keras", ".npz")
MAX_STEPS_PER_EXECUTION = 20  # the host checks the loss that often

# Values of program flags that are not fields of an experiment.
STRATEGIES = ("auto", "one", "mirrored", "multi_worker")
SPLITS = ("validation", "test")  # splits that can be evaluated
TTA = ("none", "flip", "tencrop")  # test-time augmentation; see `fer.evaluation.inference.tta_views`
LABELS = ("fer", "ferplus")  # see `fer.evaluation.eval_dataset.read`
RECIPES = ("greedy", "uniform")  # of model soups; see `fer.export.model_soup`
FACES = ("auto", "find", "whole")  # content of an image; see `fer.predict.face_detection.extract_faces`
FORMATS = {  # export formats with their precisions, the most exact first
    "saved_model": ("float32",),
    "tflite": ("float32", "float16", "int8"),
    "onnx": ("float32",),
}
DEVICES = ("GPU", "CPU")
FITS = ("stretch", "crop", "pad")  # how images become square; see `fer.convert.readers.image_reader`
ON_BAD_ROW = ("fail", "quarantine")
DROPPABLE = ("leaked", "near_leaked", "blank", "conflicting", "not_a_face")  # see `fer.convert.audit.audit`


# Fields and values that had other names before version 0.1.0. Recorded configurations are read through this table.
RENAMED_FIELDS = {
    "model.pixels": "model.normalization",
    "model.grey": "model.stem_channels",
    "model.cut": "model.truncate_at",
    "model.auxiliary_heads": "model.aux_logits",
    "data.memory_mib": "data.in_memory_limit_mib",
    "data.shuffle_window": "data.shuffle_buffer_size",
    "data.effective_beta": "data.class_balanced_beta",
    "augment.engine": "augment.backend",
    "augment.mixing_off_epochs": "augment.mixup_off_epochs",
    "optimizer.rate_for_batch": "optimizer.base_batch_size",
    "optimizer.step_epochs": "optimizer.decay_epochs",
    "optimizer.step_factor": "optimizer.decay_rate",
    "optimizer.clip_norm": "optimizer.grad_clip_norm",
    "finetune.head_epochs": "finetune.head_only_epochs",
    "finetune.blocks": "finetune.trainable_blocks",
    "train.global_batch": "train.global_batch_size",
    "train.accumulation": "train.gradient_accumulation_steps",
    "train.steps": "train.max_steps",
    "train.steps_per_call": "train.steps_per_execution",
    "train.targets": "train.label_source",
    "train.teacher": "train.teacher_runs",
    "train.teacher_share": "train.distill_weight",
    "train.checkpoint_steps": "train.save_every_steps",
    "train.replicas": "train.num_replicas",
}
BEFORE_AUTO = {"jit_compile": False, "steps_per_execution": 1}  # of `train`, in records without these fields
RENAMED_VALUES = {"data.mode": {"resident": "in_memory"}}

# Names that other trainers give to fields of ours, for messages about unknown fields.
SYNONYMS = {
    **dict.fromkeys(("lr", "base_lr", "initial_lr"), "optimizer.learning_rate"),
    **dict.fromkeys(("wd", "l2"), "optimizer.weight_decay"),
    **dict.fromkeys(("opt", "optim", "optimizer"), "optimizer.name"),
    **dict.fromkeys(("scheduler", "sched", "lr_schedule", "lr_scheduler"), "optimizer.schedule"),
    **dict.fromkeys(("warmup", "warmup_steps"), "optimizer.warmup_epochs"),
    **dict.fromkeys(("clip_grad", "grad_clip", "clipnorm", "max_grad_norm"), "optimizer.grad_clip_norm"),
    **dict.fromkeys(("batch_size", "bs", "batch"), "train.global_batch_size"),
    **dict.fromkeys(("num_epochs", "n_epochs"), "train.epochs"),
    **dict.fromkeys(("num_steps", "total_steps"), "train.max_steps"),
    **dict.fromkeys(("grad_accum_steps", "accum_steps"), "train.gradient_accumulation_steps"),
    **dict.fromkeys(("amp", "fp16", "bf16", "dtype", "mixed_precision"), "train.precision"),
    **dict.fromkeys(("ema", "model_ema"), "train.ema_decay"),
    **dict.fromkeys(("xla", "compile"), "train.jit_compile"),
    **dict.fromkeys(("smoothing",), "train.label_smoothing"),
    **dict.fromkeys(("num_gpus", "gpus"), "train.num_replicas"),
    **dict.fromkeys(("pretrained", "checkpoint"), "model.weights"),
    **dict.fromkeys(("arch", "backbone", "architecture", "model_name"), "model.name"),
    **dict.fromkeys(("img_size", "input_size", "resolution"), "model.image_size"),
    **dict.fromkeys(("drop_rate", "drop"), "model.dropout"),
    **dict.fromkeys(("augmentation", "augmentations", "mixup", "cutmix", "randaugment", "aa"), "augment.policy"),
    **dict.fromkeys(("random_seed", "random_state"), "seed"),
}
ABSENT = {
    "num_classes": "the classes are those of --data (fer-convert --classes)",
    **dict.fromkeys(
        ("num_workers", "workers", "prefetch"), "input runs in TensorFlow's threads and needs no such setting"
    ),
}


def parse_step_range(span: str) -> tuple[int, int] | None:
    """Returns first and last step of `train.profile_steps`, counted from 1; None if the text is no valid range."""
    found = re.fullmatch(r"(\d{1,9})-(\d{1,9})", span)
    first, last = (int(found[1]), int(found[2])) if found else (0, 0)
    return (first, last) if 1 <= first <= last else None


@dataclasses.dataclass
class Model:
    """The network; `scripts/train.py --list_models` prints all models."""

    name: str = field("compact", "backbone, see `--list_models`, or `keras_cv/PRESET`")
    image_size: int = field(0, "side of the backbone's input in pixels", ge=24, le=1024, zero="the backbone's default")
    weights: str = field(
        "none",
        f"initial weights: `none` (random, by the seed), `imagenet` or a file ({', '.join(WEIGHT_FILES)})",
        test=lambda text: text in ("none", "imagenet") or text.endswith(WEIGHT_FILES),
        valid=f"none, imagenet or a file ({', '.join(WEIGHT_FILES)})",
    )
    normalization: str = field(
        "", "input normalization", choices={"": "the backbone's own", **dict.fromkeys(NORMALIZATIONS, "")}
    )
    stem_channels: str = field(
        "repeat",
        "grey images in a backbone of three channels",
        choices={"repeat": "three equal channels", "sum": "stem kernels summed over RGB"},
    )
    truncate_at: str = field("", "last block of the backbone that is used, such as `mixed8`; empty: all blocks")
    pooling: str = field(
        "avg",
        "pooling of the features",
        choices={"avg": "", "max": "", "avgmax": "mean of both", "gem": "generalized mean"},
    )
    dropout: float = field(0.2, "dropout rate before the last layer", ge=0, lt=1)
    sync_batch_norm: bool = field(False, "batch statistics over all replicas instead of each replica's own")
    aux_logits: bool = field(False, "trains GoogLeNet's two auxiliary classifiers, loss weight 0.3")


@dataclasses.dataclass
class Data:
    """Reading of the splits, and frequency and weight of the classes."""

    mode: str = field(
        "auto",
        "place of the examples",
        choices={
            "in_memory": "",
            "streaming": "from the shards",
            "auto": "in_memory up to data.in_memory_limit_mib",
        },
    )
    in_memory_limit_mib: int = field(2048, "largest split that `auto` loads into memory, in MiB", ge=0)
    shuffle_buffer_size: int = field(
        65_536, "shuffle buffer of streaming, in examples of 2.3 kB; memory holds about three buffers", ge=1
    )
    sampling: str = field(
        "uniform",
        "sampling of an epoch",
        choices={"uniform": "each image once", "balanced": "each class equally often"},
    )
    class_weights: str = field(
        "none",
        "loss weights",
        choices={"none": "", "inverse": "inverse class frequency", "effective": "effective number of samples"},
    )
    class_balanced_beta: float = field(
        0.999, "beta of `effective`; 0: equal weights, towards 1: inverse frequency", ge=0, lt=1
    )


@dataclasses.dataclass
class Augment:
    """Augmentation of training images."""

    policy: str = field(
        "flip|affine(rotate=15,scale=0.1,shift=0.08,shear=0.1)",
        "ops that are applied in this order; `none`: no augmentation",
        test=bool,
        valid='a policy such as "flip", or "none"',
    )
    backend: str = field(
        "fused",
        "implementation of the ops",
        choices={"fused": "", "keras_cv": "KerasCV's layers, for comparison; not reproducible by the seed"},
    )
    mixup_off_epochs: int = field(0, "last epochs without mixup and cutmix", ge=0)


@dataclasses.dataclass
class Optimizer:
    """Optimizer and learning rate: warm-up, then `schedule`."""

    name: str = field("sgd", "optimizer", choices={"sgd": "Nesterov", "adamw": "", "lamb": "", "radam_lookahead": ""})
    learning_rate: float = field(0.1, "peak learning rate, after the warm-up", gt=0)
    base_batch_size: int = field(
        0, "global batch size of `learning_rate`; others scale it linearly", ge=1, zero="no scaling"
    )
    schedule: str = field(
        "cosine",
        "learning rate after the warm-up",
        choices={"cosine": "down to zero", "one_cycle": "", "step": "", "constant": ""},
    )
    decay_epochs: float = field(30.0, "epochs between two decays of `step`", gt=0)
    decay_rate: float = field(0.1, "factor of each decay of `step`", gt=0, le=1)
    momentum: float = field(0.9, "momentum of `sgd`", ge=0, lt=1)
    weight_decay: float = field(2e-3, "decoupled weight decay of kernels; in `lamb`, part of the trust ratio", ge=0)
    warmup_epochs: float = field(3.0, "epochs of warm-up: linear, in `one_cycle` cosine", ge=0)
    grad_clip_norm: float = field(0.0, "limit of the global gradient norm", gt=0, zero="no clipping")
    sam_rho: float = field(0.0, "radius of sharpness-aware minimization (SAM)", gt=0, zero="off")


@dataclasses.dataclass
class FineTune:
    """Fine-tuning of a pretrained network. By default all layers are trained with one learning rate."""

    head_only_epochs: int = field(0, "first epochs that train only the head", ge=0)
    trainable_blocks: int = field(
        0, "top blocks of the backbone that are trained after `head_only_epochs`", ge=1, zero="all"
    )
    layer_decay: float = field(1.0, "factor of the learning rate from each block to the block below", gt=0, le=1)
    freeze_batch_norm: bool = field(False, "keeps statistics, scales and shifts of the pretrained BatchNorm layers")


@dataclasses.dataclass
class Train:
    """The training loop."""

    epochs: int = field(40, "number of epochs", ge=1)
    max_steps: int = field(0, "number of steps", ge=1, zero="`epochs` applies")
    global_batch_size: int = field(128, "examples of a step, over all replicas", ge=1)
    gradient_accumulation_steps: int = field(1, "parts into which a replica splits its share of a batch", ge=1)
    precision: str = field(
        "auto",
        "precision of the computation",
        choices={"auto": "the fastest of the devices", "float32": "", "mixed_bfloat16": "", "mixed_float16": ""},
    )
    tf32: bool = field(True, "TensorFloat-32 (10 bits of mantissa) for float32 products on GPUs")
    jit_compile: Auto = field(  # noqa: RUF009  # `field` returns a field
        AUTO,
        "XLA for the forward and backward pass",
        kind=bool,
        auto="on GPUs, unless `deterministic`, `model.sync_batch_norm` or an old cuDNN",
    )
    steps_per_execution: Auto = field(  # noqa: RUF009
        AUTO,
        "steps of each host call, with the same results",
        kind=int,
        ge=1,
        le=MAX_STEPS_PER_EXECUTION,
        auto="20 on GPUs, else 1",
    )
    label_source: str = field(
        "fer",
        "training labels",
        choices={
            "fer": "the label",
            "ferplus": "distribution of FER+'s ten votes",
            "mixture": "half of each",
            "posterior": "half the label, half the labels of images with such votes",
        },
    )
    teacher_runs: str = field("", "distillation: run directories of teachers, comma-separated; empty: none")
    distill_weight: float = field(
        0.5, "weight of the teachers in the target (rest: label) before label smoothing", gt=0, le=1
    )
    loss: str = field("cross_entropy", "loss function", choices=("cross_entropy", "focal"))
    focal_gamma: float = field(2.0, "gamma of `focal`", ge=0)
    label_smoothing: float = field(0.1, "probability that is spread evenly over all classes", ge=0, lt=1)
    ema_decay: float = field(
        0.999, "decay of the averaged weights, which are evaluated and saved; 0: the raw weights", ge=0, lt=1
    )
    save_every_steps: int = field(500, "steps between two checkpoints, besides one each epoch", ge=1)
    on_nan: str = field(
        "stop",
        "reaction to a NaN or infinite loss",
        choices={"stop": "", "rollback": "to the last checkpoint, skipping the batches since then"},
    )
    profile_steps: str = field(
        "",
        "steps that are profiled for TensorBoard, such as `10-12`; empty: none",
        test=lambda span: not span or parse_step_range(span) is not None,
        valid='"" or two steps such as "10-12"',
    )
    num_replicas: int = field(
        0, "number of devices; more than the machine's CPUs become logical devices", ge=1, zero="all"
    )
    deterministic: Auto = field(  # noqa: RUF009
        AUTO, "bit-exact reproducibility by the seed; slower on GPUs", kind=bool, auto="on CPUs"
    )


@dataclasses.dataclass
class Experiment:
    """All settings that determine a run, apart from the data."""

    seed: int = field(0, "seed of initial weights, shuffling, augmentation and dropout", ge=0)
    model: Model = dataclasses.field(default_factory=Model)
    data: Data = dataclasses.field(default_factory=Data)
    augment: Augment = dataclasses.field(default_factory=Augment)
    optimizer: Optimizer = dataclasses.field(default_factory=Optimizer)
    finetune: FineTune = dataclasses.field(default_factory=FineTune)
    train: Train = dataclasses.field(default_factory=Train)

    def validate(self) -> None:
        """Checks types, limits and combinations of fields that do not depend on the backbone or the data.

        Raises:
          UserError: a value is invalid; the message names the field, its value and the valid values.
        """
        check_fields(self)
        _check_combinations(self)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain nested dictionaries, as in config.json."""
        return dataclasses.asdict(self)

    def sha256(self) -> str:
        """Returns the SHA-256 of all fields, in hexadecimal: equal for equal experiments."""
        return sha256(self.to_dict())


def _check_combinations(experiment: Experiment) -> None:
    data, optimizer, finetune = experiment.data, experiment.optimizer, experiment.finetune
    backend, balanced = experiment.augment.backend, data.sampling == "balanced"
    phases = finetune.head_only_epochs > 0 or finetune.layer_decay < 1
    require(
        backend != "keras_cv" or experiment.train.deterministic is False,
        "train.deterministic",
        experiment.train.deterministic,
        "false with augment.backend=keras_cv, which ignores the seed",
    )
    require(
        not (balanced and data.mode == "streaming"), "data.sampling", "balanced", "uniform with data.mode=streaming"
    )
    require(
        not balanced or data.class_weights == "none",
        "data.class_weights",
        data.class_weights,
        "none with data.sampling=balanced, which already weights the classes equally",
    )
    require(
        not (optimizer.name == "radam_lookahead" and phases),
        "optimizer.name",
        optimizer.name,
        "sgd or adamw with finetune.head_only_epochs, or lamb with layer_decay: Lookahead's weights support neither",
    )
    require(
        not (optimizer.name == "lamb" and finetune.head_only_epochs),
        "optimizer.name",
        optimizer.name,
        "sgd or adamw with finetune.head_only_epochs: LAMB's first updates of thawed layers are several times too "
        "large",
    )


def sha256(values: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of the result of `Experiment.to_dict`.

    The record of an older version lacks newer fields and so keeps its own hash.
    """
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def rename_old_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a recorded configuration with the current names of its fields and values; see `RENAMED_FIELDS`."""
    renamed: dict[str, Any] = {}
    for section, fields in values.items():
        if not isinstance(fields, Mapping):
            renamed[section] = fields
            continue
        renamed[section] = {}
        for name, value in fields.items():
            path = RENAMED_FIELDS.get(f"{section}.{name}", f"{section}.{name}")
            if isinstance(value, str):
                value = RENAMED_VALUES.get(path, {}).get(value, value)
            renamed[section][path.partition(".")[2]] = value
    if isinstance(renamed.get("train"), Mapping):
        renamed["train"] = {**BEFORE_AUTO, **renamed["train"]}
    return renamed


def from_dict(values: Mapping[str, Any]) -> Experiment:
    """Builds the experiment from the result of `to_dict`; missing fields have their defaults.

    Raises:
      UserError: a field is unknown, a part is no dictionary, or a value is invalid.
    """
    experiment = _build(Experiment, values, "")
    experiment.validate()
    return experiment


def from_record(values: Mapping[str, Any]) -> Experiment:
    """Builds the experiment that a run of this or an earlier version recorded.

    Raises:
      UserError: as `from_dict`.
    """
    return from_dict(rename_old_fields(values) if isinstance(values, Mapping) else values)


def diff(one: Experiment, other: Experiment) -> list[str]:
    """Returns the fields in which two experiments differ, each as "path: value -> value"."""
    ours, theirs = flatten(one.to_dict()), flatten(other.to_dict())
    return [f"{path}: {ours[path]!r} -> {theirs[path]!r}" for path in ours if ours[path] != theirs[path]]


def validate_config(value: Any) -> Experiment:
    """Validates and returns the result of a config file's get_config().

    Raises:
      UserError: it is no Experiment, or a value is invalid.
    """
    if not isinstance(value, Experiment):
        raise UserError("--config must name a file whose get_config() returns a fer.config.Experiment, as in configs/.")
    value.validate()
    return value


def check_overrides(arguments: Sequence[str]) -> None:
    """Checks `--config=FILE` and `--config.field=value` before they are parsed.

    Raises:
      UserError: the file is missing or no Python file, or a field does not exist (the message suggests the nearest).
    """
    paths = list(flatten(Experiment().to_dict()))
    for value in config_flag_values(arguments):
        path = value.partition(":")[0]
        if not os.path.isfile(path):
            raise UserError(f"There is no config file {value!r}; configs/ holds the shipped ones.")
        if not path.endswith(".py"):
            raise UserError(f"{path} is no configuration, for it is no Python file (.py); configs/ holds examples.")
    for argument in arguments:
        override = re.fullmatch(r"--?(?:no)?config\.(.+)", argument.partition("=")[0])
        if override and override[1] not in paths:
            raise UserError(f"There is no field config.{override[1]}{suggest_field(override[1], 'config.')}.")


def config_flag_values(arguments: Sequence[str]) -> list[str]:
    """Returns the values of `--config=FILE` and `--config FILE` among the arguments, in order."""
    values = []
    for position, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if re.fullmatch(r"--?config", name):
            values.append(value if equals else "".join(arguments[position + 1 : position + 2]))
    return values


def suggest_field(field: str, prefix: str = "") -> str:
    """Returns the end of a message about an unknown config field.

    Args:
      field: the unknown field, such as "optimizer.lr".
      prefix: written before each field that is named.

    Returns:
      The field that has this name elsewhere (`SYNONYMS`), in another section or with another spelling; otherwise the
      fields of the section, or of all sections if the section is unknown too.
    """
    known = list(flatten(Experiment().to_dict()))
    section, _, name = field.rpartition(".")
    if field in RENAMED_FIELDS:
        return f"; its name is {prefix}{RENAMED_FIELDS[field]} now"
    if name in SYNONYMS:
        return f"; the field is {prefix}{SYNONYMS[name]}"
    if name in ABSENT:
        return f"; {ABSENT[name]}"
    close = [path for path in known if path.rpartition(".")[2] == name]
    close = close or difflib.get_close_matches(field, known, n=1, cutoff=0.8)
    if close:
        return f"; the nearest is {prefix}{close[0]}"
    fields = [path for path in known if path.rpartition(".")[0] == section] if section else known
    return "; there are " + ", ".join(prefix + path for path in fields or known)


def _build(kind: type, values: Any, path: str) -> Any:
    if not isinstance(values, Mapping):
        where = f"config.{path}".rstrip(".")
        raise UserError(f"{where} is {values!r}; it must hold the fields of a fer.config.{kind.__name__} by name.")
    hints = typing.get_type_hints(kind)
    for name in values:
        if name not in hints:
            raise UserError(f"There is no field {path}{name}{suggest_field(path + str(name))}.")
    parts = {
        name: _build(hints[name], value, f"{path}{name}.") if dataclasses.is_dataclass(hints[name]) else value
        for name, value in values.items()
    }
    return kind(**parts)


def flatten(values: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Flattens nested dictionaries to paths: {"train.max_steps": 0, ...}."""
    leaves: dict[str, Any] = {}
    for name, value in values.items():
        leaves.update(flatten(value, f"{path}{name}.") if isinstance(value, dict) else {f"{path}{name}": value})
    return leaves


def field_help(code: str = "") -> dict[str, tuple[Any, str]]:
    """Returns default and meaning of every field, by path; see `fer.config_fields.Limits.help`."""
    defaults = flatten(Experiment().to_dict())
    texts = {path: limits.help(code) for path, limits in limits_by_path(Experiment).items()}
    return {path: (defaults[path], text if code else text.replace("`", "")) for path, text in texts.items()}


def show(experiment: Experiment) -> str:
    """Returns every field of an experiment as a line of `--config` flags; others than the default say so."""
    defaults = flatten(Experiment().to_dict())
    lines = []
    for path, value in flatten(experiment.to_dict()).items():
        changed = "" if value == defaults[path] else f"  # default: {defaults[path]!r}"
        lines.append(f"config.{path} = {value!r}{changed}")
    return "\n".join([*lines, f"config_sha256 = {experiment.sha256()!r}"])
