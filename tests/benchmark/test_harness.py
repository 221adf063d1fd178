"""Tests of fer/benchmark/harness.py."""

import json
import re
import time
import types

import pytest

from fer import progress
from fer.benchmark import harness
from fer.benchmark.harness import Result


@pytest.fixture
def sleep(monkeypatch):
    """Replaces the clock of the measurements, so that the tests do not depend on the load of the machine."""
    now = [0.0]
    monkeypatch.setattr(harness, "time", types.SimpleNamespace(perf_counter=lambda: now[0]))

    def advance(seconds: float) -> None:
        now[0] += seconds

    return advance


@pytest.fixture
def sleeper(sleep):
    def make(seconds: float, items: int):
        def work() -> int:
            sleep(seconds)
            return items

        return work

    return make


def test_run_interleaved_returns_throughput_and_ratio_to_the_baseline(sleeper):
    quick, slow = harness.run_interleaved(
        "nap", "naps/s", {"quick": sleeper(0.01, 8), "slow": sleeper(0.02, 4)}, "slow", rounds=3
    )
    assert (quick.suite, quick.unit, quick.baseline, slow.baseline) == ("nap", "naps/s", "slow", None)
    assert (quick.low, quick.value, quick.high) == (800.0, 800.0, 800.0)
    assert quick.ratio == 4


def test_run_interleaved_computes_ratios_within_a_round(sleep):
    """A machine that gets slower and slower leaves it as it is."""
    delays = iter([0.01, 0.02, 0.04, 0.08])
    current = []

    def first() -> int:
        current.append(next(delays))
        sleep(current[-1])
        return 1

    def second() -> int:
        sleep(current[-1] / 2)
        return 1

    slow, quick = harness.run_interleaved("nap", "naps/s", {"slow": first, "quick": second}, baseline="slow", rounds=4)
    assert (slow.low, slow.value, slow.high) == (12.5, 37.5, 100.0)
    assert (quick.ratio_low, quick.ratio, quick.ratio_high) == (2, 2, 2)
    assert (slow.ratio, slow.ratio_low, slow.ratio_high) == (None, None, None)


def test_run_interleaved_returns_range_of_the_ratio_over_rounds(sleep):
    delays = iter([0.1, 0.2, 0.1, 0.3, 0.1, 0.5])

    def work() -> int:
        sleep(next(delays))
        return 1

    quick, _ = harness.run_interleaved("nap", "naps/s", {"quick": work, "slow": work}, baseline="slow", rounds=3)
    assert (quick.ratio_low, quick.ratio, quick.ratio_high) == (2, 3, 5)


def test_run_interleaved_adds_a_result_for_each_pair(sleeper):
    candidates = {"quick": sleeper(0.01, 8), "slow": sleeper(0.02, 4), "base": sleeper(0.01, 1)}
    results = harness.run_interleaved("nap", "naps/s", candidates, "base", rounds=3, pairs=[("quick", "slow")])
    assert [each.name for each in results] == ["quick", "slow", "base", "quick, beside slow"]
    assert (results[3].baseline, results[3].value, results[3].ratio) == ("slow", results[0].value, 4)


def test_run_interleaved_prints_a_line_before_each_measurement(capsys):
    printed = []

    def work() -> int:
        printed.extend(capsys.readouterr().out.splitlines())
        return 1

    harness.run_interleaved("nap", "naps/s", {"a": work, "b": work}, "a", rounds=2)
    assert printed == [f"nap: round {number} of 2: {name}" for number in (1, 2) for name in ("a", "b")]


def test_run_interleaved_prints_more_lines_while_a_measurement_is_slow(monkeypatch, capsys):
    """The measurement lasts until three lines are printed; the interval between two lines is below 5 s by default."""
    assert progress.STAGE_INTERVAL_S < 5
    monkeypatch.setattr(progress, "STAGE_INTERVAL_S", 0.02)
    printed = []

    def work() -> int:
        deadline = time.monotonic() + 30
        while len(printed) < 3 and time.monotonic() < deadline:
            printed.extend(capsys.readouterr().out.splitlines())
            time.sleep(0.01)
        return 1

    harness.run_interleaved("nap", "naps/s", {"slow": work}, "slow", rounds=1)
    assert printed[0] == "nap: round 1 of 1: slow"
    assert len(printed) >= 3
    assert all(re.fullmatch(r"nap: round 1 of 1: slow \d+ s", line) for line in printed[1:])


def test_write_results_writes_json_and_plot(tmp_path):
    measured = [
        Result("convert", "ours", 300.0, "rows/s", 290.0, 310.0, "usual", 3.0),
        Result("convert", "usual", 100.0, "rows/s", 90.0, 110.0),
        Result("convert", "memory", 512.0, "MiB", 512.0, 512.0),
    ]
    path, picture = harness.write_results(str(tmp_path / "benchmark.json"), measured)
    content = json.load(open(path))
    assert [entry["ratio"] for entry in content["results"]] == [3.0, None, None]
    fields = {"suite", "name", "value", "unit", "low", "high", "baseline", "ratio", "ratio_low", "ratio_high"}
    assert set(content["results"][0]) == fields
    assert content["machine"]["cores"] >= 1
    assert open(picture, "rb").read(8) == b"\x89PNG\r\n\x1a\n"
    assert "(3.00 x usual)" in harness.format_table(measured)


def test_write_results_draws_no_plot_of_cells_of_a_table(tmp_path):
    cell = Result("launches", "kernels: forward: compact", 54, "launches", 54, 54)
    path = str(tmp_path / "launches.json")
    assert harness.write_results(path, [cell]) == [path]
    assert [each.name for each in tmp_path.iterdir()] == ["launches.json"]


def test_plot_results_leaves_out_cells_of_a_table():
    bar = Result("convert", "ours", 300.0, "rows/s", 290.0, 310.0)
    cell = Result("scaling", "efficiency: compact: 8 GPUs", 99.0, "%", 99.0, 99.0)
    assert harness.plot_results([bar, cell]) == harness.plot_results([bar])
