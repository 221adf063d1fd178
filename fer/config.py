"""Typed configuration of an experiment: read from configs/, overridden by flags, validated, recorded with its run."""

import dataclasses
import difflib
import hashlib
import json
import os
import re
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from fer.errors import UserError

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16", "auto")
OPTIMIZERS = ("sgd", "adamw", "lamb", "radam_lookahead")
SCHEDULES = ("cosine", "one_cycle", "step", "constant")
LOSSES = ("cross_entropy", "focal")
MAX_STEPS_PER_EXECUTION = 20  # upper limit: the host checks the loss that often
LABEL_SOURCES = ("fer", "ferplus", "mixture", "posterior")
ON_NAN = ("stop", "rollback")
POOLINGS = ("avg", "max", "avgmax", "gem")
STEM_CHANNELS = ("repeat", "sum")
NORMALIZATIONS = ("grey", "unit", "tf", "v2", "lite", "caffe", "dlib", "torch")
WEIGHT_FILES = (".h5", ".keras", ".npz")
MAX_NUMBER = 1_000_000_000  # largest number in a configuration; TensorFlow computes with 32 bits
MODES = ("auto", "in_memory", "streaming")
SAMPLINGS = ("uniform", "balanced")
CLASS_WEIGHTS = ("none", "inverse", "effective")
BACKENDS = ("fused", "keras_cv")

# Values of program flags that are not fields of an experiment.
STRATEGIES = ("auto", "one", "mirrored", "multi_worker")
SPLITS = ("validation", "test")  # splits that can be evaluated
TTA = ("none", "flip", "tencrop")  # test-time augmentation; see `fer.evaluation.inference.tta_views`
LABELS = ("fer", "ferplus")  # see `fer.evaluation.eval_dataset.read`
FACES = ("auto", "find", "whole")  # content of an image; see `fer.predict.input_readers.read`
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
    "num_classes": "the classes are FER-2013's seven",
    **dict.fromkeys(
        ("num_workers", "workers", "prefetch"), "input runs in TensorFlow's threads and needs no such setting"
    ),
}


@dataclasses.dataclass
class Model:
    """The network; `scripts/train.py --list_models` prints all models."""

    name: str = "compact"  # model of --list_models, or keras_cv/PRESET
    image_size: int = 0  # side of the backbone's input in pixels, 24 to 1024; 0: the backbone's default
    weights: str = "none"  # initial weights: none (random, by the seed) | imagenet | a file (.h5, .keras or .npz)
    normalization: str = ""  # input normalization, a key of fer.models.normalization; "": the backbone's own
    # grey images in a backbone of three channels: repeat (three equal channels) | sum (stem kernels summed over RGB)
    stem_channels: str = "repeat"
    truncate_at: str = ""  # last block of the backbone that is used, such as "mixed8" of inception_v3; "": all blocks
    pooling: str = "avg"  # pooling of the features: avg | max | avgmax (mean of both) | gem (generalized mean)
    dropout: float = 0.2  # dropout rate before the last layer
    sync_batch_norm: bool = False  # batch statistics over all replicas instead of each replica's own
    aux_logits: bool = False  # trains GoogLeNet with its two auxiliary classifiers

    def validate(self) -> None:
        """Checks ranges that do not depend on the backbone; `fer.models.classifier.build` checks the others.

        Raises:
          UserError: a value is invalid; the message names the field, its value and the valid values.
        """
        size, known = self.image_size, self.weights in ("none", "imagenet") or self.weights.endswith(WEIGHT_FILES)
        _require(size == 0 or 24 <= size <= 1024, "model.image_size", size, "0 (the backbone's default) or 24 to 1024")
        _require(known, "model.weights", self.weights, f"none, imagenet or a file ({', '.join(WEIGHT_FILES)})")
        _require(
            self.normalization in ("", *NORMALIZATIONS),
            "model.normalization",
            self.normalization,
            '"" or ' + ", ".join(NORMALIZATIONS),
        )
        _require(
            self.stem_channels in STEM_CHANNELS, "model.stem_channels", self.stem_channels, " or ".join(STEM_CHANNELS)
        )
        _require(self.pooling in POOLINGS, "model.pooling", self.pooling, ", ".join(POOLINGS))
        _require(0 <= self.dropout < 1, "model.dropout", self.dropout, "0 or more, below 1")


@dataclasses.dataclass
class Data:
    """Reading of the splits, and frequency and weight of the classes."""

    mode: str = "auto"  # in_memory | streaming (from the shards) | auto (in_memory up to in_memory_limit_mib)
    in_memory_limit_mib: int = 2048  # mode=auto: largest split in MiB that is loaded into memory
    shuffle_buffer_size: int = (
        65_536  # streaming: shuffle buffer in examples of 2.3 kB; memory holds about three buffers
    )
    sampling: str = "uniform"  # uniform (each image once an epoch) | balanced (each class equally often)
    class_weights: str = "none"  # loss weights: none | inverse (inverse class frequency) | effective (effective number)
    class_balanced_beta: float = (
        0.999  # beta of class_weights=effective: 0 is equal weights, towards 1 inverse frequency
    )


@dataclasses.dataclass
class Augment:
    """Augmentation of training images."""

    # ops that are applied in this order, see fer.augment.policy; "none" changes nothing
    policy: str = "flip|affine(rotate=15,scale=0.1,shift=0.08,shear=0.1)"
    backend: str = "fused"  # fused | keras_cv (KerasCV's layers, for comparison; not reproducible by the seed)
    mixup_off_epochs: int = 0  # number of last epochs without mixup and cutmix


@dataclasses.dataclass
class Optimizer:
    """Optimizer and learning rate: linear warm-up, then `schedule`."""

    name: str = "sgd"  # sgd (Nesterov) | adamw | lamb | radam_lookahead
    learning_rate: float = 0.1  # learning rate at the end of the warm-up
    base_batch_size: int = 0  # global batch size to which learning_rate refers; other sizes scale it linearly; 0: off
    schedule: str = "cosine"  # cosine (down to zero) | one_cycle | step | constant
    decay_epochs: float = 30.0  # schedule=step: epochs between two decays of the learning rate
    decay_rate: float = 0.1  # schedule=step: factor of each decay
    momentum: float = 0.9  # momentum of sgd
    weight_decay: float = 2e-3  # decoupled: each step subtracts learning_rate * weight_decay of every kernel
    warmup_epochs: float = 3.0  # epochs of linear warm-up
    grad_clip_norm: float = 0.0  # limit of the global gradient norm; 0: no clipping
    sam_rho: float = 0.0  # radius of sharpness-aware minimization (SAM); 0: off


@dataclasses.dataclass
class FineTune:
    """Fine-tuning of a pretrained network. By default all layers are trained with one learning rate."""

    head_only_epochs: int = (
        0  # first epochs that train only the head; adamw then corrects its bias for the thawed layers
    )
    trainable_blocks: int = 0  # top blocks of the backbone that are trained after head_only_epochs; 0: all
    layer_decay: float = 1.0  # learning rate of each block as a fraction of that of the block above it
    freeze_batch_norm: bool = False  # keeps statistics, scales and shifts of the pretrained BatchNorm layers


@dataclasses.dataclass
class Train:
    """The training loop."""

    epochs: int = 40  # number of epochs
    max_steps: int = 0  # number of steps, instead of epochs; 0: off
    global_batch_size: int = 128  # global batch size: examples a step, over all replicas
    gradient_accumulation_steps: int = (
        1  # gradient accumulation: parts into which a replica splits its share of a batch
    )
    precision: str = "auto"  # auto (the fastest of the devices) | float32 | mixed_bfloat16 | mixed_float16
    tf32: bool = True  # GPUs compute float32 products in TensorFloat-32 (10 bits of mantissa), which is faster
    jit_compile: bool = False  # compiles the forward and backward pass with XLA
    steps_per_execution: int = 1  # steps for each host call, 1 to 20: the same results, and less time between steps
    # label source: fer (the label) | ferplus (the distribution of the ten votes) | mixture (half of each) | posterior
    # (half the label, half the distribution of labels of images with such votes)
    label_source: str = "fer"
    teacher_runs: str = ""  # distillation: run directories of teachers, comma-separated; "": none
    distill_weight: float = 0.5  # weight of the teachers' probabilities in the target; the label has the rest
    loss: str = "cross_entropy"  # cross_entropy | focal
    focal_gamma: float = 2.0  # gamma of the focal loss
    label_smoothing: float = 0.1  # probability that is spread evenly over all classes, 0 to below 1
    ema_decay: float = 0.999  # decay of the averaged weights, which are evaluated and saved; 0: the raw weights
    save_every_steps: int = 500  # steps between two checkpoints; there is also one each epoch
    on_nan: str = "stop"  # stop | rollback (to the last checkpoint, skipping the batches since then)
    profile_steps: str = ""  # steps that are profiled for TensorBoard, such as "10-12"; "": none
    num_replicas: int = 0  # number of devices; 0: all. More than the machine's CPUs are created as logical devices
    deterministic: bool = True  # bit-exact reproducibility by the seed; slower on GPUs


@dataclasses.dataclass
class Experiment:
    """All settings that determine a run, apart from the data."""

    seed: int = 0  # seed of initial weights, shuffling, augmentation and dropout
    model: Model = dataclasses.field(default_factory=Model)
    data: Data = dataclasses.field(default_factory=Data)
    augment: Augment = dataclasses.field(default_factory=Augment)
    optimizer: Optimizer = dataclasses.field(default_factory=Optimizer)
    finetune: FineTune = dataclasses.field(default_factory=FineTune)
    train: Train = dataclasses.field(default_factory=Train)

    def validate(self) -> None:
        """Checks types and ranges.

        Raises:
          UserError: a value is invalid; the message names the field, its value and the valid values.
        """
        _check_types(self)
        _require(0 <= self.seed < 2**31, "seed", self.seed, "0 or more, below 2**31")
        self.model.validate()
        _check_data(self.data)
        _require(bool(self.augment.policy), "augment.policy", self.augment.policy, 'a policy such as "flip", or "none"')
        _require(self.augment.backend in BACKENDS, "augment.backend", self.augment.backend, " or ".join(BACKENDS))
        _require(
            not (self.augment.backend == "keras_cv" and self.train.deterministic),
            "train.deterministic",
            True,
            "false with augment.backend=keras_cv, which ignores the seed",
        )
        _require(
            self.augment.mixup_off_epochs >= 0,
            "augment.mixup_off_epochs",
            self.augment.mixup_off_epochs,
            "0 or more",
        )
        _check_optimizer(self.optimizer)
        _check_finetune(self.finetune)
        lookahead = self.optimizer.name == "radam_lookahead"
        phases = self.finetune.head_only_epochs > 0 or self.finetune.layer_decay < 1
        _require(
            not (lookahead and phases),
            "optimizer.name",
            self.optimizer.name,
            "sgd or adamw with finetune.head_only_epochs, or lamb with layer_decay: Lookahead's weights support "
            "neither",
        )
        _require(
            not (self.optimizer.name == "lamb" and self.finetune.head_only_epochs),
            "optimizer.name",
            self.optimizer.name,
            "sgd or adamw with finetune.head_only_epochs: LAMB's first updates of thawed layers are several times too "
            "large",
        )
        _check_train(self.train)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain nested dictionaries, as in config.json."""
        return dataclasses.asdict(self)

    def sha256(self) -> str:
        """Returns the SHA-256 of all fields, in hexadecimal: equal for equal experiments."""
        return sha256(self.to_dict())


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
    return renamed


def from_dict(values: Mapping[str, Any]) -> Experiment:
    """Builds the experiment from the result of `to_dict`, or from one that an earlier version recorded.

    Raises:
      UserError: a field is unknown, a part is no dictionary, or a value is invalid.
    """
    experiment = _build(Experiment, rename_old_fields(values) if isinstance(values, Mapping) else values, "")
    experiment.validate()
    return experiment


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


def suggest(word: str, known: Sequence[str], prefix: str = "") -> str:
    """Returns the end of a message about an unknown word: "; the nearest is X", or the list of all known words."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    leaf = [path for path in known if path.rpartition(".")[2] == word.rpartition(".")[2]]
    if leaf or close:
        return f"; the nearest is {prefix}{(leaf or close)[0]}"
    return "; there are " + ", ".join(prefix + path for path in known)


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


def _check_optimizer(optimizer: Optimizer) -> None:
    _require(optimizer.name in OPTIMIZERS, "optimizer.name", optimizer.name, " or ".join(OPTIMIZERS))
    _require(0 < optimizer.learning_rate, "optimizer.learning_rate", optimizer.learning_rate, "above 0")
    _require(0 <= optimizer.base_batch_size, "optimizer.base_batch_size", optimizer.base_batch_size, "0 (off) or more")
    _require(optimizer.schedule in SCHEDULES, "optimizer.schedule", optimizer.schedule, " or ".join(SCHEDULES))
    _require(0 < optimizer.decay_epochs, "optimizer.decay_epochs", optimizer.decay_epochs, "above 0")
    _require(0 < optimizer.decay_rate <= 1, "optimizer.decay_rate", optimizer.decay_rate, "above 0, at most 1")
    _require(0 <= optimizer.momentum < 1, "optimizer.momentum", optimizer.momentum, "0 or more, below 1")
    _require(0 <= optimizer.weight_decay, "optimizer.weight_decay", optimizer.weight_decay, "0 or more")
    _require(0 <= optimizer.warmup_epochs, "optimizer.warmup_epochs", optimizer.warmup_epochs, "0 or more")
    _require(
        0 <= optimizer.grad_clip_norm, "optimizer.grad_clip_norm", optimizer.grad_clip_norm, "0 (no clipping) or more"
    )
    _require(0 <= optimizer.sam_rho, "optimizer.sam_rho", optimizer.sam_rho, "0 (off) or more")


def _check_finetune(finetune: FineTune) -> None:
    _require(0 <= finetune.head_only_epochs, "finetune.head_only_epochs", finetune.head_only_epochs, "0 or more")
    _require(0 <= finetune.trainable_blocks, "finetune.trainable_blocks", finetune.trainable_blocks, "0 (all) or more")
    _require(0 < finetune.layer_decay <= 1, "finetune.layer_decay", finetune.layer_decay, "above 0, at most 1")


def _check_train(train: Train) -> None:
    _require(0 < train.epochs, "train.epochs", train.epochs, "1 or more")
    _require(0 <= train.max_steps, "train.max_steps", train.max_steps, "0 (train.epochs applies) or more")
    _require(0 < train.global_batch_size, "train.global_batch_size", train.global_batch_size, "1 or more")
    _require(
        0 < train.gradient_accumulation_steps,
        "train.gradient_accumulation_steps",
        train.gradient_accumulation_steps,
        "1 or more",
    )
    _require(train.precision in PRECISIONS, "train.precision", train.precision, ", ".join(PRECISIONS))
    most = MAX_STEPS_PER_EXECUTION
    _require(
        0 < train.steps_per_execution <= most, "train.steps_per_execution", train.steps_per_execution, f"1 to {most}"
    )
    _require(train.label_source in LABEL_SOURCES, "train.label_source", train.label_source, " or ".join(LABEL_SOURCES))
    share = train.distill_weight
    _require(
        0 < share <= 1, "train.distill_weight", share, "above 0, at most 1; train.teacher_runs='' disables teachers"
    )
    _require(train.loss in LOSSES, "train.loss", train.loss, " or ".join(LOSSES))
    _require(0 <= train.focal_gamma, "train.focal_gamma", train.focal_gamma, "0 or more")
    _require(0 <= train.label_smoothing < 1, "train.label_smoothing", train.label_smoothing, "0 or more, below 1")
    _require(0 <= train.ema_decay < 1, "train.ema_decay", train.ema_decay, "0 (off) or more, below 1")
    _require(0 < train.save_every_steps, "train.save_every_steps", train.save_every_steps, "1 or more")
    _require(0 <= train.num_replicas, "train.num_replicas", train.num_replicas, "0 (all devices) or more")
    _require(train.on_nan in ON_NAN, "train.on_nan", train.on_nan, " or ".join(ON_NAN))
    span = train.profile_steps
    _require(
        not span or parse_step_range(span) is not None, "train.profile_steps", span, '"" or two steps such as "10-12"'
    )


def parse_step_range(span: str) -> Optional[tuple[int, int]]:
    """Returns first and last step of `train.profile_steps`, counted from 1; None if the text is no valid range."""
    found = re.fullmatch(r"(\d{1,9})-(\d{1,9})", span)
    first, last = (int(found[1]), int(found[2])) if found else (0, 0)
    return (first, last) if 1 <= first <= last else None


def _check_data(data: Data) -> None:
    _require(data.mode in MODES, "data.mode", data.mode, " or ".join(MODES))
    _require(0 <= data.in_memory_limit_mib, "data.in_memory_limit_mib", data.in_memory_limit_mib, "0 or more")
    _require(0 < data.shuffle_buffer_size, "data.shuffle_buffer_size", data.shuffle_buffer_size, "1 or more")
    _require(data.sampling in SAMPLINGS, "data.sampling", data.sampling, " or ".join(SAMPLINGS))
    _require(data.class_weights in CLASS_WEIGHTS, "data.class_weights", data.class_weights, " or ".join(CLASS_WEIGHTS))
    _require(
        0 <= data.class_balanced_beta < 1, "data.class_balanced_beta", data.class_balanced_beta, "0 or more, below 1"
    )
    balanced = data.sampling == "balanced"
    _require(
        not (balanced and data.mode == "streaming"), "data.sampling", "balanced", "uniform with data.mode=streaming"
    )
    _require(
        not balanced or data.class_weights == "none",
        "data.class_weights",
        data.class_weights,
        "none with data.sampling=balanced, which already weights the classes equally",
    )


def _check_types(node: Any, path: str = "") -> None:
    """Checks every field of a dataclass tree against its annotation."""
    for name, expected in typing.get_type_hints(type(node)).items():
        value, where = getattr(node, name), f"{path}{name}"
        if isinstance(expected, type) and dataclasses.is_dataclass(expected):
            _require(isinstance(value, expected), where, value, f"a fer.config.{expected.__name__}")
            _check_types(value, f"{where}.")
        elif expected is float:
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            _require(number and abs(value) <= MAX_NUMBER, where, value, f"a finite number of at most {MAX_NUMBER:,}")
            setattr(node, name, float(value))  # so that 1 and 1.0 have the same hash
        else:
            right = isinstance(value, expected) and (expected is bool or not isinstance(value, bool))
            _require(right, where, value, f"of type {expected.__name__}")
            _require(expected is not int or abs(value) < 2**31, where, value, "below 2**31")


def _build(kind: type, values: Any, path: str) -> Any:
    if not isinstance(values, Mapping):
        where = f"config.{path}".rstrip(".")
        raise UserError(f"{where} is {values!r}; it must hold the fields of a fer.config.{kind.__name__} by name.")
    hints = typing.get_type_hints(kind)
    for name in values:
        if name not in hints:
            raise UserError(f"There is no field {path}{name}{suggest_field(path + name)}.")
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


def _require(holds: bool, path: str, value: Any, valid: str) -> None:
    if not holds:
        raise UserError(f"config.{path} is {value!r}; it must be {valid}.")
