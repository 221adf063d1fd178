"""What a change is worth: by hand, by simulation, and in a sweep's report."""

import dataclasses
import json
import pathlib
import shutil

import numpy as np
import pytest

optuna = pytest.importorskip("optuna", reason="sweeps are tested with the extra sweep (optuna)")

from fer.errors import UserError
from fer.evaluation import eval_json, predictions
from fer.io import files
from fer.sweep import ablation, optuna_study, report, runner, search_space
from tests.shared import shared_folder
from tests.sweep import factories


def runs(right: np.ndarray) -> ablation.Runs:
    return ablation.Runs(right, np.zeros(len(right)), np.zeros(len(right)))


def test_effects_of_one_seed_use_interval_of_paired_faces():
    random = np.random.default_rng(0)
    base, changed = random.random([1, 500]) < 0.6, random.random([1, 500]) < 0.7
    _, effect = ablation.effects({"base": runs(base), "x": runs(changed)})
    paired = changed[0].astype(float) - base[0]
    assert effect["difference"] == pytest.approx(paired.mean())
    low, high = effect["difference_ci95"]
    assert (high - low) / 2 == pytest.approx(1.959964 * paired.std(ddof=1) / 500**0.5)


def test_effects_interval_has_its_nominal_coverage():
    """Faces differ in difficulty, seeds in skill; the true difference is 0.05 minus what clipping takes."""
    random, held, tries = np.random.default_rng(1), 0, 400
    for _ in range(tries):
        difficulty = random.uniform(0.25, 0.85, 600)

        def trained(gain: float, difficulty: np.ndarray = difficulty) -> ablation.Runs:
            skill = gain + random.normal(0, 0.02, [2, 1])
            return runs(random.random([2, 600]) < difficulty + skill)

        others = {str(number): trained(0) for number in range(8)}
        *_, effect = ablation.effects({"base": trained(0), **others, "better": trained(0.05)})
        low, high = effect["difference_ci95"]
        held += low <= 0.05 <= high
    assert 0.91 <= held / tries <= 0.985


def test_picture_shows_every_change():
    found = ablation.effects({name: runs(np.eye(4, dtype=bool)[:2]) for name in ("base", "a", "b" * 200)})
    assert ablation.picture(found).startswith(b"\x89PNG")


@pytest.fixture(scope="module", params=factories.WAYS)
def swept(request, synthetic_shards, tmp_path_factory):
    """A sweep with one change over two seeds, beside one with a single seed that counts as a second change."""
    base, smoother, data = factories.experiment(), factories.experiment(label_smoothing=0.3), synthetic_shards.folder
    seeds = search_space.grid("seed=0,1", base)
    plan = optuna_study.of_grid(seeds, search_space.changes("augment.policy=none with model.dropout=0", base, seeds))

    def run(folder: pathlib.Path) -> None:
        other = runner.Sweep(
            smoother, optuna_study.of_grid(search_space.grid("seed=0", base)), data, str(folder / "smoother")
        )
        with pytest.MonkeyPatch.context() as patch:
            factories.results(patch, request.param)
            runner.run(dataclasses.replace(other, strategy="one"))
            runner.run(runner.Sweep(base, plan, data, str(folder / "sweep"), strategy="one", also=(other.output,)))

    return shared_folder(tmp_path_factory, f"changes, {request.param}", run) / "sweep"


def test_changes_flag_trains_each_change_alone_with_each_seed(swept):
    configs = [json.loads((swept / f"trial-{number:04d}" / "config.json").read_text())["config"] for number in range(4)]
    told = [(each["seed"], each["augment"]["policy"], each["model"]["dropout"]) for each in configs]
    base = factories.experiment()
    alone = [(base.augment.policy, base.model.dropout), ("none", 0.0)]
    assert told == [(seed, *each) for seed in (0, 1) for each in alone]


def test_extra_runs_are_found_where_the_folder_is_now(swept, tmp_path, synthetic_shards):
    moved = tmp_path / "moved"
    shutil.copytree(swept.parent / "smoother", moved)
    plan = optuna_study.of_grid({}, search_space.changes("train.ema_decay=0", factories.experiment(), {}))
    data = synthetic_shards.folder
    assert report.extra_runs([str(moved)], plan, data) == {"moved": [str(moved / "trial-0000")]}
    kept = moved / "trial-0000" / "predictions.npz"
    said = predictions.read_npz(str(kept))
    predictions.write_npz(str(kept), said._replace(rows=said.rows + 1))
    with pytest.raises(UserError, match=r"moved/trial-0000 was evaluated on other faces than the validation split of"):
        report.extra_runs([str(moved)], plan, data)
    kept.unlink()
    with pytest.raises(UserError, match=r"moved/trial-0000, which .*moved/sweep\.json lists as complete, has no pred"):
        report.extra_runs([str(moved)], plan, data)


def test_report_compares_changes_with_base_and_counts_extra_runs_as_changes(swept):
    found = json.loads((swept / "sweep.json").read_text())["changes"]
    assert [entry["change"] for entry in found] == ["base", "augment.policy=none, model.dropout=0.0", "smoother"]
    assert [entry["seeds"] for entry in found] == [2, 2, 1]
    for place, entry in enumerate(found[:2]):
        evaluations = [
            eval_json.read_eval(str(swept / f"trial-{number:04d}/eval.json")) for number in (place, place + 2)
        ]
        assert entry["accuracies"] == pytest.approx([each["accuracy"] for each in evaluations])
        assert entry["macro_f1"] == pytest.approx(np.mean([each["macro_f1"] for each in evaluations]))
    assert found[0]["difference"] is None
    assert found[2]["difference"] == pytest.approx(found[2]["accuracy"] - found[0]["accuracy"])
    table = (swept / "sweep.md").read_text()
    for part in ("## Against the base", "| smoother | 1 |", "![changes](changes.png)"):
        assert part in table


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train.ema_decay=0; train.ema_decay=0", "The change train.ema_decay=0.0 is there twice"),
        ("train.ema_decay=0.999", "changes nothing"),
        ("seed=3", "The change seed=3 is a seed; seeds belong into --grid"),
        ("model.dropout=2", "config.model.dropout is 2.0"),
        ("model.dropout=0 with model.dropout=0.1", "model.dropout is there twice"),
        ("augment.policy=none with model.dropuot=0", "no field model.dropuot; the nearest is model.dropout"),
        ("augment.engine=keras_cv with train.deterministic=false", "cannot differ within a sweep"),
    ],
)
def test_changes_flag_error_names_mistake(text, said):
    base = factories.experiment()
    with pytest.raises(UserError) as caught:
        search_space.changes(text, base, search_space.grid("seed=0,1", base))
    assert said in str(caught.value)


def test_grid_flag_with_changes_accepts_seeds_only():
    base = factories.experiment()
    with pytest.raises(UserError, match=r"--grid has seeds alone, as in seed=0,1; model\.dropout would be a change"):
        search_space.changes("train.ema_decay=0", base, search_space.grid("seed=0,1; model.dropout=0.1,0.3", base))


@pytest.mark.parametrize(("count", "first_row"), [(6, 0), (5, 100)])
def test_runs_on_other_faces_are_not_compared(tmp_path, count, first_row):
    for name, faces, row in (("base", 5, 0), ("x", count, first_row)):
        kept = predictions.Predictions(
            np.zeros(faces, np.int32), np.eye(7)[np.zeros(faces, int)], np.arange(faces) + row
        )
        predictions.write_npz(str(tmp_path / name / "predictions.npz"), kept)
    with pytest.raises(UserError, match=r"/x was evaluated on other faces than .*/base; they cannot be compared"):
        ablation.read({name: [str(tmp_path / name)] for name in ("base", "x")})


@pytest.mark.parametrize(
    ("fields", "names", "said"),
    [
        (["seed", "model.dropout"], ["a"], r"varies \['seed', 'model.dropout'\]; --also takes sweeps over seeds alone"),
        (["seed"], ["a", "other/a"], r"other/a has the name of another change, a; rename its folder"),
        (["seed"], ["base"], r"base has the name of another change, base"),
        (["seed"], ["a"], r"a/sweep\.json lists no complete run; leave .*a out of --also"),
        (None, ["a"], r"a/sweep\.json is no report of a sweep"),
        (["seed"], ["a", "nowhere/b"], r"There is no .*nowhere/b/sweep\.json"),
    ],
)
def test_also_flag_rejects_unsuitable_sweep_before_training(synthetic_shards, tmp_path, fields, names, said):
    for name in names:
        if "nowhere" not in name:
            files.write_json(str(tmp_path / name / "sweep.json"), fields and {"fields": fields, "trials": []})
    base, output = factories.experiment(), tmp_path / "sweep"
    plan = optuna_study.of_grid({}, search_space.changes("train.ema_decay=0", base, {}))
    also = tuple(str(tmp_path / name) for name in names)
    with pytest.raises(UserError, match=said):
        runner.run(runner.Sweep(base, plan, synthetic_shards.folder, str(output), also=also))
    assert not output.exists()
