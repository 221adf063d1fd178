"""Tests of saved predictions as members of an ensemble."""

import pathlib
import shutil

import numpy as np
import pytest

from fer.errors import UserError
from fer.evaluation import ensemble_members, eval_json, evaluate, inference, prediction_files
from fer.evaluation.eval_options import EvalRequest
from fer.evaluation.report import report_content
from fer.models import loading
from tests.evaluation import factories

COUNT = 20
LABELS = np.arange(COUNT) % 7


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    """Writes three runs, shards, and the saved predictions of two runs and of both together."""
    folder = tmp_path_factory.mktemp("saved")
    for seed, name in enumerate(("one", "two", "three")):
        factories.run(folder / name, seed)
    splits = {"validation": (factories.images(COUNT), LABELS), "test": (factories.images(7, seed=1), np.arange(7))}
    factories.shards(folder / "faces", splits)
    votes = np.zeros((COUNT, 10), np.int64)
    votes[:, 0] = 6
    factories.shards(folder / "voted", {"validation": splits["validation"]}, {"validation": votes})
    factories.shards(folder / "untested", {"validation": splits["validation"]})
    for names in (["one"], ["two"], ["one", "two"]):
        save_results(folder, folder / ("saved-" + "-".join(names)), *names)
    return folder


def request(folder: pathlib.Path, *names: str, data: str = "faces", **options) -> EvalRequest:
    return EvalRequest([str(folder / name) for name in names], str(folder / data), **options)


def save_results(folder: pathlib.Path, output: pathlib.Path, *names: str, **options) -> None:
    """Writes predictions.npz and eval.json of an evaluation, without plots."""
    evaluation = evaluate.evaluate(request(folder, *names, **options))
    prediction_files.write_npz(str(output / "predictions.npz"), evaluation.predictions)
    eval_json.write_eval(str(output / "eval.json"), evaluation.content)


@pytest.fixture(scope="module")
def both(folder) -> evaluate.Evaluation:
    """Evaluates both runs together."""
    return evaluate.evaluate(request(folder, "one", "two"))


def copy_with(folder: pathlib.Path, to: pathlib.Path, **arrays: np.ndarray) -> str:
    """Copies the saved predictions of the run "one" and replaces some of their arrays."""
    shutil.copytree(folder / "saved-one", to)
    saved = prediction_files.read_npz(str(to / "predictions.npz"))
    prediction_files.write_npz(str(to / "predictions.npz"), saved._replace(**arrays))
    return str(to)


def test_run_and_saved_predictions_equal_both_runs(folder, both):
    mixed = evaluate.evaluate(request(folder, "one", "saved-two"))
    np.testing.assert_allclose(mixed.predictions.probabilities, both.predictions.probabilities, atol=1e-6)
    assert mixed.content["confusion_matrix"] == both.content["confusion_matrix"]
    first, second = mixed.content["protocol"]["members"]
    assert [first, {**second, "source_eval": ""}] == [
        both.content["protocol"]["members"][0],
        {**both.content["protocol"]["members"][1], "source_eval": ""},
    ]
    assert second["source_eval"] == str(folder / "saved-two")
    assert mixed.content["parameters"] == both.content["parameters"]


def test_saved_ensemble_has_weight_of_each_of_its_networks(folder):
    three = evaluate.evaluate(request(folder, "one", "two", "three"))
    evaluation = evaluate.evaluate(request(folder, "saved-one-two", "three"))
    np.testing.assert_allclose(evaluation.predictions.probabilities, three.predictions.probabilities, atol=1e-6)
    assert [member["model"] for member in evaluation.content["protocol"]["members"]] == ["tiny"] * 3


def test_saved_predictions_alone_make_an_ensemble(folder, both, tmp_path, figures):
    evaluation = evaluate.evaluate(request(folder, "saved-one", "saved-two"))
    np.testing.assert_allclose(evaluation.predictions.probabilities, both.predictions.probabilities, atol=1e-6)
    evaluate.write(evaluation, str(tmp_path))
    assert eval_json.read_eval(str(tmp_path / "eval.json")) == evaluation.content
    assert not (tmp_path / "gradcam.png").exists()
    assert "2 model(s), 2 from saved predictions" in eval_json.summary_line(evaluation.content)
    rows = report_content.provenance_rows(evaluation.content)
    assert ("probabilities read from", str(folder / "saved-one")) in rows


def test_calibration_is_none_for_saved_predictions_on_test_split(folder, tmp_path):
    save_results(folder, tmp_path / "test", "two", split="test")
    evaluation = evaluate.evaluate(request(folder, "one", str(tmp_path / "test"), split="test"))
    assert (evaluation.content["calibration"], evaluation.content["examples"]) == (None, 7)


def test_average_adds_times_of_all_members(folder):
    one, two = (
        ensemble_members.SavedPredictions("", np.full([2, 7], share), [{}], rate)
        for share, rate in ((0.1, 300.0), (0.2, 600.0))
    )
    assert ensemble_members.average(None, 0, [one, two]).images_per_second == pytest.approx(200)
    computed = inference.Prediction(np.full([2, 7], 0.4, np.float32), 200.0)
    mean = ensemble_members.average(computed, 2, [one, two])
    assert mean.images_per_second == pytest.approx(100)
    np.testing.assert_allclose(mean.probabilities, (2 * 0.4 + 0.1 + 0.2) / 4, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        ({"tta": "flip"}, "another test-time augmentation: none, not flip"),
        ({"split": "test"}, "another split: validation, not test"),
        ({"labels": "ferplus", "data": "voted"}, "another kind of labels: fer, not ferplus"),
    ],
)
def test_saved_predictions_of_other_protocol_are_rejected(folder, options, difference):
    with pytest.raises(UserError, match=f"saved-two/eval.json is an evaluation with {difference}"):
        evaluate.evaluate(request(folder, "saved-two", "one", **options))


def test_saved_predictions_may_have_another_manifest(folder, both):
    """Uses shards of a conversion without the test split."""
    evaluation = evaluate.evaluate(request(folder, "one", "saved-two", data="untested"))
    np.testing.assert_allclose(evaluation.predictions.probabilities, both.predictions.probabilities, atol=1e-6)
    hashes = [each.content["data"]["manifest_sha256"] for each in (evaluation, both)]
    assert hashes[0] != hashes[1]


def test_saved_predictions_that_do_not_match_eval_json_are_rejected(folder, tmp_path):
    other = prediction_files.read_npz(str(folder / "saved-two" / "predictions.npz")).probabilities
    changed = copy_with(folder, tmp_path / "changed", probabilities=other)
    with pytest.raises(UserError, match=r"changed/predictions\.npz does not match the eval\.json beside it"):
        evaluate.evaluate(request(folder, changed, "one"))


def test_saved_predictions_of_other_rows_are_rejected(folder, tmp_path):
    changed = copy_with(folder, tmp_path / "changed", rows=np.arange(COUNT))
    with pytest.raises(UserError, match=r"changed/predictions\.npz has other rows or labels than .*faces"):
        evaluate.evaluate(request(folder, changed, "one"))


def test_missing_predictions_error_names_file(folder, tmp_path):
    without_predictions = shutil.copytree(folder / "saved-one", tmp_path / "results")
    (without_predictions / "predictions.npz").unlink()
    with pytest.raises(UserError, match=r"There is no .*results/predictions\.npz"):
        evaluate.evaluate(request(folder, str(without_predictions), "one"))


def test_saved_predictions_are_rejected_alone_and_with_corruptions_flag(folder):
    with pytest.raises(UserError, match="holds saved predictions and no network"):
        evaluate.evaluate(request(folder, "saved-one"))
    with pytest.raises(UserError, match=r"--robustness needs a network, and .*saved-two"):
        evaluate.evaluate(request(folder, "one", "saved-two", robustness=True))


@pytest.mark.parametrize("twice", [("one", "saved-one"), ("saved-one-two", "saved-two")])
def test_ensemble_rejects_duplicate_network_before_predicting(folder, twice, monkeypatch):
    monkeypatch.setattr(evaluate, "_predict", None)
    with pytest.raises(UserError, match=r"hold the same network \(step 12 of .*\), which would count twice"):
        evaluate.evaluate(request(folder, *twice))


def test_bundled_names_network_of_package_despite_folder_of_that_name(folder, tmp_path, monkeypatch):
    shutil.copytree(folder / "saved-one", tmp_path / "bundled")
    monkeypatch.chdir(tmp_path)
    assert not loading.holds_only_results("bundled")
    assert loading.holds_only_results("./bundled")


@pytest.mark.parametrize(
    "arrays",
    [
        {"probabilities": np.full([COUNT - 1, 7], 1 / 7, np.float32)},
        {"probabilities": np.zeros([COUNT, 7], np.float32)},
        {"labels": np.full(COUNT, 7)},
        {"labels": LABELS / 2},
    ],
    ids=["one less", "zero", "no class", "fractions"],
)
def test_invalid_saved_predictions_are_rejected(folder, tmp_path, arrays):
    changed = copy_with(folder, tmp_path / "changed", **arrays)
    reasons = "is no readable file|has no valid predictions of 7 classes|does not match"
    with pytest.raises(UserError, match=rf"changed/predictions\.npz ({reasons})"):
        evaluate.evaluate(request(folder, changed, "two"))


def test_run_folder_with_results_is_a_run(folder, tmp_path):
    both = shutil.copytree(folder / "one", tmp_path / "one")
    shutil.copy(folder / "saved-one" / "eval.json", both / "eval.json")
    assert not loading.holds_only_results(str(both))
    assert loading.holds_only_results(str(folder / "saved-one"))
