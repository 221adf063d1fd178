"""Figures: medians, spread and ratios within a round."""

import json
import time

import pytest

from fer.benchmark import results
from fer.benchmark.results import Result


def sleeper(seconds: float, items: int):
    def work() -> int:
        time.sleep(seconds)
        return items

    return work


def test_a_race_gives_each_its_rate_and_its_ratio_to_the_baseline():
    quick, slow = results.race("nap", "naps/s", {"quick": sleeper(0.01, 8), "slow": sleeper(0.02, 4)}, "slow", rounds=3)
    assert (quick.suite, quick.unit, quick.baseline, slow.baseline) == ("nap", "naps/s", "slow", None)
    assert quick.low <= quick.value <= quick.high
    assert 600 < quick.value < 800.1
    assert quick.ratio == pytest.approx(4, rel=0.2)


def test_the_ratio_is_that_of_the_same_round():
    """A machine that gets slower and slower leaves it as it is."""
    delays = iter([0.01, 0.02, 0.04, 0.08])
    current = []

    def first() -> int:
        current.append(next(delays))
        time.sleep(current[-1])
        return 1

    def second() -> int:
        time.sleep(current[-1] / 2)
        return 1

    slow, quick = results.race("nap", "naps/s", {"slow": first, "quick": second}, baseline="slow", rounds=4)
    assert slow.high > 4 * slow.low
    assert quick.ratio == pytest.approx(2, rel=0.15)


def test_figures_are_written_as_json_and_as_a_plot(tmp_path):
    measured = [
        Result("convert", "ours", 300.0, "rows/s", 290.0, 310.0, "usual", 3.0),
        Result("convert", "usual", 100.0, "rows/s", 90.0, 110.0),
        Result("convert", "memory", 512.0, "MiB", 512.0, 512.0),
    ]
    path, picture = results.write(str(tmp_path / "benchmark.json"), measured)
    content = json.load(open(path))
    assert [entry["ratio"] for entry in content["results"]] == [3.0, None, None]
    assert set(content["results"][0]) == {"suite", "name", "value", "unit", "low", "high", "baseline", "ratio"}
    assert content["machine"]["cores"] >= 1
    assert open(picture, "rb").read(8) == b"\x89PNG\r\n\x1a\n"
    assert "(3.00 x usual)" in results.table(measured)
