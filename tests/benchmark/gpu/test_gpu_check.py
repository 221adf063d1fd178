"""Tests of fer/benchmark/gpu/gpu_check.py and op_placement.py, with a second logical CPU in place of a GPU."""

import dataclasses
import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from fer.augment import policy
from fer.benchmark.gpu import gpu_check, gpu_measurements, op_placement
from fer.config import Model
from fer.data.example_codec import Faces
from fer.errors import UserError
from fer.models import classifier
from fer.synthetic import synthetic
from tests.marks import needs_float16
from tests.scripts import run_script

SETTINGS = gpu_check.Settings(
    device="CPU", model=Model(name="tiny", image_size=24), batch=4, steps=2, learning=4, faces=64
)
LONGEST = f"{gpu_check.POLICY}|{gpu_check.MIX_OPS}"


@pytest.fixture(scope="module")
def faces() -> Faces:
    images, labels = synthetic.generate_faces(SETTINGS.faces, seed=0)
    return Faces(images[..., np.newaxis], labels.astype(np.int32), np.arange(SETTINGS.faces), None)


def test_nodes_elsewhere_finds_op_on_the_host_in_the_partitioned_graph():
    @tf.function
    def pinned(x):
        with tf.device("CPU:1"):
            squared = tf.square(x)
            with tf.device("CPU:0"):
                shifted = tf.cumsum(squared)
            return tf.sort(shifted)

    with tf.device("CPU:1"):
        x = tf.constant([3.0, 1.0, 2.0])
    nodes = op_placement.executed_nodes(lambda: pinned(x))
    assert [node.op for node in op_placement.nodes_elsewhere(nodes, "CPU:1")] == ["Cumsum"]
    assert {node.device for node in nodes} == {"CPU:0", "CPU:1"}
    with pytest.raises(ValueError, match="called before"):
        op_placement.executed_nodes(lambda: pinned(x))


@pytest.mark.parametrize("text", ["flip|erase(p=0.4)", pytest.param(gpu_check.POLICY, marks=pytest.mark.extended)])
def test_check_augmenter_passes_when_all_ops_are_on_the_device(faces, monkeypatch, text):
    monkeypatch.setattr(gpu_check, "POLICY", text)
    check = gpu_check.check_augmenter(SETTINGS, "CPU:1", faces)
    assert check.passed, check.found


def test_check_augmenter_fails_when_an_op_is_on_the_host(faces):
    whole = policy.augmenter("flip")

    def partly_on_host(images, targets, draws):
        with tf.device("CPU:0"):
            images = tf.bitwise.invert(images)
        return whole(images, targets, draws)

    failed = gpu_check.check_augmenter(SETTINGS, "CPU:1", faces, partly_on_host)
    assert not failed.passed
    assert "1 on other devices; Invert" in failed.found


@pytest.mark.parametrize(
    "text", ["flip|erase(p=0.4)|choose(mixup,cutmix)", pytest.param(LONGEST, marks=pytest.mark.extended)]
)
def test_check_host_passes_when_the_step_computes_nothing_on_the_host(faces, text):
    check = gpu_check.check_host(SETTINGS, "CPU:1", faces, text)
    assert check.passed, check.found


def test_check_host_fails_when_the_step_computes_int32_on_the_host(faces, monkeypatch):
    def brighten(images, targets, draws):
        return tf.cast(tf.cast(images, tf.int32) + 1, tf.uint8), targets

    monkeypatch.setattr(policy, "augmenter", lambda *_, **__: brighten)
    failed = gpu_check.check_host(SETTINGS, "CPU:1", faces, "brightness")
    assert not failed.passed
    assert "1 ops of a step compute on the host from tensors of the GPU; AddV2" in failed.found
    assert "the host reads int32 (4, 48, 48, 1)" in failed.found


@pytest.mark.parametrize(
    "name",
    [
        "device",
        pytest.param("mixed_float16", marks=[pytest.mark.extended, needs_float16]),
        pytest.param("xla", marks=pytest.mark.extended),
    ],
)
def test_step_checks_pass(faces, name):
    checks = gpu_check.step_checks(SETTINGS, "CPU:1", faces)
    assert list(checks) == ["device", "mixed_float16", "xla"]
    check = checks[name]()
    assert check.name == name
    assert check.passed, check


class Clock:
    """Stands in for the module `time`; it advances only when asked to."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class SlowIterator:
    """Iterator like `fer.train.device_iterator.DeviceIterator` that waits for a given time at each batch."""

    def __init__(self, clock: Clock, seconds: float):
        self.clock, self.seconds, self.waited = clock, seconds, 0.0

    def __next__(self):
        self.clock.advance(self.seconds)
        self.waited += self.seconds


@pytest.mark.parametrize(("seconds", "passes"), [(0.0, True), (0.2, False)], ids=["quick", "slow"])
def test_check_input_fails_when_the_run_waits_longer_than_the_limit(monkeypatch, seconds, passes):
    clock = Clock()
    state = SimpleNamespace(loss=SimpleNamespace(result=lambda: 0.0))
    training = (lambda batch: clock.advance(0.05), SlowIterator(clock, seconds), state)
    monkeypatch.setattr(gpu_check, "build_training", lambda *_: training)
    monkeypatch.setattr(gpu_check, "time", clock)
    check = gpu_check.check_input(SETTINGS, ["CPU:1"], None)
    assert check.passed == passes
    assert float(check.found.partition("%")[0]) == pytest.approx(0 if passes else 80)


def test_executed_nodes_returns_only_the_ops_of_its_call():
    x = tf.constant([3.0, 1.0])
    op_placement.executed_nodes(lambda: tf.function(tf.square, autograph=False)(x))
    tf.math.is_finite(tf.function(tf.cumsum, autograph=False)(x))  # TensorFlow still collects graphs of first calls
    nodes = op_placement.executed_nodes(lambda: tf.function(tf.square, autograph=False)(x))
    assert {node.op for node in nodes} - op_placement.TRANSFERS == {"Square"}


def test_run_checks_has_enough_images_for_the_global_batch(monkeypatch):
    received = []
    monkeypatch.setattr(gpu_check, "find_devices", lambda kind: ["CPU:0", "CPU:1"])
    monkeypatch.setattr(
        gpu_check, "_iter_checks", lambda settings, names, faces, log: received.append(faces) or iter(())
    )
    monkeypatch.setattr(gpu_check, "measure_throughput", lambda *_: [])
    monkeypatch.setattr(gpu_check, "_run_check", lambda name, check, log: gpu_check.Check(name, True, ""))
    gpu_check.run_checks(dataclasses.replace(SETTINGS, batch=40, faces=64))
    assert len(received[0].images) == 80


def test_checks_after_a_check_that_raises_still_run(monkeypatch):
    def fail(settings, device, faces, **train):
        raise tf.errors.InternalError(None, None, "libdevice not found")

    passed = gpu_check.Check("", True, "")
    monkeypatch.setattr(gpu_check, "_train_on_one_batch", fail)
    for name in ("check_augmenter", "check_host", "check_input"):
        monkeypatch.setattr(gpu_check, name, lambda *_: passed)
    checks = list(gpu_check._iter_checks(SETTINGS, ["CPU:1"], None))
    assert [check.passed for check in checks] == [True, True, False, False, False, True]
    assert checks[4] == gpu_check.Check("xla", False, "error: libdevice not found")


def test_measure_throughput_records_failure_and_continues(monkeypatch):
    def rate(settings, names, faces, precision):
        if precision == "float32":
            raise tf.errors.ResourceExhaustedError(None, None, "out of memory")
        return 100.0 * len(names)

    monkeypatch.setattr(gpu_check, "_throughput", rate)
    settings = dataclasses.replace(SETTINGS, precisions=("float32", "mixed_float16"))
    found = gpu_check.measure_throughput(settings, ["GPU:0", "GPU:1"], None)
    assert [entry["images_per_second"] for entry in found] == [None, None, 100.0, 200.0]
    assert [entry.get("failure") for entry in found] == ["out of memory", "out of memory", None, None]


def test_measure_throughput_computes_efficiency_relative_to_one_device(monkeypatch):
    measured = {1: 100.0, 2: 190.0, 4: 300.0, 6: 450.0}
    monkeypatch.setattr(gpu_check, "_throughput", lambda settings, names, faces, precision: measured[len(names)])
    settings = dataclasses.replace(SETTINGS, precisions=("float32", "mixed_float16"))
    found = gpu_check.measure_throughput(settings, [f"GPU:{number}" for number in range(6)], None)
    expected = [(1, 100.0, 1.0), (2, 190.0, 0.95), (4, 300.0, 0.75), (6, 450.0, 0.75)]
    assert [tuple(rate.values()) for rate in found] == [
        (precision, *figures) for precision in settings.precisions for figures in expected
    ]


def test_run_checks_logs_the_beginning_and_the_result_of_each_check_and_measurement(monkeypatch):
    passed, failed = gpu_check.Check("host", True, "fine"), gpu_check.Check("deterministic", False, "1 differs")
    monkeypatch.setattr(gpu_check, "find_devices", lambda kind: ["CPU:0"])
    monkeypatch.setattr(gpu_check, "step_checks", lambda *_: {})
    for name in ("check_augmenter", "check_host", "check_input"):
        monkeypatch.setattr(gpu_check, name, lambda *_: passed)
    monkeypatch.setattr(gpu_check, "check_deterministic", lambda *_: failed)
    monkeypatch.setattr(gpu_check, "_throughput", lambda *_: 1234.0)
    lines = []
    gpu_check.run_checks(dataclasses.replace(SETTINGS, precisions=("float32",)), lines.append)
    assert lines[:2] == ["augmenter: checking ...", "host: passed (fine)"]
    assert lines[-4:] == [
        "float32, 1 device: measuring throughput ...",
        "float32, 1 device: 1,234 images/s, efficiency 100.0%",
        "deterministic: checking ...",
        "deterministic: FAILED (1 differs)",
    ]


@pytest.mark.slow
def test_measure_throughput_measures_one_and_several_devices(faces):
    settings = dataclasses.replace(SETTINGS, precisions=("float32",))
    found = gpu_check.measure_throughput(settings, ["CPU:0", "CPU:1"], faces)
    assert [rate["devices"] for rate in found] == [1, 2]
    assert all(rate["images_per_second"] > 0 for rate in found)


def test_settings_precisions_are_compute_dtypes_of_a_model():
    for precision in gpu_check.Settings().precisions:
        stem = next(
            layer for layer in classifier.build(SETTINGS.model, precision).submodules if "half_conv" in layer.name
        )
        assert stem.compute_dtype == precision.removeprefix("mixed_")


def test_find_devices_rejects_machine_without_gpu(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    with pytest.raises(UserError, match="TensorFlow finds no GPU on this machine"):
        gpu_check.find_devices("GPU")


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="this machine has a GPU")
def test_gpu_check_script_exits_with_1_when_there_is_no_gpu(tmp_path):
    done = run_script.run("gpu_check.py", tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("gpu_check.py: TensorFlow finds no GPU")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.extended
def test_gpu_check_script_measures_within_minutes_when_rehearsing(root, tmp_path):
    output = tmp_path / "found.json"
    flags = ["--device=CPU", "--model=tiny", "--image_size=24", "--batch=4", "--steps=2", "--minutes=0.01"]
    command = [sys.executable, str(root / "scripts" / "gpu_check.py"), *flags, f"--output={output}"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    found = json.loads(output.read_text())
    assert found == json.loads(done.stdout[: done.stdout.rindex("}") + 1])
    assert (found["training"], len(found["not_measured"])) == ([], 9 + 2 * len(gpu_measurements.RANDAUGMENTS))
    assert [check["name"] for check in found["checks"]][-1] == "deterministic"


@pytest.mark.slow
def test_gpu_check_script_prints_and_writes_all_results_when_rehearsing(root, tmp_path):
    flags = [
        "--device=CPU",
        "--model=compact_s",
        "--image_size=24",
        "--batch=4",
        "--steps=3",
        f"--output={tmp_path}/found.json",
    ]
    command = [sys.executable, str(root / "scripts" / "gpu_check.py"), *flags]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    found = json.loads((tmp_path / "found.json").read_text())
    assert [check["name"] for check in found["checks"]] == [
        "augmenter",
        "host",
        "device",
        "mixed_float16",
        "xla",
        "input",
        "deterministic",
    ]
    assert all(check["passed"] for check in found["checks"] if check["name"] != "input"), found["checks"]
    assert done.returncode == (0 if found["passed"] else 1)
    assert [rate["precision"] for rate in found["rates"]] == ["float32", "mixed_bfloat16", "mixed_float16"]
    assert found["rehearsal"] is True


@pytest.mark.extended
@needs_float16
def test_check_deterministic_passes(faces):
    check = gpu_check.check_deterministic(SETTINGS, "CPU:1", faces)
    assert check.passed, check.found


@pytest.mark.parametrize(
    ("losses", "finite", "passes", "found"),
    [
        ((1.5, 1.2, 0.9), True, True, "0 of 3 losses differ between two runs; losses are finite"),
        ((1.5, 1.3, 0.9), True, False, "1 of 3 losses differ between two runs; losses are finite"),
        ((1.5, 1.2, 0.9), False, False, "0 of 3 losses differ between two runs; losses are not finite"),
    ],
    ids=["equal", "different", "not finite"],
)
def test_check_deterministic_fails_when_losses_differ_or_are_not_finite(monkeypatch, losses, finite, passes, found):
    runs = iter([gpu_check.ShortRun([], [1.5, 1.2, 0.9], finite), gpu_check.ShortRun([], list(losses), finite)])
    options = []
    monkeypatch.setattr(gpu_check, "_train_on_one_batch", lambda *_, **given: options.append(given) or next(runs))
    assert gpu_check.check_deterministic(SETTINGS, "CPU:1", None) == gpu_check.Check("deterministic", passes, found)
    assert options == [{"augment": gpu_check.POLICY, "precision": "mixed_float16", "deterministic": True}] * 2
