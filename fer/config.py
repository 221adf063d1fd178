"""An experiment as typed data: read from configs/, overridden by flags, validated once, recorded with its run."""

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
STEPS_PER_CALL = 20  # at most: as often the host looks at the loss
TARGETS = ("fer", "ferplus", "mixture", "posterior")
ON_NAN = ("stop", "rollback")
POOLINGS = ("avg", "max", "avgmax", "gem")
GREYS = ("repeat", "sum")
PIXELS = ("grey", "unit", "tf", "v2", "lite", "caffe", "dlib", "torch")
WEIGHT_FILES = (".h5", ".keras", ".npz")
MAX_NUMBER = 1_000_000_000  # that a number of a configuration may be; TensorFlow computes with 32 bits
MODES = ("auto", "resident", "streaming")
SAMPLINGS = ("uniform", "balanced")
CLASS_WEIGHTS = ("none", "inverse", "effective")
ENGINES = ("fused", "keras_cv")

# What flags of the programs may be, apart from the fields of an experiment.
STRATEGIES = ("auto", "one", "mirrored", "multi_worker")
SPLITS = ("validation", "test")  # that are evaluated
TTA = ("none", "flip", "tencrop")  # test-time augmentation; see `fer.evaluation.inference.tta_views`
LABELS = ("fer", "ferplus")  # see `fer.evaluation.eval_dataset.read`
FACES = ("auto", "find", "whole")  # what a picture holds; see `fer.predict.input_readers.read`
FORMATS = {  # of exports: the precisions of each, the most exact first
    "saved_model": ("float32",),
    "tflite": ("float32", "float16", "int8"),
    "onnx": ("float32",),
}
DEVICES = ("GPU", "CPU")
FITS = ("stretch", "crop", "pad")  # how pictures that are not square become so; see `fer.convert.readers.image_reader`
ON_BAD_ROW = ("fail", "quarantine")
DROPPABLE = ("leaked", "near_leaked", "blank", "conflicting", "not_a_face")  # see `fer.convert.audit.audit`


@dataclasses.dataclass
class Model:
    """The network; `scripts/train.py --list_models` prints what there is."""

    name: str = "compact"  # a key of fer.models.registry, or keras_cv/PRESET
    image_size: int = 0  # pixels a side that the backbone sees, resized on the device; 0: its default
    weights: str = "none"  # none (drawn from the seed) | imagenet | a file: .h5, .keras or .npz
    pixels: str = ""  # how they are normalised (fer.models.normalization); "": as the backbone was trained
    # Of a backbone with three channels. repeat: it sees grey three times | sum: its stem's kernels are summed over RGB
    grey: str = "repeat"
    cut: str = ""  # the block that the backbone ends with, such as "mixed8" of inception_v3; "": its last
    pooling: str = "avg"  # avg | max | avgmax | gem: of the features, before the last layer
    dropout: float = 0.2  # before the last layer
    sync_batch_norm: bool = False  # statistics over all replicas instead of each replica's own
    auxiliary_heads: bool = False  # of googlenet: two more classifiers in training

    def validate(self) -> None:
        """Checks ranges, but not what depends on the backbone: `fer.models.classifier.build` does.

        Raises:
          UserError: names the first field at fault, its value and what it may be.
        """
        size, known = self.image_size, self.weights in ("none", "imagenet") or self.weights.endswith(WEIGHT_FILES)
        _require(size == 0 or 24 <= size <= 1024, "model.image_size", size, "0 (the backbone's default) or 24 to 1024")
        _require(known, "model.weights", self.weights, f"none, imagenet or a file ({', '.join(WEIGHT_FILES)})")
        _require(self.pixels in ("", *PIXELS), "model.pixels", self.pixels, '"" or ' + ", ".join(PIXELS))
        _require(self.grey in GREYS, "model.grey", self.grey, " or ".join(GREYS))
        _require(self.pooling in POOLINGS, "model.pooling", self.pooling, ", ".join(POOLINGS))
        _require(0 <= self.dropout < 1, "model.dropout", self.dropout, "0 or more, below 1")


@dataclasses.dataclass
class Data:
    """How the splits are read, and how often each class is seen and counts."""

    mode: str = "auto"  # resident (in memory) | streaming (from the shards) | auto (resident if memory_mib allows)
    memory_mib: int = 2048  # a split of at most so many MiB is kept in memory by auto
    shuffle_window: int = 65_536  # examples shuffled together by streaming, 2.3 kB each; about three windows are held
    sampling: str = "uniform"  # uniform: each face once an epoch | balanced: each class equally often
    class_weights: str = "none"  # in the loss: none | inverse (of the class's frequency) | effective (of its number)
    effective_beta: float = 0.999  # of class_weights "effective": from 0, all alike, towards 1, inverse frequency


@dataclasses.dataclass
class Augment:
    """`policy` is parsed by `fer.augment.policy`; "none" changes nothing."""

    policy: str = "flip|affine(rotate=15,scale=0.1,shift=0.08,shear=0.1)"
    engine: str = "fused"  # keras_cv, for comparison: KerasCV's layers, whose draws the seed does not decide
    mixing_off_epochs: int = 0  # the last so many epochs leave out mixup and cutmix


@dataclasses.dataclass
class Optimizer:
    """How weights follow gradients. The rate warms up in a straight line, then goes as `schedule` says."""

    name: str = "sgd"  # sgd (Nesterov) | adamw | lamb | radam_lookahead
    learning_rate: float = 0.1  # at the end of the warm-up
    rate_for_batch: int = 0  # the global batch that learning_rate is meant for: others scale it; 0 does not
    schedule: str = "cosine"  # cosine (down to zero) | one_cycle | step | constant
    step_epochs: float = 30.0  # of schedule step: the rate is multiplied by step_factor every so many epochs
    step_factor: float = 0.1
    momentum: float = 0.9  # of sgd
    weight_decay: float = 2e-3  # decoupled: each step takes learning_rate * weight_decay of every kernel
    warmup_epochs: float = 3.0
    clip_norm: float = 0.0  # of the global gradient; 0 does not clip
    sam_rho: float = 0.0  # how far sharpness-aware minimisation climbs before it descends; 0 leaves it out


@dataclasses.dataclass
class FineTune:
    """What of a pretrained network is trained, and how fast. The defaults train everything alike."""

    head_epochs: int = 0  # the first so many epochs train the head alone; adamw then begins gently with the rest
    blocks: int = 0  # after them, so many of the backbone's top blocks are trained too; 0 means all
    layer_decay: float = 1.0  # each block below the head learns at this share of the rate of the one above it
    freeze_batch_norm: bool = False  # keeps the statistics, scales and shifts of the pretrained backbone


@dataclasses.dataclass
class Train:
    """The loop."""

    epochs: int = 40
    steps: int = 0  # ends the run after so many steps instead of `epochs`; 0 leaves it to `epochs`
    global_batch: int = 128  # examples a step, over all replicas
    accumulation: int = 1  # parts in which a replica goes through its share of a batch, one after another
    precision: str = "auto"  # auto (the fastest of the device) | float32 | mixed_bfloat16 | mixed_float16
    tf32: bool = True  # GPUs that can multiply float32 as TensorFloat-32 (10 bits of mantissa) do so; faster
    jit_compile: bool = False  # XLA compiles the forward and backward pass
    steps_per_call: int = 1  # steps, 20 at most, that the host asks for at once: the same bits, and less waiting for it
    # fer (its label) | ferplus (the shares of its ten votes) | mixture (half of each) | posterior (half its label, half
    # the labels that faces with such votes have)
    targets: str = "fer"
    teacher: str = ""  # run folders, comma-separated, whose probabilities the network is taught too (distillation)
    teacher_share: float = 0.5  # how much of the target those are; the label keeps the rest
    loss: str = "cross_entropy"  # cross_entropy | focal
    focal_gamma: float = 2.0  # of the focal loss
    label_smoothing: float = 0.1
    ema_decay: float = 0.999  # of the averaged weights, which are evaluated and kept; 0 evaluates the raw ones
    checkpoint_steps: int = 500  # a checkpoint every so many steps, besides one each epoch
    on_nan: str = "stop"  # stop | rollback: go on from the last checkpoint, without the batches since then
    profile_steps: str = ""  # traced for TensorBoard, such as "10-12"; "" traces none
    replicas: int = 0  # devices used; 0 means all. More than the machine's CPUs become logical ones
    deterministic: bool = True  # the same bits from the same seed; costs some speed on GPUs


@dataclasses.dataclass
class Experiment:
    """All that decides a run, apart from the data itself."""

    seed: int = 0
    model: Model = dataclasses.field(default_factory=Model)
    data: Data = dataclasses.field(default_factory=Data)
    augment: Augment = dataclasses.field(default_factory=Augment)
    optimizer: Optimizer = dataclasses.field(default_factory=Optimizer)
    finetune: FineTune = dataclasses.field(default_factory=FineTune)
    train: Train = dataclasses.field(default_factory=Train)

    def validate(self) -> None:
        """Checks types and ranges.

        Raises:
          UserError: names the first field at fault, its value and what it may be.
        """
        _check_types(self)
        _require(0 <= self.seed < 2**31, "seed", self.seed, "0 or more, below 2**31")
        self.model.validate()
        _check_data(self.data)
        _require(bool(self.augment.policy), "augment.policy", self.augment.policy, 'a policy such as "flip", or "none"')
        _require(self.augment.engine in ENGINES, "augment.engine", self.augment.engine, " or ".join(ENGINES))
        _require(
            not (self.augment.engine == "keras_cv" and self.train.deterministic),
            "train.deterministic",
            True,
            "false with augment.engine=keras_cv, whose draws the seed does not decide",
        )
        _require(
            self.augment.mixing_off_epochs >= 0,
            "augment.mixing_off_epochs",
            self.augment.mixing_off_epochs,
            "0 or more",
        )
        _check_optimizer(self.optimizer)
        _check_finetune(self.finetune)
        lookahead = self.optimizer.name == "radam_lookahead"
        phases = self.finetune.head_epochs > 0 or self.finetune.layer_decay < 1
        _require(
            not (lookahead and phases),
            "optimizer.name",
            self.optimizer.name,
            "sgd or adamw with finetune.head_epochs, or lamb with layer_decay: Lookahead's own weights know neither",
        )
        _require(
            not (self.optimizer.name == "lamb" and self.finetune.head_epochs),
            "optimizer.name",
            self.optimizer.name,
            "sgd or adamw with finetune.head_epochs: LAMB would move what thaws several times too far",
        )
        _check_train(self.train)

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dictionaries, as config.json holds them."""
        return dataclasses.asdict(self)

    def sha256(self) -> str:
        """A hash of every field, in hexadecimal: equal for equal experiments."""
        return sha256(self.to_dict())


def sha256(values: Mapping[str, Any]) -> str:
    """The hash of what `Experiment.to_dict` gave. A record of an older version keeps its own, without newer fields."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def from_dict(values: Mapping[str, Any]) -> Experiment:
    """The experiment that `to_dict` wrote.

    Raises:
      UserError: a field is unknown, a part is no dictionary, or `validate` finds fault.
    """
    experiment = _build(Experiment, values, "")
    experiment.validate()
    return experiment


def diff(one: Experiment, other: Experiment) -> list[str]:
    """The fields in which two experiments differ, each as "path: value -> value"."""
    ours, theirs = flatten(one.to_dict()), flatten(other.to_dict())
    return [f"{path}: {ours[path]!r} -> {theirs[path]!r}" for path in ours if ours[path] != theirs[path]]


def validate_config(value: Any) -> Experiment:
    """What a config file's get_config() returned, validated.

    Raises:
      UserError: it is no Experiment, or `validate` finds fault.
    """
    if not isinstance(value, Experiment):
        raise UserError("--config must name a file whose get_config() returns a fer.config.Experiment, as in configs/.")
    value.validate()
    return value


def check_overrides(arguments: Sequence[str]) -> None:
    """Looks at `--config=FILE` and `--config.field=value` before they are parsed.

    Raises:
      UserError: the file is absent or no Python file, or a field does not exist (the message names the nearest one).
    """
    paths = list(flatten(Experiment().to_dict()))
    for value in config_flag_values(arguments):
        path = value.partition(":")[0]
        if not os.path.isfile(path):
            raise UserError(f"There is no config file {value!r}; configs/ holds those that ship.")
        if not path.endswith(".py"):
            raise UserError(f"{path} is no configuration, for it is no Python file (.py); configs/ holds examples.")
    for argument in arguments:
        override = re.fullmatch(r"--?(?:no)?config\.(.+)", argument.partition("=")[0])
        if override and override[1] not in paths:
            raise UserError(f"There is no field config.{override[1]}{suggest(override[1], paths, 'config.')}.")


def config_flag_values(arguments: Sequence[str]) -> list[str]:
    """What `--config=FILE` or `--config FILE` names, as often as it stands among the arguments."""
    values = []
    for position, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if re.fullmatch(r"--?config", name):
            values.append(value if equals else "".join(arguments[position + 1 : position + 2]))
    return values


def suggest(word: str, known: Sequence[str], prefix: str = "") -> str:
    """The end of a message about an unknown word: "; did you mean X?" or the list of what there is."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    leaf = [path for path in known if path.rpartition(".")[2] == word.rpartition(".")[2]]
    if leaf or close:
        return f"; the nearest is {prefix}{(leaf or close)[0]}"
    return "; there are " + ", ".join(prefix + path for path in known)


def _check_optimizer(optimizer: Optimizer) -> None:
    _require(optimizer.name in OPTIMIZERS, "optimizer.name", optimizer.name, " or ".join(OPTIMIZERS))
    _require(0 < optimizer.learning_rate, "optimizer.learning_rate", optimizer.learning_rate, "above 0")
    _require(0 <= optimizer.rate_for_batch, "optimizer.rate_for_batch", optimizer.rate_for_batch, "0 (off) or more")
    _require(optimizer.schedule in SCHEDULES, "optimizer.schedule", optimizer.schedule, " or ".join(SCHEDULES))
    _require(0 < optimizer.step_epochs, "optimizer.step_epochs", optimizer.step_epochs, "above 0")
    _require(0 < optimizer.step_factor <= 1, "optimizer.step_factor", optimizer.step_factor, "above 0, at most 1")
    _require(0 <= optimizer.momentum < 1, "optimizer.momentum", optimizer.momentum, "0 or more, below 1")
    _require(0 <= optimizer.weight_decay, "optimizer.weight_decay", optimizer.weight_decay, "0 or more")
    _require(0 <= optimizer.warmup_epochs, "optimizer.warmup_epochs", optimizer.warmup_epochs, "0 or more")
    _require(0 <= optimizer.clip_norm, "optimizer.clip_norm", optimizer.clip_norm, "0 (no clipping) or more")
    _require(0 <= optimizer.sam_rho, "optimizer.sam_rho", optimizer.sam_rho, "0 (off) or more")


def _check_finetune(finetune: FineTune) -> None:
    _require(0 <= finetune.head_epochs, "finetune.head_epochs", finetune.head_epochs, "0 or more")
    _require(0 <= finetune.blocks, "finetune.blocks", finetune.blocks, "0 (all) or more")
    _require(0 < finetune.layer_decay <= 1, "finetune.layer_decay", finetune.layer_decay, "above 0, at most 1")


def _check_train(train: Train) -> None:
    _require(0 < train.epochs, "train.epochs", train.epochs, "1 or more")
    _require(0 <= train.steps, "train.steps", train.steps, "0 (as train.epochs says) or more")
    _require(0 < train.global_batch, "train.global_batch", train.global_batch, "1 or more")
    _require(0 < train.accumulation, "train.accumulation", train.accumulation, "1 or more")
    _require(train.precision in PRECISIONS, "train.precision", train.precision, ", ".join(PRECISIONS))
    most = STEPS_PER_CALL
    _require(0 < train.steps_per_call <= most, "train.steps_per_call", train.steps_per_call, f"1 to {most}")
    _require(train.targets in TARGETS, "train.targets", train.targets, " or ".join(TARGETS))
    share = train.teacher_share
    _require(0 < share <= 1, "train.teacher_share", share, "above 0, at most 1; train.teacher='' has no teacher")
    _require(train.loss in LOSSES, "train.loss", train.loss, " or ".join(LOSSES))
    _require(0 <= train.focal_gamma, "train.focal_gamma", train.focal_gamma, "0 or more")
    _require(0 <= train.label_smoothing < 1, "train.label_smoothing", train.label_smoothing, "0 or more, below 1")
    _require(0 <= train.ema_decay < 1, "train.ema_decay", train.ema_decay, "0 (off) or more, below 1")
    _require(0 < train.checkpoint_steps, "train.checkpoint_steps", train.checkpoint_steps, "1 or more")
    _require(0 <= train.replicas, "train.replicas", train.replicas, "0 (all devices) or more")
    _require(train.on_nan in ON_NAN, "train.on_nan", train.on_nan, " or ".join(ON_NAN))
    span = train.profile_steps
    _require(
        not span or parse_step_range(span) is not None, "train.profile_steps", span, '"" or two steps such as "10-12"'
    )


def parse_step_range(span: str) -> Optional[tuple[int, int]]:
    """The first and the last step of `train.profile_steps`, counted from 1; None where it names no span."""
    found = re.fullmatch(r"(\d{1,9})-(\d{1,9})", span)
    first, last = (int(found[1]), int(found[2])) if found else (0, 0)
    return (first, last) if 1 <= first <= last else None


def _check_data(data: Data) -> None:
    _require(data.mode in MODES, "data.mode", data.mode, " or ".join(MODES))
    _require(0 <= data.memory_mib, "data.memory_mib", data.memory_mib, "0 or more")
    _require(0 < data.shuffle_window, "data.shuffle_window", data.shuffle_window, "1 or more")
    _require(data.sampling in SAMPLINGS, "data.sampling", data.sampling, " or ".join(SAMPLINGS))
    _require(data.class_weights in CLASS_WEIGHTS, "data.class_weights", data.class_weights, " or ".join(CLASS_WEIGHTS))
    _require(0 <= data.effective_beta < 1, "data.effective_beta", data.effective_beta, "0 or more, below 1")
    balanced = data.sampling == "balanced"
    _require(
        not (balanced and data.mode == "streaming"), "data.sampling", "balanced", "uniform where mode is streaming"
    )
    _require(
        not balanced or data.class_weights == "none",
        "data.class_weights",
        data.class_weights,
        "none with balanced sampling, which gives each class the same weight already",
    )


def _check_types(node: Any, path: str = "") -> None:
    """Holds every field of a dataclass tree against its annotation."""
    for name, expected in typing.get_type_hints(type(node)).items():
        value, where = getattr(node, name), f"{path}{name}"
        if isinstance(expected, type) and dataclasses.is_dataclass(expected):
            _require(isinstance(value, expected), where, value, f"a fer.config.{expected.__name__}")
            _check_types(value, f"{where}.")
        elif expected is float:
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            _require(number and abs(value) <= MAX_NUMBER, where, value, f"a finite number of at most {MAX_NUMBER:,}")
            setattr(node, name, float(value))  # so that 1 and 1.0 hash alike
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
            raise UserError(f"There is no field {path}{name}{suggest(name, list(hints), path)}.")
    parts = {
        name: _build(hints[name], value, f"{path}{name}.") if dataclasses.is_dataclass(hints[name]) else value
        for name, value in values.items()
    }
    return kind(**parts)


def flatten(values: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """{"train.steps": 0, ...} from nested dictionaries."""
    leaves: dict[str, Any] = {}
    for name, value in values.items():
        leaves.update(flatten(value, f"{path}{name}.") if isinstance(value, dict) else {f"{path}{name}": value})
    return leaves


def _require(holds: bool, path: str, value: Any, mend: str) -> None:
    if not holds:
        raise UserError(f"config.{path} is {value!r}; it must be {mend}.")
