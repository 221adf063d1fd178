"""Tests of fer/sweep/search_space.py and of the commands in docs/sweeps.md."""

import re

import pytest

from fer.config import Experiment
from fer.errors import UserError
from fer.sweep import search_space
from fer.sweep.search_space import Choice, Range


def test_grid_points_are_all_combinations_and_leave_the_base_unchanged():
    base = Experiment()
    found = search_space.parse_grid("seed=0,1,2; model.dropout=0.2,0.4", base)
    points = search_space.grid_points(found)
    assert points == [{"seed": seed, "model.dropout": dropout} for seed in (0, 1, 2) for dropout in (0.2, 0.4)]
    changed = search_space.apply_overrides(base, points[5])
    assert (changed.seed, changed.model.dropout, base.seed, base.model.dropout) == (2, 0.4, 0, 0.2)


def test_parse_grid_converts_types_and_keeps_commas_in_parentheses():
    text = (
        "train.jit_compile=true,FALSE; optimizer.learning_rate=1,1e-2; augment.policy=none,affine(rotate=5,scale=0.1)"
    )
    found = search_space.parse_grid(text, Experiment())
    assert found["train.jit_compile"] == Choice((True, False))
    assert found["optimizer.learning_rate"] == Choice((1.0, 0.01))
    assert isinstance(found["optimizer.learning_rate"].values[0], float)
    assert found["augment.policy"] == Choice(("none", "affine(rotate=5,scale=0.1)"))


def test_parse_space_returns_ranges_and_choices():
    text = (
        "optimizer.learning_rate=log(0.01,1); train.epochs=uniform(2,8,2); model.dropout=uniform(0,0.5,0.1); "
        "optimizer.name=choice(sgd,adamw)"
    )
    assert search_space.parse_space(text, Experiment()) == {
        "optimizer.learning_rate": Range(0.01, 1.0, whole=False, log=True),
        "train.epochs": Range(2, 8, whole=True, step=2),
        "model.dropout": Range(0.0, 0.5, whole=False, step=0.1),
        "optimizer.name": Choice(("sgd", "adamw")),
    }


def test_field_types_has_every_field_of_an_experiment():
    def paths(values, path=""):
        for name, value in values.items():
            yield from paths(value, f"{path}{name}.") if isinstance(value, dict) else [path + name]

    assert set(search_space.field_types()) == set(paths(Experiment().to_dict()))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model.dropuot=0.2", "no field model.dropuot; the nearest is model.dropout"),
        ("dropout=0.2", "no field dropout; the nearest is model.dropout"),
        ("seed", "'seed' is not of the form FIELD=VALUES"),
        ("seed=", "'seed=' is not of the form FIELD=VALUES"),
        ("seed=0,,1", "'0,,1' has an empty part"),
        ("seed=0;;model.dropout=0.1", "has an empty part"),
        ("augment.policy=affine(rotate=5", "unpaired parenthesis"),
        ("seed=0,1.5", "seed is of type int, but '1.5' is not"),
        ("train.jit_compile=yes", "train.jit_compile is of type bool, but 'yes' is not"),
        ("seed=1,1", "seed lists 1 twice"),
        ("seed=1;seed=2", "seed is listed twice"),
        ("train.deterministic=true,false", "train.deterministic cannot differ within a sweep"),
        (
            "train.num_replicas=1,2",
            "train.num_replicas cannot differ within a sweep: TensorFlow creates the devices of a process once",
        ),
        ("model.dropout=0.1,1.5", "config.model.dropout is 1.5; it must be 0 or more, below 1"),
    ],
)
def test_parse_grid_rejects_wrong_text(text, message):
    with pytest.raises(UserError) as caught:
        search_space.parse_grid(text, Experiment())
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model.dropout=0.1,0.2", "model.dropout=0.1,0.2 is not a range"),
        ("model.dropout=normal(0,1)", "is not a range. It must be uniform(low,high)"),
        ("model.dropout=uniform(0.5,0.1)", "must have a lower and a higher end"),
        ("model.dropout=uniform(0.1)", "must have a lower and a higher end"),
        ("model.dropout=uniform(0,0.5,inf)", "must have finite numbers"),
        ("model.dropout=uniform(0,0.5,nan)", "must have finite numbers"),
        ("train.epochs=uniform(2,9,3)", "steps of 3 do not lead from 2 to 9"),
        ("model.dropout=uniform(0,0.5,0.7)", "steps of 0.7 do not lead from 0.0 to 0.5"),
        ("model.dropout=log(0,0.5)", "the lower end of log(...) and a step must be above 0"),
        ("model.dropout=log(0.1,0.5,0.1)", "must have a lower and a higher end"),
        ("optimizer.name=uniform(1,2)", "is of type str, for which uniform(...) is not defined"),
        ("optimizer.name=choice(sgd,adam)", "config.optimizer.name is 'adam'"),
        ("model.dropout=uniform(0,1)", "config.model.dropout is 1.0"),
    ],
)
def test_parse_space_rejects_wrong_text(text, message):
    with pytest.raises(UserError) as caught:
        search_space.parse_space(text, Experiment())
    assert message in str(caught.value)


def test_docs_sweeps_commands_have_known_flags_and_valid_spaces(root):
    page, program = (root / "docs" / "sweeps.md").read_text(), (root / "scripts" / "sweep.py").read_text()
    flags = re.findall(r"--(\w+)[=.`]", page)
    assert {"grid", "space", "ablations", "extra_runs", "storage", "pruning"} <= set(flags)
    assert set(flags) <= set(re.findall(r'DEFINE_\w+\(\s*"(\w+)"', program))
    assert (
        len(
            search_space.grid_points(search_space.parse_grid(re.search(r"--grid='(seed[^']+)'", page)[1], Experiment()))
        )
        == 6
    )
    seeds = search_space.parse_grid("seed=0,1", Experiment())
    assert len(search_space.parse_changes(re.search(r"--ablations='([^']+)'", page)[1], Experiment(), seeds)) == 5
    assert len(search_space.parse_space(re.search(r"--space='(optim[^']+)'", page)[1], Experiment())) == 2


@pytest.mark.parametrize(
    ("pruning", "text", "reason"),
    [
        ("auto", "model.dropout=uniform(0,0.5)", ""),
        ("auto", "model.dropout=uniform(0,0.5); seed=choice(0,1)", "needs a --space without seed: a sweep over"),
        ("median", "model.dropout=uniform(0,0.5)", ""),
        ("none", "model.dropout=uniform(0,0.5)", "needs --pruning=median"),
    ],
)
def test_no_pruning_reason_depends_on_seeds_in_space(pruning, text, reason):
    space = search_space.parse_space(text, Experiment())
    found = search_space.no_pruning_reason(pruning, space, is_grid=False)
    assert found.startswith(reason)
    assert bool(found) == bool(reason)
