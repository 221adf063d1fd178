"""Checks that training runs correctly on the GPUs of a machine, and measures its throughput: `make gpu-check`.

Checks:
    device          all convolutions of the forward and backward pass are on the device
    mixed_float16   convolutions are float16, the loss falls, and loss and weights are finite
    xla             XLA compiles the step on the device, and its loss equals that of the uncompiled step
    augmenter       all ops of the augmenter compute on the device
    host            no op of a step computes in host memory from tensors of the device; see `op_placement`
    input           a run waits for input for less than 1 % of its time
    deterministic   training works with TensorFlow's op determinism, and two runs have equal losses
Throughput is in images/s by precision and number of devices, with the efficiency relative to one device.

With `--minutes`, the throughput of `fer.benchmark.gpu.gpu_measurements` is measured instead, on one device; with
deterministic ops before all checks, because the GPU has no memory left for that process afterwards.

`--device=CPU` rehearses the checks without a GPU: one logical CPU takes the place of the GPU, another is the host.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import tensorflow as tf

from fer.augment import policy
from fer.augment.xla_support import as_on_gpu
from fer.benchmark.gpu import op_placement
from fer.benchmark.train import build_training, draw_faces
from fer.config import PRECISIONS, Augment, Experiment, Model, Optimizer, Train
from fer.data.example_codec import Faces
from fer.errors import NO_GPU, UserError
from fer.io import files
from fer.labels import CLASSES
from fer.rng import BatchRng
from fer.run_dir import software_versions
from fer.train.distributed.strategy import make_mirrored, warn_of_old_cudnn

if TYPE_CHECKING:
    from fer.benchmark.gpu import gpu_measurements

MEASURED_PRECISIONS = tuple(each for each in PRECISIONS if each != "auto")  # `auto` is resolved before a model is built
MAX_INPUT_WAIT = 0.01  # maximum share of the time that a run waits for input
XLA_LOSS_TOLERANCE = 2e-2  # relative; XLA fuses and reorders sums
WARM_UP_STEPS = 5  # steps before the measurement
DETERMINISTIC_SHARE = 0.25  # of `--minutes`, at most, to measure deterministic ops
POLICY = (
    "flip|affine(rotate=15,scale=0.15,shift=0.08,shear=0.1)|randaugment(layers=2,magnitude=9)|erase(p=0.4,high=0.2)"
)
MIX_OPS = "choose(mixup,cutmix)"


@dataclasses.dataclass(frozen=True)
class Settings:
    """Model and sizes of the checks."""

    device: str = "GPU"  # one of `fer.config.DEVICES`
    model: Model = dataclasses.field(default_factory=lambda: Model(name="compact", dropout=0.3))
    batch: int = 256  # images per device
    steps: int = 60  # steps per measurement of throughput
    learning: int = 20  # steps on one batch, in which its loss must fall
    faces: int = 4000  # number of images; raised to the global batch size
    precisions: Sequence[str] = MEASURED_PRECISIONS

    def experiment(self, devices: int = 1, augment: str = POLICY, **train: Any) -> Experiment:
        """Returns the experiment of a run on `devices` devices; `train` are fields of `fer.config.Train`."""
        settings = {"global_batch_size": self.batch * devices, "deterministic": False, "ema_decay": 0.999, **train}
        return Experiment(
            model=self.model,
            augment=Augment(policy=augment),
            optimizer=Optimizer(learning_rate=0.05, warmup_epochs=0.0),
            train=Train(**settings),
        )


@dataclasses.dataclass(frozen=True)
class Check:
    """Result of a check."""

    name: str
    passed: bool
    found: str


def find_devices(kind: str) -> list[str]:
    """Returns the names of the devices to check, such as GPU:0.

    For "CPU", creates two logical CPUs and returns the one that is not the host.

    Raises:
      UserError: there is no GPU.
    """
    if kind == "GPU":
        found = tf.config.list_physical_devices("GPU")
        if not found:
            raise UserError(NO_GPU)
        warn_of_old_cudnn()
        return [f"GPU:{number}" for number in range(len(found))]
    cpu = tf.config.list_physical_devices("CPU")[0]
    if not tf.config.get_logical_device_configuration(cpu):
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    return ["CPU:1"]


def _log_nothing(line: str) -> None:
    pass


def run_checks(
    settings: Settings,
    log: Callable[[str], None] = _log_nothing,
    write: Callable[[dict[str, Any]], None] = lambda found: None,
    minutes: float = 0.0,
) -> dict[str, Any]:
    """Runs all checks and measures the throughput.

    Args:
      settings: the model and the sizes.
      log: called with a line when a check or measurement begins, and with one when it ends.
      write: called with the results so far after each check, and after each measurement if there are `minutes`.
      minutes: of the whole call. If given, `gpu_measurements.measure` takes what the checks leave, instead of the
        throughput by precision and number of devices. The last check takes at most as long as the others together.
        A process of its own measures deterministic ops first.

    Returns:
      The content of the JSON file.

    Raises:
      UserError: the device does not exist, or the training step cannot be built.
    """
    deadline, names = time.monotonic() + 60 * minutes, find_devices(settings.device)
    count = max(settings.faces, settings.batch * len(names))  # a global batch has no image twice
    faces = draw_faces(count)
    found = _describe_run(settings, names)

    def add(check: Check) -> None:
        found["checks"].append(dataclasses.asdict(check))
        log(f"{check.name}: {'passed' if check.passed else 'FAILED'} ({check.found})")
        write(found)

    if minutes:
        found.update(_measure_deterministic(settings, 60 * minutes * DETERMINISTIC_SHARE, log))
    started = time.monotonic()
    for check in _iter_checks(settings, names, faces, log):
        add(check)
    if minutes:
        _measure_until(settings, names[0], deadline - (time.monotonic() - started), found, write, log)
    else:
        found["rates"] = measure_throughput(settings, names, faces, log)
    # Last, because op determinism cannot be disabled again in this process and would slow down the measurements.
    add(_run_check("deterministic", lambda: check_deterministic(settings, names[0], faces), log))
    found["passed"] = all(check["passed"] for check in found["checks"])
    return found


def _measure_until(
    settings: Settings,
    device: str,
    deadline: float,
    found: dict[str, Any],
    write: Callable[[dict[str, Any]], None],
    log: Callable[[str], None],
) -> None:
    """Adds the results of `gpu_measurements.measure` to `found`, after those with deterministic ops."""
    from fer.benchmark.gpu import gpu_measurements

    def add(part: dict[str, Any]) -> None:
        found.update(part)
        write(found)

    before: dict[str, Any] = {
        name: found[name] for name in ("training", "augmentation", "not_measured") if name in found
    }
    works = gpu_measurements.list_works(settings, device, _list_cases(settings))
    gpu_measurements.measure(works, deadline, add, log, before)


def _measure_deterministic(settings: Settings, seconds: float, log: Callable[[str], None]) -> dict[str, Any]:
    from fer.benchmark.gpu import gpu_measurements

    log(f"deterministic ops: measuring throughput for at most {seconds:.0f} s ...")
    return gpu_measurements.measure_deterministic(settings, _list_cases(settings), seconds)


def _list_cases(settings: Settings) -> list[gpu_measurements.Case]:
    """Returns the trainings to measure; a rehearsal measures the model of the checks."""
    from fer.benchmark.gpu import gpu_measurements

    if settings.device == "CPU":
        return gpu_measurements.list_cases([settings.model], ["float32"], [settings.batch])
    return gpu_measurements.list_cases()


def _describe_run(settings: Settings, names: Sequence[str]) -> dict[str, Any]:
    """Returns the content of the JSON file before the first check."""
    return {
        "schema_version": 1,
        "rehearsal": settings.device == "CPU",
        "passed": False,
        "checks": [],
        "rates": [],
        "model": settings.model.name,
        "batch_per_device": settings.batch,
        "devices": [_describe_device(name) for name in names],
        "versions": {
            **software_versions(),
            **{name: tf.sysconfig.get_build_info().get(f"{name}_version") for name in ("cuda", "cudnn")},
        },
    }


def _iter_checks(
    settings: Settings, names: Sequence[str], faces: Faces, log: Callable[[str], None] = _log_nothing
) -> Iterator[Check]:
    """Yields the result of each check. A check fails if TensorFlow raises an error; the others still run."""
    checks = {
        "augmenter": lambda: check_augmenter(settings, names[0], faces),
        "host": lambda: check_host(settings, names[0], faces),
        **step_checks(settings, names[0], faces),
        "input": lambda: check_input(settings, names, faces),
    }
    for name, check in checks.items():
        yield _run_check(name, check, log)


def _run_check(name: str, check: Callable[[], Check], log: Callable[[str], None]) -> Check:
    log(f"{name}: checking ...")
    try:
        return check()
    except tf.errors.OpError as error:
        return Check(name, False, f"error: {files.error_message(error)}")


def check_augmenter(settings: Settings, device: str, faces: Faces, augment: policy.Augmenter | None = None) -> Check:
    """Checks that all ops of an augmenter, by default that of `POLICY`, compute on `device`."""
    augment = augment or policy.augmenter(POLICY)

    @tf.function(autograph=False)
    def apply(images: tf.Tensor, targets: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.device(device):
            return augment(images, targets, BatchRng(seed, tf.range(settings.batch), settings.batch))

    with tf.device(device):
        images = tf.constant(faces.images[: settings.batch])
        targets = tf.one_hot(faces.labels[: settings.batch], len(CLASSES))
        seed = tf.constant([0, 1])
    nodes = op_placement.executed_nodes(lambda: apply(images, targets, seed))
    elsewhere = op_placement.nodes_elsewhere(nodes, device)
    here = sum(node.device == device for node in nodes)
    found = f"{here} ops on {device}, {len(elsewhere)} on other devices"
    return Check("augmenter", here > 0 and not elsewhere, found + _list_nodes(elsewhere))


def check_host(settings: Settings, device: str, faces: Faces, augment: str = f"{POLICY}|{MIX_OPS}") -> Check:
    """Checks that no op of a training step, built as for a GPU, computes on the host from tensors of the GPU."""
    experiment = settings.experiment(augment=augment, precision="mixed_bfloat16")
    take_step, feed, _ = build_training(tf.distribute.OneDeviceStrategy(device), experiment, faces, 1)
    batch = next(feed)
    with as_on_gpu():
        found = op_placement.find_host_ops(cast(Any, take_step).get_concrete_function(batch).graph)
    listed = "".join(f"; {each.op} ({each.name}): {each.why}" for each in found[:5])
    return Check("host", not found, f"{len(found)} ops of a step compute on the host from tensors of the GPU{listed}")


def step_checks(settings: Settings, device: str, faces: Faces) -> dict[str, Callable[[], Check]]:
    """Returns the checks of the training step by name: placement, mixed_float16 and XLA."""
    plain = functools.cache(lambda: _train_on_one_batch(settings, device, faces, precision="float32"))

    def on_device() -> Check:
        convolutions = plain().convolutions()
        elsewhere = [node for node in convolutions if node.device != device]
        found = (
            f"{len(convolutions)} convolutions, {len(elsewhere)} on other devices than {device}{_list_nodes(elsewhere)}"
        )
        return Check("device", bool(convolutions) and not elsewhere, found)

    def mixed_float16() -> Check:
        mixed = _train_on_one_batch(settings, device, faces, precision="mixed_float16")
        halves = sum(node.dtype == tf.float16 and node.device == device for node in mixed.convolutions())
        first, last = mixed.losses[0], statistics.mean(mixed.losses[-3:])
        return Check(
            "mixed_float16",
            halves > 0 and mixed.finite and last < first,
            f"{halves} float16 convolutions on {device}; loss from {first:.3f} to {last:.3f}; loss and weights are "
            f"{'finite' if mixed.finite else 'not finite'}",
        )

    def xla() -> Check:
        compiled = _train_on_one_batch(settings, device, faces, precision="float32", jit_compile=True)
        clusters = sum(node.compiled and node.device == device for node in compiled.nodes)
        difference = abs(compiled.losses[0] / plain().losses[0] - 1)
        return Check(
            "xla",
            clusters > 0 and difference < XLA_LOSS_TOLERANCE,
            f"{clusters} compiled clusters on {device}; relative difference of the first loss {difference:.1e}",
        )

    return {"device": on_device, "mixed_float16": mixed_float16, "xla": xla}


def check_deterministic(settings: Settings, device: str, faces: Faces) -> Check:
    """Checks that a run with `POLICY` works with `train.deterministic`, and that two runs have equal losses.

    Enables TensorFlow's op determinism, which cannot be disabled again in this process.
    """
    tf.config.experimental.enable_op_determinism()
    first, second = (
        _train_on_one_batch(settings, device, faces, augment=POLICY, precision="mixed_float16", deterministic=True)
        for _ in range(2)
    )
    differing = sum(one != other for one, other in zip(first.losses, second.losses))
    return Check(
        "deterministic",
        first.finite and not differing,
        f"{differing} of {len(first.losses)} losses differ between two runs; losses are "
        f"{'finite' if first.finite else 'not finite'}",
    )


def check_input(settings: Settings, names: Sequence[str], faces: Faces, limit: float = MAX_INPUT_WAIT) -> Check:
    """Checks that a run on all devices waits for input for less than a share `limit` of its time."""
    seconds, waited = _time_steps(settings, names, faces, "mixed_float16")
    share = waited / seconds
    return Check("input", share < limit, f"{share:.2%} of the time waiting for input; limit {limit:.0%}")


def measure_throughput(
    settings: Settings, names: Sequence[str], faces: Faces, log: Callable[[str], None] = _log_nothing
) -> list[dict[str, Any]]:
    """Measures training in images/s by precision and number of devices: powers of two, and all devices.

    An entry has the key `failure` if TensorFlow raises an error, for example for lack of memory.
    """
    counts = sorted({*(2**power for power in range(len(names).bit_length())), len(names)})
    entries = []
    for precision in settings.precisions:
        single_rate = None
        for count in (count for count in counts if count <= len(names)):
            entry = {"precision": precision, "devices": count, "images_per_second": None, "efficiency": None}
            title = f"{precision}, {count} {'device' if count == 1 else 'devices'}"
            log(f"{title}: measuring throughput ...")
            try:
                rate = _throughput(settings, names[:count], faces, precision)
            except tf.errors.OpError as error:
                entry["failure"] = files.error_message(error)
                log(f"{title}: FAILED ({entry['failure']})")
            else:
                single_rate = rate if count == 1 else single_rate
                entry["images_per_second"] = round(rate, 1)
                entry["efficiency"] = round(rate / (count * single_rate), 3) if single_rate else None
                efficiency = "" if entry["efficiency"] is None else f", efficiency {entry['efficiency']:.1%}"
                log(f"{title}: {rate:,.0f} images/s{efficiency}")
            entries.append(entry)
    return entries


class ShortRun(NamedTuple):
    """Result of some training steps on one batch."""

    nodes: list[op_placement.Node]  # ops of the graphs of the first step
    losses: list[float]  # of each step
    finite: bool  # whether all losses and weights are finite

    def convolutions(self) -> list[op_placement.Node]:
        """Returns the nodes that are convolutions or their gradients."""
        return [node for node in self.nodes if "Conv2D" in node.op]


def _train_on_one_batch(settings: Settings, device: str, faces: Faces, augment: str = "none", **train: Any) -> ShortRun:
    """Trains steps on one batch, without dropout, because XLA draws different masks from the same seed.

    By default without augmentation too, so that the first loss does not depend on compilation.
    """
    settings = dataclasses.replace(settings, model=dataclasses.replace(settings.model, dropout=0.0))
    experiment = settings.experiment(augment=augment, **train)
    take_step, feed, state = build_training(tf.distribute.OneDeviceStrategy(device), experiment, faces, 1)
    batch = next(feed)
    losses: list[float] = []

    def first() -> None:
        losses.append(float(take_step(batch).loss))

    nodes = op_placement.executed_nodes(first)
    losses += [float(take_step(batch).loss) for _ in range(settings.learning)]
    return ShortRun(nodes, losses, state.is_finite() and all(map(math.isfinite, losses)))


def _throughput(settings: Settings, names: Sequence[str], faces: Faces, precision: str) -> float:
    """Returns the throughput of a run in images/s."""
    seconds, _ = _time_steps(settings, names, faces, precision)
    return settings.steps * settings.batch * len(names) / seconds


def _time_steps(settings: Settings, names: Sequence[str], faces: Faces, precision: str) -> tuple[float, float]:
    """Trains `settings.steps` steps, after `WARM_UP_STEPS` that compile the step and fill the buffers.

    Returns:
      The time of the steps and, of it, the time that they waited for input, in seconds.
    """
    experiment = settings.experiment(len(names), precision=precision)
    single = len(names) == 1
    strategy = tf.distribute.OneDeviceStrategy(names[0]) if single else make_mirrored(list(names))
    take_step, feed, state = build_training(strategy, experiment, faces)

    def train(steps: int) -> None:
        for _ in range(steps):
            take_step(next(feed))
        float(state.loss.result())  # waits for the devices

    train(WARM_UP_STEPS)
    waited, started = feed.waited, time.perf_counter()
    train(settings.steps)
    return time.perf_counter() - started, feed.waited - waited


def _list_nodes(nodes: Sequence[op_placement.Node]) -> str:
    """Formats the first five nodes for a message."""
    return "".join(f"; {node.op} ({node.name}) on {node.device}" for node in nodes[:5])


def _describe_device(name: str) -> dict[str, Any]:
    """Returns the name and model of a device, and the compute capability of a GPU."""
    kind, _, number = name.partition(":")
    physical = tf.config.list_physical_devices(kind)
    details = tf.config.experimental.get_device_details(physical[int(number)]) if kind == "GPU" else {}
    capability = details.get("compute_capability")
    return {
        "name": name,
        "model": details.get("device_name", platform.processor() or platform.machine()),
        "compute_capability": ".".join(map(str, capability)) if capability else None,
    }
