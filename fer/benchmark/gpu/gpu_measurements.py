"""Throughput of training and of augmentation on one GPU, within a time budget: `scripts/gpu_check.py --minutes=10`.

The measurements are in order of their information: of each network the base case first, then the cases that differ from
it in one property, then in two, and so on. Those that the budget does not allow are listed as not measured.

Deterministic ops are measured in a process of their own, which runs this module as a program with its task as JSON:
TensorFlow cannot disable them within a process, and caches the algorithms of cuDNN that it chose without them.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from fer.augment import policy
from fer.benchmark.gpu.gpu_check import MIX_OPS, POLICY, WARM_UP_STEPS, Settings, find_devices
from fer.benchmark.train import build_training, draw_faces
from fer.config import MAX_STEPS_PER_EXECUTION, Model
from fer.io import files
from fer.labels import CLASSES
from fer.rng import BatchRng
from fer.train import train_step

NETWORKS = (
    Model(name="compact", dropout=0.3),
    Model(name="efficientnet_b0", image_size=48),
    Model(name="efficientnet_b0", image_size=224),
    Model(name="inception_v3", image_size=224),
)
BATCHES = (1024, 256)
PRECISIONS = ("mixed_bfloat16", "float32", "mixed_float16")
RANDAUGMENT = "randaugment(layers=2,magnitude=9)"
SIDES = (48, 224)  # of the images of RandAugment alone, in pixels
REPEATS = 20  # batches of a measurement of RandAugment
DETERMINISTIC = 3  # networks that are measured with deterministic ops, in the order of the cases
SHARES = {"augmented": "augmentation_share", "deterministic": "determinism_share"}  # by the property that costs it

Entry = dict[str, Any]
Results = dict[str, list[Entry]]
Work = tuple[str, Entry, Callable[[], Entry]]  # the list of the results, the description, the measurement


class Case(NamedTuple):
    """A training to measure."""

    model: Model
    precision: str
    augmented: bool
    batch: int
    steps_per_execution: int
    jit_compile: bool
    deterministic: bool = False

    def describe(self) -> Entry:
        """Returns the properties as in the JSON file."""
        return {**self._asdict(), "model": self.model.name, "image_size": self.model.image_size}


def list_cases(
    networks: Sequence[Model] = NETWORKS, precisions: Sequence[str] = PRECISIONS, batches: Sequence[int] = BATCHES
) -> list[Case]:
    """Returns the product of all properties: of each network the base case, with the first value of each, first."""
    properties = (precisions, (True, False), batches, (MAX_STEPS_PER_EXECUTION, 1), (False, True))
    base = [values[0] for values in properties]
    cases = [Case(*values) for values in itertools.product(networks, *properties)]
    return sorted(cases, key=lambda case: sum(own != first for own, first in zip(case[1:], base)))


def measure(
    works: Sequence[Work],
    deadline: float,
    write: Callable[[Results], None],
    log: Callable[[str], None],
    before: Results | None = None,
) -> None:
    """Measures until the deadline.

    Args:
      works: the measurements, in their order.
      deadline: of `time.monotonic`. No measurement begins that would miss it if it took as long as the longest so far.
      write: called after each measurement with {"training": entries, "augmentation": entries, "not_measured":
        descriptions}.
      log: called with a line after each measurement.
      before: results that are written with those of `works`.
    """
    found: Results = {"training": [], "augmentation": [], "not_measured": [], **(before or {})}
    never, left, longest = found["not_measured"], list(works), 0.0
    while left:
        found["not_measured"] = [*never, *(description for _, description, _ in left)]
        write(found)
        started = time.monotonic()
        if started + longest > deadline:
            break
        kind, description, work = left.pop(0)
        try:
            entry = {**description, **work()}
        except (tf.errors.OpError, RuntimeError) as error:  # such as a lack of memory; RuntimeError is PyTorch's
            entry = {**description, "failure": files.error_message(error)}
        longest = max(longest, time.monotonic() - started)
        log(", ".join(f"{name} {value}" for name, value in entry.items()))
        found[kind].append(entry)
        _add_shares(found["training"])
    found["not_measured"] = [*never, *(description for _, description, _ in left)]
    write(found)


def measure_deterministic(settings: Settings, cases: Sequence[Case], seconds: float) -> Results:
    """Measures the first case of each of `DETERMINISTIC` networks with deterministic ops, in a process of its own.

    Must be called before this process uses the GPU, whose memory TensorFlow then reserves.

    Args:
      settings: the device, and the steps of a measurement.
      cases: the trainings without deterministic ops.
      seconds: time after which the process is ended.

    Returns:
      The results, as `measure` writes them.
    """
    first: dict[tuple, Case] = {}
    for case in cases:
        first.setdefault((case.model.name, case.model.image_size), case)
    chosen = [case._replace(deterministic=True) for case in [*first.values()][:DETERMINISTIC]]
    task = {
        "device": settings.device,
        "steps": settings.steps,
        "seconds": seconds,
        "cases": [{**case._asdict(), "model": dataclasses.asdict(case.model)} for case in chosen],
    }
    command = [sys.executable, "-m", "fer.benchmark.gpu.gpu_measurements", json.dumps(task)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            printed, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            printed, _ = process.communicate()
    lines = [line for line in printed.splitlines() if line.startswith("{") and line.endswith("}")]
    return json.loads(lines[-1]) if lines else {"not_measured": [case.describe() for case in chosen]}


def serve(task: dict[str, Any]) -> None:
    """Measures trainings with deterministic ops, and prints the results so far after each as a line of JSON."""
    deadline = time.monotonic() + task["seconds"]
    tf.config.experimental.enable_op_determinism()
    cases = [Case(**{**case, "model": Model(**case["model"])}) for case in task["cases"]]
    settings = Settings(task["device"], steps=task["steps"])
    works = _list_trainings(settings, find_devices(settings.device)[0], cases)
    measure(
        works,
        deadline,
        lambda found: print(json.dumps(found), flush=True),
        lambda line: print(line, file=sys.stderr, flush=True),
    )


def list_works(settings: Settings, device: str, cases: Sequence[Case]) -> list[Work]:
    """Returns the base case of the first network, RandAugment, and the other cases, in the order of measurement."""
    trainings = _list_trainings(settings, device, cases)
    batch = max(case.batch for case in cases)
    augmentations: list[Work] = [
        (
            "augmentation",
            {"randaugment": name, "image_size": side, "batch": batch},
            lambda make=make, side=side: _measure_randaugment(make, device, side, batch),  # type: ignore[misc]
        )
        for side in SIDES
        for name, make in RANDAUGMENTS.items()
    ]
    return [*trainings[:1], *augmentations, *trainings[1:]]


def _list_trainings(settings: Settings, device: str, cases: Sequence[Case]) -> list[Work]:
    return [
        ("training", case.describe(), lambda case=case: _measure_training(settings, device, case))  # type: ignore[misc]
        for case in cases
    ]


def _measure_training(settings: Settings, device: str, case: Case) -> Entry:
    """Returns the throughput of a training and the share of its time that it waits for input."""
    settings = dataclasses.replace(settings, model=case.model, batch=case.batch)
    experiment = settings.experiment(
        augment=f"{POLICY}|{MIX_OPS}" if case.augmented else "none",
        precision=case.precision,
        jit_compile=case.jit_compile,
        steps_per_execution=case.steps_per_execution,
        deterministic=case.deterministic,
    )
    faces = draw_faces(max(settings.faces, case.batch))
    take_step, feed, _ = build_training(tf.distribute.OneDeviceStrategy(device), experiment, faces)
    run = train_step.make_multi_step(feed, take_step, case.steps_per_execution)

    def train(steps: int) -> int:
        calls = -(-steps // case.steps_per_execution)
        for _ in range(calls):
            metrics = run(case.steps_per_execution)
        tf.nest.map_structure(lambda tensor: tensor.numpy(), metrics)  # waits for the device
        return calls * case.steps_per_execution * case.batch

    train(WARM_UP_STEPS)
    waited, started = feed.waited, time.perf_counter()
    images = train(settings.steps)
    seconds = time.perf_counter() - started
    share = (feed.waited - waited) / seconds
    return {"images_per_second": round(images / seconds, 1), "input_wait_share": round(share, 4)}


def _add_shares(entries: Sequence[Entry]) -> None:
    """Adds the share of a step that each property of `SHARES` takes, if the same case is also measured without it."""
    measured = [entry for entry in entries if "failure" not in entry]
    for cause, share in SHARES.items():
        names = [name for name in ("image_size", *Case._fields) if name != cause]
        plain = {
            tuple(entry[name] for name in names): entry["images_per_second"] for entry in measured if not entry[cause]
        }
        for entry in measured:
            case = tuple(entry[name] for name in names)
            if entry[cause] and case in plain:
                entry[share] = round(1 - entry["images_per_second"] / plain[case], 4)


def _measure_randaugment(make: Callable[[tf.Tensor], Callable], device: str, side: int, batch: int) -> Entry:
    """Returns the throughput of an implementation on images that are on the device."""
    with tf.device(device):
        faces = tf.cast(tf.image.resize(draw_faces(batch).images, [side, side]), tf.uint8)
        try:
            augment = make(faces)
        except (ImportError, AttributeError) as error:
            return {"failure": f"not installed: {error}"}
        float(augment(0)[0, 0, 0, 0])  # compiles
        started = time.perf_counter()
        for number in range(REPEATS):
            augmented = augment(number)
        float(augmented[0, 0, 0, 0])  # waits for the device
    return {"images_per_second": round(REPEATS * batch / (time.perf_counter() - started), 1)}


def _make_policy(faces: tf.Tensor, backend: str) -> Callable[[int], tf.Tensor]:
    augment, positions = policy.augmenter(RANDAUGMENT, backend=backend), tf.range(len(faces))
    targets = tf.zeros([len(faces), len(CLASSES)])

    @tf.function(autograph=False)
    def apply(seed: tf.Tensor) -> tf.Tensor:
        return augment(faces, targets, BatchRng(seed, positions, len(faces)))[0]

    return lambda number: apply(tf.constant([0, number]))


def _make_keras(faces: tf.Tensor) -> Callable[[int], tf.Tensor]:
    import keras

    layer, images = keras.layers.RandAugment((0, 255), num_ops=2, factor=0.9), tf.image.grayscale_to_rgb(faces)
    apply = tf.function(lambda: layer(tf.cast(images, tf.float32), training=True), autograph=False)
    return lambda number: apply()


def _make_torchvision(faces: tf.Tensor) -> Callable[[int], Any]:
    """Returns torchvision's RandAugment on the GPU, which draws the ops once for the whole batch."""
    import torch
    from torchvision.transforms import v2

    device = "cuda" if torch.cuda.is_available() else "cpu"
    images, transform = torch.from_numpy(faces.numpy()).permute(0, 3, 1, 2).to(device), v2.RandAugment(2, 9)
    return lambda number: transform(images)


RANDAUGMENTS: dict[str, Callable[[tf.Tensor], Callable[[int], Any]]] = {
    "fer": lambda faces: _make_policy(faces, "fused"),
    "KerasCV": lambda faces: _make_policy(faces, "keras_cv"),
    "Keras": _make_keras,
    "torchvision": _make_torchvision,
}

if __name__ == "__main__":
    serve(json.loads(sys.argv[1]))
