"""Tests of fer/benchmark/gpu/gpu_measurements.py."""

import pytest
import tensorflow as tf

from fer.benchmark.gpu import gpu_check, gpu_measurements
from fer.benchmark.gpu.gpu_measurements import Case, list_cases
from fer.config import Model

TINY = Model(name="tiny", image_size=24)
SETTINGS = gpu_check.Settings(device="CPU", model=TINY, batch=4, steps=2, faces=16)


def test_list_cases_begins_with_the_base_case_of_each_network():
    cases = list_cases()
    assert len({str(case) for case in cases}) == len(cases) == 4 * 3 * 2 * 2 * 2 * 2
    assert [case.model for case in cases[:4]] == list(gpu_measurements.NETWORKS)
    assert {case[1:] for case in cases[:4]} == {("mixed_bfloat16", True, 1024, 20, False, False)}
    assert cases[-1][1:] == ("mixed_float16", False, 256, 1, True, False)


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """Replaces the clock, and the measurements by functions that take ten seconds each."""
    now = [100.0]
    monkeypatch.setattr(gpu_measurements.time, "monotonic", lambda: now[0])

    def take(case_or_make, *_):
        now[0] += 10
        if isinstance(case_or_make, Case) and case_or_make.jit_compile:
            raise tf.errors.ResourceExhaustedError(None, None, "out of memory")
        plain = isinstance(case_or_make, Case) and not case_or_make.augmented
        return {"images_per_second": 200.0 if plain else 150.0}

    monkeypatch.setattr(gpu_measurements, "_measure_training", lambda settings, device, case: take(case))
    monkeypatch.setattr(gpu_measurements, "_measure_randaugment", take)
    monkeypatch.setattr(gpu_measurements, "RANDAUGMENTS", {"fer": None})
    return now


def measure(deadline: float, before: dict | None = None) -> list[dict]:
    """Returns the results as they were written, the last in full."""
    written = []
    works = gpu_measurements.list_works(SETTINGS, "CPU:1", list_cases([TINY], ["float32"], [4]))
    gpu_measurements.measure(
        works, deadline, lambda found: written.append({name: list(found[name]) for name in found}), str, before
    )
    return written


def test_measure_lists_what_does_not_fit_and_writes_after_each_measurement(clock):
    written = measure(deadline=100 + 45)
    assert clock == [140.0]  # a fifth measurement would end after the deadline
    assert [len(each["training"]) + len(each["augmentation"]) for each in written] == [0, 1, 2, 3, 4, 4]
    last = written[-1]
    assert (len(last["training"]), len(last["augmentation"]), len(last["not_measured"])) == (2, 2, 6)
    assert all(each["model"] == "tiny" and "images_per_second" not in each for each in last["not_measured"])


def test_measure_records_failure_of_pytorch():
    def fail():
        raise RuntimeError("CUDA out of memory")

    written = []
    works = [("augmentation", {"randaugment": "torchvision"}, fail)]
    gpu_measurements.measure(works, float("inf"), written.append, str)
    assert written[-1]["augmentation"] == [{"randaugment": "torchvision", "failure": "CUDA out of memory"}]


def test_measure_records_failures_and_the_share_of_augmentation(clock):
    last = measure(deadline=1e6)[-1]
    assert last["not_measured"] == []
    assert {each.get("failure") for each in last["training"] if each["jit_compile"]} == {"out of memory"}
    shares = [each["augmentation_share"] for each in last["training"] if each["augmented"] and not each["jit_compile"]]
    assert shares == [0.25, 0.25]


def test_measure_adds_the_share_of_deterministic_ops_measured_before(clock):
    case = list_cases([TINY], ["float32"], [4])[0]._replace(deterministic=True)
    late = case._replace(batch=8).describe()
    before = {"training": [{**case.describe(), "images_per_second": 90.0}], "not_measured": [late]}
    last = measure(1e6, before)[-1]
    assert [each["determinism_share"] for each in last["training"] if each["deterministic"]] == [0.4]
    assert len(last["training"]) == 9
    assert last["not_measured"] == [late]


@pytest.mark.extended
def test_measure_deterministic_measures_the_first_case_of_each_network_until_its_time_is_over():
    cases = list_cases([TINY], ["float32"], [4])
    found = gpu_measurements.measure_deterministic(SETTINGS, cases, 300.0)
    (entry,) = found["training"]
    assert entry.pop("images_per_second") > 0
    assert entry.pop("input_wait_share") >= 0
    assert entry == cases[0]._replace(deterministic=True).describe()
    assert gpu_measurements.measure_deterministic(SETTINGS, cases, 0.1) == {"not_measured": [entry]}


def test_measure_reports_libraries_that_are_not_installed():
    def make(faces):
        raise ImportError("No module named 'torch'")

    assert gpu_measurements._measure_randaugment(make, "CPU:1", 24, 2) == {
        "failure": "not installed: No module named 'torch'"
    }


@pytest.mark.extended
def test_measure_training_and_randaugment_run(monkeypatch):
    monkeypatch.setattr(gpu_measurements, "POLICY", "flip")
    for steps, jit_compile in ((1, False), (2, True)):
        found = gpu_measurements._measure_training(
            SETTINGS, "CPU:1", Case(TINY, "float32", True, 4, steps, jit_compile)
        )
        assert found["images_per_second"] > 0
        assert 0 <= found["input_wait_share"] <= 1
    for name in ("fer", "KerasCV"):
        make = gpu_measurements.RANDAUGMENTS[name]
        assert gpu_measurements._measure_randaugment(make, "CPU:1", 24, 2)["images_per_second"] > 0
