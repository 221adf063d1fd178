"""Earlier evaluations as members of an ensemble."""

import pathlib
import shutil

import numpy as np
import pytest

from fer.errors import UserError
from fer.evaluation import eval_json, evaluate, inference, predictions, saved_predictions
from fer.evaluation.report import report_text
from fer.evaluation.requests import EvalRequest
from fer.models import loading
from tests.evaluation import factories

COUNT = 20
LABELS = np.arange(COUNT) % 7


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    """Three runs, shards, and the results of each run and of two together, which hold no network."""
    folder = tmp_path_factory.mktemp("kept")
    for seed, name in enumerate(("one", "two", "three")):
        factories.run(folder / name, seed)
    splits = {"validation": (factories.images(COUNT), LABELS), "test": (factories.images(7, seed=1), np.arange(7))}
    factories.shards(folder / "faces", splits)
    votes = np.zeros((COUNT, 10), np.int64)
    votes[:, 0] = 6
    factories.shards(folder / "voted", {"validation": splits["validation"]}, {"validation": votes})
    factories.shards(folder / "untested", {"validation": splits["validation"]})
    for names in (["one"], ["two"], ["one", "two"]):
        results(folder, folder / ("said-by-" + "-".join(names)), *names)
    return folder


def request(folder: pathlib.Path, *names: str, data: str = "faces", **options) -> EvalRequest:
    return EvalRequest([str(folder / name) for name in names], str(folder / data), **options)


def results(folder: pathlib.Path, output: pathlib.Path, *names: str, **options) -> None:
    """What evaluation keeps of the figures, without the pictures."""
    found = evaluate.evaluate(request(folder, *names, **options))
    predictions.write_npz(str(output / "predictions.npz"), found.predictions)
    eval_json.write_eval(str(output / "eval.json"), found.content)


@pytest.fixture(scope="module")
def both(folder) -> evaluate.Evaluation:
    """Both networks, evaluated together."""
    return evaluate.evaluate(request(folder, "one", "two"))


def copied(folder: pathlib.Path, to: pathlib.Path, **arrays: np.ndarray) -> str:
    """The results of the run "one", with some arrays of its predictions replaced."""
    shutil.copytree(folder / "said-by-one", to)
    said = predictions.read_npz(str(to / "predictions.npz"))
    predictions.write_npz(str(to / "predictions.npz"), said._replace(**arrays))
    return str(to)


def test_ensemble_of_run_and_saved_predictions_equals_ensemble_of_runs(folder, both):
    half = evaluate.evaluate(request(folder, "one", "said-by-two"))
    np.testing.assert_allclose(half.predictions.probabilities, both.predictions.probabilities, atol=1e-6)
    assert half.content["confusion_matrix"] == both.content["confusion_matrix"]
    first, second = half.content["protocol"]["members"]
    assert [first, {**second, "kept": ""}] == [
        both.content["protocol"]["members"][0],
        {**both.content["protocol"]["members"][1], "kept": ""},
    ]
    assert second["kept"] == str(folder / "said-by-two")
    assert half.content["parameters"] == both.content["parameters"]


def test_saved_ensemble_counts_with_each_of_its_networks(folder):
    three = evaluate.evaluate(request(folder, "one", "two", "three"))
    found = evaluate.evaluate(request(folder, "said-by-one-two", "three"))
    np.testing.assert_allclose(found.predictions.probabilities, three.predictions.probabilities, atol=1e-6)
    assert [member["model"] for member in found.content["protocol"]["members"]] == ["tiny"] * 3


def test_kept_results_alone_make_an_ensemble_without_any_network(folder, both, tmp_path, figures):
    found = evaluate.evaluate(request(folder, "said-by-one", "said-by-two"))
    np.testing.assert_allclose(found.predictions.probabilities, both.predictions.probabilities, atol=1e-6)
    evaluate.write(found, str(tmp_path))
    assert eval_json.read_eval(str(tmp_path / "eval.json")) == found.content
    assert not (tmp_path / "gradcam.png").exists()
    assert "2 model(s), 2 of them as evaluated earlier" in eval_json.summary_line(found.content)
    rows = report_text.provenance_rows(found.content)
    assert ("its probabilities, from the evaluation in", str(folder / "said-by-one")) in rows


def test_saved_predictions_of_test_split_have_no_temperature(folder, tmp_path):
    results(folder, tmp_path / "test", "two", split="test")
    found = evaluate.evaluate(request(folder, "one", str(tmp_path / "test"), split="test"))
    assert (found.content["calibration"], found.content["examples"]) == (None, 7)


def test_average_adds_times_of_all_members(folder):
    one, two = (
        saved_predictions.SavedPredictions("", np.full([2, 7], share), [{}], rate)
        for share, rate in ((0.1, 300.0), (0.2, 600.0))
    )
    assert saved_predictions.average(None, 0, [one, two]).images_per_second == pytest.approx(200)
    fresh = inference.Prediction(np.full([2, 7], 0.4, np.float32), 200.0)
    mean = saved_predictions.average(fresh, 2, [one, two])
    assert mean.images_per_second == pytest.approx(100)
    np.testing.assert_allclose(mean.probabilities, (2 * 0.4 + 0.1 + 0.2) / 4, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"tta": "flip"}, "another test-time augmentation: none, not flip"),
        ({"split": "test"}, "another split: validation, not test"),
        ({"labels": "ferplus", "data": "voted"}, "another kind of labels: fer, not ferplus"),
    ],
)
def test_saved_predictions_of_another_kind_of_evaluation_are_rejected(folder, options, named):
    with pytest.raises(UserError, match=f"said-by-two/eval.json is an evaluation with {named}"):
        evaluate.evaluate(request(folder, "said-by-two", "one", **options))


def test_saved_predictions_of_same_faces_under_another_manifest_are_accepted(folder, both):
    """As those of a conversion without the test split are."""
    found = evaluate.evaluate(request(folder, "one", "said-by-two", data="untested"))
    np.testing.assert_allclose(found.predictions.probabilities, both.predictions.probabilities, atol=1e-6)
    hashes = [evaluation.content["data"]["manifest_sha256"] for evaluation in (found, both)]
    assert hashes[0] != hashes[1]


def test_saved_predictions_that_do_not_match_eval_json_are_rejected(folder, tmp_path):
    other = predictions.read_npz(str(folder / "said-by-two" / "predictions.npz")).probabilities
    changed = copied(folder, tmp_path / "changed", probabilities=other)
    with pytest.raises(UserError, match=r"changed/predictions\.npz is not what the eval\.json beside it was made of"):
        evaluate.evaluate(request(folder, changed, "one"))


def test_saved_predictions_of_other_rows_are_rejected(folder, tmp_path):
    changed = copied(folder, tmp_path / "changed", rows=np.arange(COUNT))
    with pytest.raises(UserError, match=r"changed/predictions\.npz is of other rows or labels than .*faces"):
        evaluate.evaluate(request(folder, changed, "one"))


def test_saved_predictions_without_npz_are_rejected(folder, tmp_path):
    results_alone = shutil.copytree(folder / "said-by-one", tmp_path / "results")
    (results_alone / "predictions.npz").unlink()
    with pytest.raises(UserError, match=r"There is no .*results/predictions\.npz"):
        evaluate.evaluate(request(folder, str(results_alone), "one"))


def test_kept_results_cannot_be_evaluated_alone_or_on_other_faces(folder):
    with pytest.raises(UserError, match="holds results of a run, not the run"):
        evaluate.evaluate(request(folder, "said-by-one"))
    with pytest.raises(UserError, match=r"--corruptions needs the network itself, and .*said-by-two"):
        evaluate.evaluate(request(folder, "one", "said-by-two", corruptions=True))


@pytest.mark.parametrize("twice", [("one", "said-by-one"), ("said-by-one-two", "said-by-two")])
def test_evaluate_reports_network_that_is_counted_twice(folder, twice):
    with pytest.raises(UserError, match=r"hold the same network \(step 12 of .*\), which would weigh double"):
        evaluate.evaluate(request(folder, *twice))


def test_folder_named_bundled_does_not_hide_the_bundled_network(folder, tmp_path, monkeypatch):
    shutil.copytree(folder / "said-by-one", tmp_path / "bundled")
    monkeypatch.chdir(tmp_path)
    assert not loading.is_kept("bundled")
    assert loading.is_kept("./bundled")


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
def test_saved_predictions_error_names_folder_without_predictions(folder, tmp_path, arrays):
    changed = copied(folder, tmp_path / "changed", **arrays)
    with pytest.raises(
        UserError,
        match=r"changed/predictions\.npz (is no readable file|holds no predictions of seven classes|is not what)",
    ):
        evaluate.evaluate(request(folder, changed, "two"))


def test_run_folder_that_holds_results_is_opened_as_a_run(folder, tmp_path):
    both = shutil.copytree(folder / "one", tmp_path / "one")
    shutil.copy(folder / "said-by-one" / "eval.json", both / "eval.json")
    assert not loading.is_kept(str(both))
    assert loading.is_kept(str(folder / "said-by-one"))
