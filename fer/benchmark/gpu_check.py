"""Whether a machine's GPUs do what they are there for, in one go: `make gpu-check`.

Checks, each of which can fail:
    device          the forward and backward pass lie on the device, with all their convolutions
    mixed_float16   its convolutions are float16, the loss falls, and loss and weights stay numbers
    xla             the compiled step is compiled, on the device, and gives the loss that the other one gives
    augmenter       no operation of it computes anywhere but on the device
    host            no operation of a step waits for the device to compute in the host's memory; see `kernels`
    input           a run waits for its input less than 1 % of its time
    deterministic   with everything that `train.deterministic` forbids forbidden, a run is possible, and the same twice
Then images a second, by precision and by number of devices, with the efficiency against one.

`--device=CPU` rehearses all that where there is no GPU: one logical CPU stands in for the GPU, another is the host.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import platform
import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any, Callable, NamedTuple

import numpy as np
import tensorflow as tf

import fer
from fer.augment import policy
from fer.augment.xla_support import as_on_gpu
from fer.benchmark import host_ops, op_placement
from fer.config import PRECISIONS, Augment, Experiment, Model, Optimizer, Train
from fer.data.example_codec import Faces
from fer.data.sampling import Batch
from fer.errors import UserError
from fer.io import files
from fer.labels import CLASSES
from fer.rng import BatchRng
from fer.synthetic import synthetic
from fer.train import train_state, train_step
from fer.train.device_iterator import DeviceIterator
from fer.train.distributed.strategy import make_mirrored

MEASURED = tuple(each for each in PRECISIONS if each != "auto")  # that one is settled before a network is made
WAITING = 0.01  # the share of its time that a run may wait for input
TOLERANCE = 2e-2  # of the loss of a step compiled by XLA, relative: it fuses and reorders sums
WARM_UP = 5  # steps that are not measured
TOTAL = 10**6  # steps of the schedule, more than are ever taken
POLICY = (
    "flip|affine(rotate=15,scale=0.15,shift=0.08,shear=0.1)|randaugment(layers=2,magnitude=9)|erase(p=0.4,high=0.2)"
)
MIXING = "choose(mixup,cutmix)"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is run."""

    device: str = "GPU"  # one of `fer.config.DEVICES`
    model: Model = dataclasses.field(default_factory=lambda: Model(name="compact", dropout=0.3))
    batch: int = 256  # a device
    steps: int = 60  # of each rate
    learning: int = 20  # steps on one batch, in which its loss must fall
    faces: int = 4000  # or as many as a batch of all devices has
    precisions: Sequence[str] = MEASURED

    def experiment(self, devices: int = 1, augment: str = POLICY, **train: Any) -> Experiment:
        """A run on so many devices; further arguments are fields of `fer.config.Train`."""
        settings = {"global_batch": self.batch * devices, "deterministic": False, "ema_decay": 0.999, **train}
        return Experiment(
            model=self.model,
            augment=Augment(policy=augment),
            optimizer=Optimizer(learning_rate=0.05, warmup_epochs=0.0),
            train=Train(**settings),
        )


@dataclasses.dataclass(frozen=True)
class Check:
    """What was found of one promise."""

    name: str
    passed: bool
    found: str


def devices(kind: str) -> list[str]:
    """The names of the devices to check; a rehearsal makes two logical CPUs and takes the one that is not the host.

    Raises:
      UserError: there is no GPU.
    """
    if kind == "GPU":
        found = tf.config.list_physical_devices("GPU")
        if not found:
            raise UserError(
                "TensorFlow sees no GPU on this machine, so there is nothing to check: see nvidia-smi, and install "
                "the extra gpu; --device=CPU rehearses the checks."
            )
        return [f"GPU:{number}" for number in range(len(found))]
    cpu = tf.config.list_physical_devices("CPU")[0]
    if not tf.config.get_logical_device_configuration(cpu):
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    return ["CPU:1"]


def run(settings: Settings, tell: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """All checks and rates, as JSON holds them.

    Args:
      settings: what is run.
      tell: is called with a line about each check, and about each rate, as soon as it is known.

    Raises:
      UserError: there is no such device, or a step cannot be made.
    """
    names = devices(settings.device)
    count = max(settings.faces, settings.batch * len(names))  # a batch of all devices has each face once
    images, labels = synthetic.generate_faces(count, seed=0)
    faces = Faces(images[..., np.newaxis], labels.astype(np.int32), np.arange(count), None)
    checks: list[Check] = []

    def found(check: Check) -> None:
        checks.append(check)
        tell(f"{check.name}: {'passed' if check.passed else 'FAILED'}, {check.found}")

    for check in _checks(settings, names, faces):
        found(check)
    measured = rates(settings, names, faces, tell)
    # Last: what it forbids stays forbidden, and would slow down what is measured.
    found(_made("deterministic", lambda: check_deterministic(settings, names[0], faces)))
    return {
        "schema_version": 1,
        "rehearsal": settings.device == "CPU",
        "passed": all(check.passed for check in checks),
        "checks": [dataclasses.asdict(check) for check in checks],
        "rates": measured,
        "model": settings.model.name,
        "batch_per_device": settings.batch,
        "devices": [_details(name) for name in names],
        "versions": {
            "fer": fer.__version__,
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            **{name: tf.sysconfig.get_build_info().get(f"{name}_version") for name in ("cuda", "cudnn")},
        },
    }


def _checks(settings: Settings, names: Sequence[str], faces: Faces) -> Iterator[Check]:
    """Every check; one that the device cannot even run has failed, and the others go on."""
    checks = {
        "augmenter": lambda: check_augmenter(settings, names[0], faces),
        "host": lambda: check_host(settings, names[0], faces),
        **steps_checks(settings, names[0], faces),
        "input": lambda: check_input(settings, names, faces),
    }
    for name, check in checks.items():
        yield _made(name, check)


def _made(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except tf.errors.OpError as error:
        return Check(name, False, f"it cannot be run: {files.error_message(error)}")


def check_augmenter(settings: Settings, device: str, faces: Faces, augment: policy.Augmenter | None = None) -> Check:
    """Whether the augmenter, by default that of the longest policy, computes on `device` and nowhere else."""
    augment = augment or policy.augmenter(POLICY)

    @tf.function(autograph=False)
    def augmented(images: tf.Tensor, targets: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.device(device):
            return augment(images, targets, BatchRng(seed, tf.range(settings.batch), settings.batch))

    with tf.device(device):
        images = tf.constant(faces.images[: settings.batch])
        targets = tf.one_hot(faces.labels[: settings.batch], len(CLASSES))
        seed = tf.constant([0, 1])
    nodes = op_placement.placed(lambda: augmented(images, targets, seed))
    elsewhere = op_placement.on_other_devices(nodes, device)
    here = sum(node.device == device for node in nodes)
    found = f"{here} operations on {device}, {len(elsewhere)} elsewhere"
    return Check("augmenter", here > 0 and not elsewhere, found + _named(elsewhere))


def check_host(settings: Settings, device: str, faces: Faces, augment: str = f"{POLICY}|{MIXING}") -> Check:
    """Whether everything in a step, as it is built for a GPU, has a kernel that computes there."""
    experiment = settings.experiment(augment=augment, precision="mixed_bfloat16")
    strategy = tf.distribute.OneDeviceStrategy(device)
    made = train_state.create_train_state(strategy, experiment, TOTAL, TOTAL)
    take_step: Any = train_step.make_train_step(strategy, made, experiment)
    batch = next(DeviceIterator(strategy, faces, experiment, 0, 1))
    with as_on_gpu():
        found = host_ops.on_host(take_step.get_concrete_function(batch).graph)
    named = "".join(f"; {each.op} ({each.name}): {each.why}" for each in found[:5])
    return Check("host", not found, f"{len(found)} operations of a step compute on the host what the GPU has{named}")


def steps_checks(settings: Settings, device: str, faces: Faces) -> dict[str, Callable[[], Check]]:
    """What the step promises, by name: that it is on the device, trains in mixed_float16, and XLA can compile it."""
    plain = functools.cache(lambda: _learned(settings, device, faces, precision="float32"))

    def on_device() -> Check:
        convolutions = plain().convolutions()
        elsewhere = [node for node in convolutions if node.device != device]
        found = f"{len(convolutions)} convolutions, {len(elsewhere)} not on {device}{_named(elsewhere)}"
        return Check("device", bool(convolutions) and not elsewhere, found)

    def mixed_float16() -> Check:
        mixed = _learned(settings, device, faces, precision="mixed_float16")
        halves = sum(node.dtype == tf.float16 and node.device == device for node in mixed.convolutions())
        first, last = mixed.losses[0], statistics.mean(mixed.losses[-3:])
        return Check(
            "mixed_float16",
            halves > 0 and mixed.finite and last < first,
            f"{halves} convolutions in float16 on {device}; the loss goes from {first:.3f} to {last:.3f}, loss and "
            f"weights {'are' if mixed.finite else 'are not'} numbers",
        )

    def xla() -> Check:
        compiled = _learned(settings, device, faces, precision="float32", jit_compile=True)
        clusters = sum(node.compiled and node.device == device for node in compiled.nodes)
        difference = abs(compiled.losses[0] / plain().losses[0] - 1)
        return Check(
            "xla",
            clusters > 0 and difference < TOLERANCE,
            f"{clusters} compiled clusters on {device}; the first loss differs by {difference:.1e} of itself",
        )

    return {"device": on_device, "mixed_float16": mixed_float16, "xla": xla}


def check_deterministic(settings: Settings, device: str, faces: Faces) -> Check:
    """Whether a run with the longest policy is possible as `train.deterministic` wants it, and the same twice.

    From then on, TensorFlow refuses in this process what is not the same each time.
    """
    tf.config.experimental.enable_op_determinism()
    first, second = (
        _learned(settings, device, faces, augment=POLICY, precision="mixed_float16", deterministic=True)
        for _ in range(2)
    )
    differing = sum(one != other for one, other in zip(first.losses, second.losses))
    return Check(
        "deterministic",
        first.finite and not differing,
        f"{differing} of {len(first.losses)} losses differ between two runs, which "
        f"{'are' if first.finite else 'are not'} numbers",
    )


def check_input(settings: Settings, names: Sequence[str], faces: Faces, limit: float = WAITING) -> Check:
    """Whether a run on all devices waits for input for less than `limit` of its time."""
    take_step, feed, made = _under_way(settings, names, faces, "mixed_float16")
    waited, started = feed.waited, time.perf_counter()
    for _ in range(settings.steps):
        take_step(next(feed))
    float(made.loss.result())  # waits for the devices
    share = (feed.waited - waited) / (time.perf_counter() - started)
    return Check(
        "input", share < limit, f"{share:.2%} of the time is spent waiting for input; the limit is {limit:.0%}"
    )


def rates(
    settings: Settings, names: Sequence[str], faces: Faces, tell: Callable[[str], None] = lambda line: None
) -> list[dict[str, Any]]:
    """Images a second of training, by precision and number of devices: 1, 2, 4, ... and all there are."""
    counts = sorted({*(2**power for power in range(len(names).bit_length())), len(names)})
    found = []
    for precision in settings.precisions:
        of_one = None
        for count in (count for count in counts if count <= len(names)):
            entry = {"precision": precision, "devices": count, "images_per_second": None, "efficiency": None}
            try:
                rate = _rate(settings, names[:count], faces, precision)
            except tf.errors.OpError as error:  # out of memory, say: the others may be measured still
                entry["failure"] = files.error_message(error)
                tell(f"{precision} on {count}: FAILED, {entry['failure']}")
            else:
                of_one = rate if count == 1 else of_one
                entry["images_per_second"] = round(rate, 1)
                entry["efficiency"] = round(rate / (count * of_one), 3) if of_one else None
                tell(f"{precision} on {count}: {rate:,.0f} images/s, efficiency {entry['efficiency']}")
            found.append(entry)
    return found


class Learned(NamedTuple):
    """What some steps on one batch showed."""

    nodes: list[op_placement.Node]  # of the step's graph
    losses: list[float]
    finite: bool

    def convolutions(self) -> list[op_placement.Node]:
        """Returns the nodes that are convolutions or their gradients."""
        return [node for node in self.nodes if "Conv2D" in node.op]


def _learned(settings: Settings, device: str, faces: Faces, augment: str = "none", **train: Any) -> Learned:
    # The augmenter has its own check, and XLA draws other dropout masks from the same seed: without both, the loss of
    # the first step is the same number, compiled or not.
    settings = dataclasses.replace(settings, model=dataclasses.replace(settings.model, dropout=0.0))
    experiment = settings.experiment(augment=augment, **train)
    strategy = tf.distribute.OneDeviceStrategy(device)
    made = train_state.create_train_state(strategy, experiment, TOTAL, TOTAL)
    take_step = train_step.make_train_step(strategy, made, experiment)
    batch = next(DeviceIterator(strategy, faces, experiment, 0, 1))
    losses: list[float] = []

    def first() -> None:
        losses.append(float(take_step(batch).loss))

    nodes = op_placement.placed(first)
    losses += [float(take_step(batch).loss) for _ in range(settings.learning)]
    return Learned(nodes, losses, made.is_finite() and all(map(math.isfinite, losses)))


def _rate(settings: Settings, names: Sequence[str], faces: Faces, precision: str) -> float:
    """Images a second of a run on some devices, after the steps that compile it and fill its buffers."""
    take_step, feed, made = _under_way(settings, names, faces, precision)
    started = time.perf_counter()
    for _ in range(settings.steps):
        take_step(next(feed))
    float(made.loss.result())  # waits for the devices
    return settings.steps * settings.batch * len(names) / (time.perf_counter() - started)


def _under_way(
    settings: Settings, names: Sequence[str], faces: Faces, precision: str
) -> tuple[Callable[[Batch], train_step.StepMetrics], DeviceIterator, train_state.TrainState]:
    experiment = settings.experiment(len(names), precision=precision)
    one = len(names) == 1
    strategy = tf.distribute.OneDeviceStrategy(names[0]) if one else make_mirrored(list(names))
    made = train_state.create_train_state(strategy, experiment, TOTAL, TOTAL)
    feed = DeviceIterator(strategy, faces, experiment, 0, TOTAL)
    take_step = train_step.make_train_step(strategy, made, experiment)
    for _ in range(WARM_UP):
        take_step(next(feed))
    float(made.loss.result())
    return take_step, feed, made


def _named(nodes: Sequence[op_placement.Node]) -> str:
    """The first few operations, for a message."""
    return "".join(f"; {node.op} ({node.name}) on {node.device}" for node in nodes[:5])


def _details(name: str) -> dict[str, Any]:
    """What a device is called, and its compute capability where it is a GPU."""
    kind, _, number = name.partition(":")
    physical = tf.config.list_physical_devices(kind)
    told = tf.config.experimental.get_device_details(physical[int(number)]) if kind == "GPU" else {}
    capability = told.get("compute_capability")
    return {
        "name": name,
        "model": told.get("device_name", platform.processor() or platform.machine()),
        "compute_capability": ".".join(map(str, capability)) if capability else None,
    }
