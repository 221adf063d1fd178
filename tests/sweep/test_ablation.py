"""Tests of fer/sweep/ablation.py, of ablations in the report of a sweep, and of their parser."""

import dataclasses
import json
import pathlib
import shutil

import numpy as np
import pytest

optuna = pytest.importorskip("optuna", reason="sweeps are tested with the extra sweep (optuna)")

from fer.errors import UserError
from fer.evaluation import eval_json, prediction_files
from fer.io import files
from fer.sweep import ablation, optuna_study, report, runner, search_space
from tests.shared import shared_folder
from tests.sweep import factories


def make_runs(right: np.ndarray) -> ablation.Runs:
    return ablation.Runs(right, np.zeros(len(right)), np.zeros(len(right)))


def test_estimate_effects_interval_equals_paired_test_when_there_is_one_seed():
    random = np.random.default_rng(0)
    base, changed = random.random([1, 500]) < 0.6, random.random([1, 500]) < 0.7
    _, effect = ablation.estimate_effects({"base": make_runs(base), "x": make_runs(changed)})
    paired = changed[0].astype(float) - base[0]
    assert effect["difference"] == pytest.approx(paired.mean())
    low, high = effect["difference_ci95"]
    assert (high - low) / 2 == pytest.approx(1.959964 * paired.std(ddof=1) / 500**0.5)


def test_estimate_effects_interval_has_its_nominal_coverage():
    """In the simulation, images differ in difficulty and seeds in skill; the true difference is 0.05."""
    random, covered, tries = np.random.default_rng(1), 0, 400
    for _ in range(tries):
        difficulty = random.uniform(0.25, 0.85, 600)

        def trained(gain: float, difficulty: np.ndarray = difficulty) -> ablation.Runs:
            skill = gain + random.normal(0, 0.02, [2, 1])
            return make_runs(random.random([2, 600]) < difficulty + skill)

        others = {str(number): trained(0) for number in range(8)}
        *_, effect = ablation.estimate_effects({"base": trained(0), **others, "better": trained(0.05)})
        low, high = effect["difference_ci95"]
        covered += low <= 0.05 <= high
    assert 0.91 <= covered / tries <= 0.985


@pytest.mark.parametrize(("seeds", "scope"), [(1, "images only"), (2, "images and seeds")])
def test_table_and_plot_name_what_the_intervals_cover(monkeypatch, seeds, scope):
    right = np.eye(4, dtype=bool)
    found = ablation.estimate_effects({"base": make_runs(right[:1]), "x": make_runs(right[:seeds])})
    figures = []
    monkeypatch.setattr(ablation.rendering, "render_png", figures.append)
    ablation.plot_effects(found)
    assert f"95 % CI over {scope}" in report._changes_table(found)[0]
    assert figures[0].get_supxlabel().endswith(f"95 % CI over {scope}")


def test_plot_effects_accepts_long_names():
    found = ablation.estimate_effects({name: make_runs(np.eye(4, dtype=bool)[:2]) for name in ("base", "a", "b" * 200)})
    assert ablation.plot_effects(found).startswith(b"\x89PNG")


@pytest.fixture(scope="module", params=factories.MODES)
def swept(request, synthetic_shards, tmp_path_factory):
    """Runs a sweep with one ablation over two seeds, and one with a single seed as a further ablation."""
    base, smoother, data = factories.experiment(), factories.experiment(label_smoothing=0.3), synthetic_shards.folder
    seeds = search_space.parse_grid("seed=0,1", base)
    plan = optuna_study.make_grid_plan(
        seeds, search_space.parse_changes("augment.policy=none with model.dropout=0", base, seeds)
    )

    def run(folder: pathlib.Path) -> None:
        other = runner.Sweep(
            smoother,
            optuna_study.make_grid_plan(search_space.parse_grid("seed=0", base)),
            data,
            str(folder / "smoother"),
        )
        with pytest.MonkeyPatch.context() as patch:
            factories.patch_training(patch, request.param)
            runner.run_sweep(dataclasses.replace(other, strategy="one"))
            runner.run_sweep(
                runner.Sweep(base, plan, data, str(folder / "sweep"), strategy="one", extra_sweeps=(other.output,))
            )

    return shared_folder(tmp_path_factory, f"changes, {request.param}", run) / "sweep"


def test_sweep_trains_each_ablation_with_each_seed(swept):
    configs = [json.loads((swept / f"trial-{number:04d}" / "config.json").read_text())["config"] for number in range(4)]
    settings = [(each["seed"], each["augment"]["policy"], each["model"]["dropout"]) for each in configs]
    base = factories.experiment()
    combinations = [(base.augment.policy, base.model.dropout), ("none", 0.0)]
    assert settings == [(seed, *each) for seed in (0, 1) for each in combinations]


def test_extra_runs_finds_runs_in_a_renamed_directory(swept, tmp_path, synthetic_shards):
    moved = tmp_path / "moved"
    shutil.copytree(swept.parent / "smoother", moved)
    plan = optuna_study.make_grid_plan({}, search_space.parse_changes("train.ema_decay=0", factories.experiment(), {}))
    data = synthetic_shards.folder
    assert report.extra_runs([str(moved)], plan, data) == {"moved": [str(moved / "trial-0000")]}
    kept = moved / "trial-0000" / "predictions.npz"
    saved = prediction_files.read_npz(str(kept))
    prediction_files.write_npz(str(kept), saved._replace(rows=saved.rows + 1))
    with pytest.raises(UserError, match=r"moved/trial-0000 was evaluated on other images than the validation split of"):
        report.extra_runs([str(moved)], plan, data)
    kept.unlink()
    with pytest.raises(
        UserError, match=r"moved/trial-0000 has no predictions\.npz, but .*moved/sweep\.json lists the run as complete"
    ):
        report.extra_runs([str(moved)], plan, data)


def test_extra_runs_rejects_evaluation_with_another_protocol(swept, tmp_path, synthetic_shards):
    shutil.copytree(swept.parent / "smoother", tmp_path / "smoother")
    path = tmp_path / "smoother" / "trial-0000" / "eval.json"
    content = json.loads(path.read_text())
    content["protocol"]["tta"] = "flip"
    path.write_text(json.dumps(content))
    plan = optuna_study.make_grid_plan({}, search_space.parse_changes("train.ema_decay=0", factories.experiment(), {}))
    with pytest.raises(UserError, match=r"trial-0000/eval\.json has another protocol .*--tta=none"):
        report.extra_runs([str(tmp_path / "smoother")], plan, synthetic_shards.folder)


def test_report_compares_each_ablation_and_other_sweep_with_the_base(swept):
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
    for part in ("## Ablations", "| smoother | 1 |", "![changes](changes.png)"):
        assert part in table


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train.ema_decay=0; train.ema_decay=0", "--ablations lists train.ema_decay=0.0 twice"),
        ("train.ema_decay=0.999", "The change train.ema_decay=0.999 has no effect"),
        ("seed=3", "--ablations lists seed=3. Give seeds with --grid"),
        ("model.dropout=2", "config.model.dropout is 2.0"),
        ("model.dropout=0 with model.dropout=0.1", "model.dropout is listed twice"),
        ("augment.policy=none with model.dropuot=0", "no field model.dropuot; the nearest is model.dropout"),
        ("augment.backend=keras_cv with train.deterministic=false", "cannot differ within a sweep"),
    ],
)
def test_parse_changes_rejects_wrong_text(text, message):
    base = factories.experiment()
    with pytest.raises(UserError) as caught:
        search_space.parse_changes(text, base, search_space.parse_grid("seed=0,1", base))
    assert message in str(caught.value)


def test_parse_changes_rejects_grid_of_other_fields_than_the_seed():
    base = factories.experiment()
    with pytest.raises(
        UserError, match=r"--grid takes only seeds, such as seed=0,1\. Move model\.dropout to --ablations"
    ):
        search_space.parse_changes(
            "train.ema_decay=0", base, search_space.parse_grid("seed=0,1; model.dropout=0.1,0.3", base)
        )


@pytest.mark.parametrize(("count", "first_row"), [(6, 0), (5, 100)])
def test_read_runs_rejects_runs_on_other_images(tmp_path, count, first_row):
    for name, faces, row in (("base", 5, 0), ("x", count, first_row)):
        kept = prediction_files.Predictions(
            np.zeros(faces, np.int32), np.eye(7)[np.zeros(faces, int)], np.arange(faces) + row
        )
        prediction_files.write_npz(str(tmp_path / name / "predictions.npz"), kept)
    with pytest.raises(UserError, match=r"/x was evaluated on other images than .*/base\. Evaluate both"):
        ablation.read_runs({name: [str(tmp_path / name)] for name in ("base", "x")})


@pytest.mark.parametrize(
    ("fields", "names", "message"),
    [
        (
            ["seed", "model.dropout"],
            ["a"],
            r"varies \['seed', 'model.dropout'\]\. --extra_runs takes only sweeps that vary the seed",
        ),
        (["seed"], ["a", "other/a"], r"other/a has the name of another ablation, a\. Rename its directory"),
        (["seed"], ["base"], r"base has the name of another ablation, base"),
        (["seed"], ["a"], r"a/sweep\.json lists no complete run\. Remove .*a from --extra_runs"),
        (None, ["a"], r"a/sweep\.json is not the report of a sweep"),
        (["seed"], ["a", "nowhere/b"], r"There is no .*nowhere/b/sweep\.json"),
    ],
)
def test_run_sweep_rejects_unusable_other_sweep_before_training(synthetic_shards, tmp_path, fields, names, message):
    for name in names:
        if "nowhere" not in name:
            files.write_json(str(tmp_path / name / "sweep.json"), fields and {"fields": fields, "trials": []})
    base, output = factories.experiment(), tmp_path / "sweep"
    plan = optuna_study.make_grid_plan({}, search_space.parse_changes("train.ema_decay=0", base, {}))
    extra_sweeps = tuple(str(tmp_path / name) for name in names)
    with pytest.raises(UserError, match=message):
        runner.run_sweep(runner.Sweep(base, plan, synthetic_shards.folder, str(output), extra_sweeps=extra_sweeps))
    assert not output.exists()


@pytest.mark.parametrize("trials", [["x"], [{"state": "complete"}], [{"state": "complete", "values": {}}], {}])
def test_run_sweep_rejects_other_sweep_with_damaged_trials(synthetic_shards, tmp_path, trials):
    files.write_json(str(tmp_path / "a" / "sweep.json"), {"fields": ["seed"], "trials": trials})
    base = factories.experiment()
    plan = optuna_study.make_grid_plan({}, search_space.parse_changes("train.ema_decay=0", base, {}))
    sweep = runner.Sweep(
        base, plan, synthetic_shards.folder, str(tmp_path / "sweep"), extra_sweeps=(str(tmp_path / "a"),)
    )
    with pytest.raises(UserError, match=r"a/sweep\.json is not the report of a sweep"):
        runner.run_sweep(sweep)
