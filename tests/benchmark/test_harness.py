"""Figures: medians, spread and ratios within a round."""

import json
import types

import pytest

from fer.benchmark import harness
from fer.benchmark.harness import Result


@pytest.fixture
def sleep(monkeypatch):
    """Moves the clock that races are timed by, so that a busy machine does not decide these tests."""
    now = [0.0]
    monkeypatch.setattr(harness, "time", types.SimpleNamespace(perf_counter=lambda: now[0]))

    def sleeping(seconds: float) -> None:
        now[0] += seconds

    return sleeping


@pytest.fixture
def sleeper(sleep):
    def of(seconds: float, items: int):
        def work() -> int:
            sleep(seconds)
            return items

        return work

    return of


def test_a_race_gives_each_its_rate_and_its_ratio_to_the_baseline(sleeper):
    quick, slow = harness.run_interleaved(
        "nap", "naps/s", {"quick": sleeper(0.01, 8), "slow": sleeper(0.02, 4)}, "slow", rounds=3
    )
    assert (quick.suite, quick.unit, quick.baseline, slow.baseline) == ("nap", "naps/s", "slow", None)
    assert (quick.low, quick.value, quick.high) == (800.0, 800.0, 800.0)
    assert quick.ratio == 4


def test_the_ratio_is_that_of_the_same_round(sleep):
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
    assert quick.ratio == 2


def test_a_pair_is_told_beside_each_other_too(sleeper):
    contestants = {"quick": sleeper(0.01, 8), "slow": sleeper(0.02, 4), "base": sleeper(0.01, 1)}
    told = harness.run_interleaved("nap", "naps/s", contestants, "base", rounds=3, beside=[("quick", "slow")])
    assert [each.name for each in told] == ["quick", "slow", "base", "quick, beside slow"]
    assert (told[3].baseline, told[3].value, told[3].ratio) == ("slow", told[0].value, 4)


def test_figures_are_written_as_json_and_as_a_plot(tmp_path):
    measured = [
        Result("convert", "ours", 300.0, "rows/s", 290.0, 310.0, "usual", 3.0),
        Result("convert", "usual", 100.0, "rows/s", 90.0, 110.0),
        Result("convert", "memory", 512.0, "MiB", 512.0, 512.0),
    ]
    path, picture = harness.write(str(tmp_path / "benchmark.json"), measured)
    content = json.load(open(path))
    assert [entry["ratio"] for entry in content["results"]] == [3.0, None, None]
    assert set(content["results"][0]) == {"suite", "name", "value", "unit", "low", "high", "baseline", "ratio"}
    assert content["machine"]["cores"] >= 1
    assert open(picture, "rb").read(8) == b"\x89PNG\r\n\x1a\n"
    assert "(3.00 x usual)" in harness.table(measured)
