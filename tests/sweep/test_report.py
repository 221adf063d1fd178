"""Checks the plots and importances of a sweep's report."""

from __future__ import annotations

import dataclasses

import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution

from fer.sweep import report
from fer.sweep.optuna_study import Plan

SEARCH = Plan({}, False, 20, 0, {})
RATE, SEED = "optimizer.learning_rate", "seed"
DISTRIBUTIONS = {RATE: FloatDistribution(0.001, 1.0), SEED: IntDistribution(0, 100)}


def make_study(count: int, fields: tuple[str, ...] = (RATE, SEED), equal: bool = False) -> optuna.Study:
    """Returns a study of complete trials whose accuracy follows from the learning rate."""
    study = optuna.create_study(direction="maximize")
    for number in range(count):
        values = {RATE: 0.01 * (number + 1), SEED: number % 3}
        study.add_trial(
            optuna.create_trial(
                params={field: values[field] for field in fields},
                distributions={field: DISTRIBUTIONS[field] for field in fields},
                value=0.5 if equal else 0.5 + 0.01 * number,
            )
        )
    return study


def test_plots_and_importances_are_of_the_trials_in_the_table(monkeypatch):
    study, plan = make_study(12), dataclasses.replace(SEARCH, trials=9)
    study.set_user_attr("asked", {"pruning": "none"})
    content = report.summarize(study, plan, str, {})
    assert (len(content["trials"]), content["importances"]) == (9, {})
    drawn = []
    monkeypatch.setattr(report, "_make_plots", lambda planned, plan: drawn.append(planned) or {})
    monkeypatch.setattr(report.files, "write_text", lambda *_: None)
    monkeypatch.setattr(report.files, "write_json", lambda *_: None)
    report.write_report("", study, plan, str, {})
    assert [trial.value for trial in drawn[0].trials] == [trial.value for trial in study.trials[:9]]


def test_search_with_enough_trials_has_both_plots():
    pictures = report._make_plots(make_study(10), SEARCH)
    assert list(pictures) == ["history.png", "importances.png"]
    assert all(picture.startswith(b"\x89PNG") for picture in pictures.values())
    assert report._compute_importances(make_study(10))[RATE] > 0.8


@pytest.mark.parametrize(("count", "expected"), [(0, []), (2, []), (3, ["history.png"]), (9, ["history.png"])])
def test_few_trials_have_fewer_plots(count, expected):
    assert list(report._make_plots(make_study(count), SEARCH)) == expected


def test_grid_has_no_history():
    assert list(report._make_plots(make_study(10), dataclasses.replace(SEARCH, is_grid=True))) == ["importances.png"]


@pytest.mark.parametrize(
    "study", [make_study(12, fields=(RATE,)), make_study(12, equal=True)], ids=["one field", "equal accuracies"]
)
def test_importances_are_omitted_where_they_say_nothing(study):
    assert report._compute_importances(study) == {}
    assert list(report._make_plots(study, SEARCH)) == ["history.png"]
