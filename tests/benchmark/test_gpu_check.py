"""The checks of `make gpu-check`, rehearsed: a second logical CPU stands in for the GPU."""

import dataclasses
import json
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from fer.augment import policy, xla_support
from fer.benchmark import gpu_check, op_placement
from fer.config import Model
from fer.data.example_codec import Faces
from fer.errors import UserError
from fer.models import classifier
from fer.synthetic import synthetic
from tests.scripts import run_script

SETTINGS = gpu_check.Settings(
    device="CPU", model=Model(name="tiny", image_size=24), batch=4, steps=2, learning=4, faces=64
)
LONGEST = f"{gpu_check.POLICY}|{gpu_check.MIXING}"


@pytest.fixture(scope="module")
def faces() -> Faces:
    images, labels = synthetic.generate_faces(SETTINGS.faces, seed=0)
    return Faces(images[..., np.newaxis], labels.astype(np.int32), np.arange(SETTINGS.faces), None)


def test_an_operation_on_the_host_is_found_in_the_partitioned_graph():
    @tf.function
    def pinned(x):
        with tf.device("CPU:1"):
            squared = tf.square(x)
            with tf.device("CPU:0"):
                shifted = tf.cumsum(squared)
            return tf.sort(shifted)

    with tf.device("CPU:1"):
        x = tf.constant([3.0, 1.0, 2.0])
    nodes = op_placement.placed(lambda: pinned(x))
    assert [node.op for node in op_placement.on_other_devices(nodes, "CPU:1")] == ["Cumsum"]
    assert {node.device for node in nodes} == {"CPU:0", "CPU:1"}
    with pytest.raises(ValueError, match="called before"):
        op_placement.placed(lambda: pinned(x))


@pytest.mark.parametrize("text", ["flip|erase(p=0.4)", pytest.param(gpu_check.POLICY, marks=pytest.mark.extended)])
def test_the_augmenter_is_on_the_device(faces, monkeypatch, text):
    monkeypatch.setattr(gpu_check, "POLICY", text)
    check = gpu_check.check_augmenter(SETTINGS, "CPU:1", faces)
    assert check.passed, check.found


def test_an_augmenter_that_is_partly_on_the_host_fails(faces):
    whole = policy.augmenter("flip")

    def partly_on_host(images, targets, draws):
        with tf.device("CPU:0"):
            images = tf.bitwise.invert(images)
        return whole(images, targets, draws)

    failed = gpu_check.check_augmenter(SETTINGS, "CPU:1", faces, partly_on_host)
    assert not failed.passed
    assert "1 elsewhere; Invert" in failed.found


@pytest.mark.parametrize(
    "text", ["flip|erase(p=0.4)|choose(mixup,cutmix)", pytest.param(LONGEST, marks=pytest.mark.extended)]
)
def test_a_step_leaves_nothing_of_the_device_to_the_host(faces, text):
    check = gpu_check.check_host(SETTINGS, "CPU:1", faces, text)
    assert check.passed, check.found


def test_a_step_that_leaves_something_to_the_host_fails(faces, monkeypatch):
    monkeypatch.setattr(xla_support, "index_type", lambda: tf.int32)
    failed = gpu_check.check_host(SETTINGS, "CPU:1", faces, "brightness")
    assert not failed.passed
    assert "1 operations of a step compute on the host what the GPU has; AddV2" in failed.found
    assert "int32 (4, 48, 48, 1) is read by the host" in failed.found


@pytest.mark.parametrize(
    "name", ["device", *(pytest.param(n, marks=pytest.mark.extended) for n in ("mixed_float16", "xla"))]
)
def test_the_step_is_on_the_device_trains_in_float16_and_is_compiled(faces, name):
    checks = gpu_check.steps_checks(SETTINGS, "CPU:1", faces)
    assert list(checks) == ["device", "mixed_float16", "xla"]
    check = checks[name]()
    assert check.name == name
    assert check.passed, check


class Slow:
    """A feed that is waited for a given time at each batch, as `fer.train.device_iterator.DeviceIterator` tells it."""

    def __init__(self, batch, seconds: float):
        self.batch, self.seconds, self.waited = batch, seconds, 0.0

    def __next__(self):
        time.sleep(self.seconds)
        self.waited += self.seconds
        return self.batch


@pytest.mark.parametrize(("seconds", "passes"), [(0.0, True), (0.2, False)], ids=["quick", "slow"])
def test_waiting_longer_than_the_limit_fails(monkeypatch, seconds, passes):
    made = SimpleNamespace(loss=SimpleNamespace(result=lambda: 0.0))
    under_way = (lambda batch: time.sleep(0.05), Slow(None, seconds), made)
    monkeypatch.setattr(gpu_check, "_under_way", lambda *_: under_way)
    check = gpu_check.check_input(SETTINGS, ["CPU:1"], None)
    assert check.passed == passes
    assert float(check.found.partition("%")[0]) == pytest.approx(0 if passes else 80, abs=8)


def test_placed_returns_the_operations_of_its_call_alone():
    x = tf.constant([3.0, 1.0])
    op_placement.placed(lambda: tf.function(tf.square, autograph=False)(x))
    tf.math.is_finite(tf.function(tf.cumsum, autograph=False)(x))  # TensorFlow goes on collecting what is first run
    nodes = op_placement.placed(lambda: tf.function(tf.square, autograph=False)(x))
    assert {node.op for node in nodes} - op_placement.TRANSFERS == {"Square"}


def test_there_are_faces_for_a_batch_of_all_devices(monkeypatch):
    seen = []
    monkeypatch.setattr(gpu_check, "devices", lambda kind: ["CPU:0", "CPU:1"])
    monkeypatch.setattr(gpu_check, "_checks", lambda settings, names, faces: seen.append(faces) or iter(()))
    monkeypatch.setattr(gpu_check, "rates", lambda *_: [])
    monkeypatch.setattr(gpu_check, "_made", lambda name, check: gpu_check.Check(name, True, ""))
    gpu_check.run(dataclasses.replace(SETTINGS, batch=40, faces=64))
    assert len(seen[0].images) == 80


def test_a_check_that_cannot_be_run_has_failed_and_the_others_go_on(monkeypatch):
    def broken(settings, device, faces, **train):
        raise tf.errors.InternalError(None, None, "libdevice not found")

    passed = gpu_check.Check("", True, "")
    monkeypatch.setattr(gpu_check, "_learned", broken)
    for name in ("check_augmenter", "check_host", "check_input"):
        monkeypatch.setattr(gpu_check, name, lambda *_: passed)
    checks = list(gpu_check._checks(SETTINGS, ["CPU:1"], None))
    assert [check.passed for check in checks] == [True, True, False, False, False, True]
    assert checks[4] == gpu_check.Check("xla", False, "it cannot be run: libdevice not found")


def test_a_rate_that_cannot_be_measured_says_why_and_the_others_are_measured(monkeypatch):
    def rate(settings, names, faces, precision):
        if precision == "float32":
            raise tf.errors.ResourceExhaustedError(None, None, "out of memory")
        return 100.0 * len(names)

    monkeypatch.setattr(gpu_check, "_rate", rate)
    settings = dataclasses.replace(SETTINGS, precisions=("float32", "mixed_float16"))
    found = gpu_check.rates(settings, ["GPU:0", "GPU:1"], None)
    assert [entry["images_per_second"] for entry in found] == [None, None, 100.0, 200.0]
    assert [entry.get("failure") for entry in found] == ["out of memory", "out of memory", None, None]


def test_efficiency_is_the_rate_of_several_devices_against_that_of_one(monkeypatch):
    measured = {1: 100.0, 2: 190.0, 4: 300.0, 6: 450.0}
    monkeypatch.setattr(gpu_check, "_rate", lambda settings, names, faces, precision: measured[len(names)])
    settings = dataclasses.replace(SETTINGS, precisions=("float32", "mixed_float16"))
    found = gpu_check.rates(settings, [f"GPU:{number}" for number in range(6)], None)
    expected = [(1, 100.0, 1.0), (2, 190.0, 0.95), (4, 300.0, 0.75), (6, 450.0, 0.75)]
    assert [tuple(rate.values()) for rate in found] == [
        (precision, *figures) for precision in settings.precisions for figures in expected
    ]


@pytest.mark.slow
def test_a_rate_is_measured_on_one_device_and_on_several(faces):
    settings = dataclasses.replace(SETTINGS, precisions=("float32",))
    found = gpu_check.rates(settings, ["CPU:0", "CPU:1"], faces)
    assert [rate["devices"] for rate in found] == [1, 2]
    assert all(rate["images_per_second"] > 0 for rate in found)


def test_each_precision_that_is_measured_is_one_that_a_network_can_compute_in():
    for precision in gpu_check.Settings().precisions:
        stem = next(
            layer for layer in classifier.build(SETTINGS.model, precision).submodules if "half_conv" in layer.name
        )
        assert stem.compute_dtype == precision.removeprefix("mixed_")


def test_without_a_gpu_it_says_so(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    with pytest.raises(UserError, match="TensorFlow sees no GPU on this machine"):
        gpu_check.devices("GPU")


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="this machine has a GPU")
def test_the_program_ends_with_1_where_there_is_no_gpu(tmp_path):
    done = run_script.run("gpu_check.py", tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("gpu_check.py: TensorFlow sees no GPU")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_a_rehearsal_prints_all_of_it_as_json(root, tmp_path):
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
def test_two_deterministic_runs_are_the_same(faces):
    check = gpu_check.check_deterministic(SETTINGS, "CPU:1", faces)
    assert check.passed, check.found


@pytest.mark.parametrize(
    ("losses", "finite", "passes", "said"),
    [
        ((1.5, 1.2, 0.9), True, True, "0 of 3 losses differ between two runs, which are numbers"),
        ((1.5, 1.3, 0.9), True, False, "1 of 3 losses differ between two runs, which are numbers"),
        ((1.5, 1.2, 0.9), False, False, "0 of 3 losses differ between two runs, which are not numbers"),
    ],
    ids=["the same", "different", "no numbers"],
)
def test_two_runs_that_differ_fail_the_check_of_determinism(monkeypatch, losses, finite, passes, said):
    runs = iter([gpu_check.Learned([], [1.5, 1.2, 0.9], finite), gpu_check.Learned([], list(losses), finite)])
    asked = []
    monkeypatch.setattr(gpu_check, "_learned", lambda *_, **how: asked.append(how) or next(runs))
    assert gpu_check.check_deterministic(SETTINGS, "CPU:1", None) == gpu_check.Check("deterministic", passes, said)
    assert asked == [{"augment": gpu_check.POLICY, "precision": "mixed_float16", "deterministic": True}] * 2
