"""Tests of `fer.evaluation.evaluate` on small run folders and shards."""

import dataclasses
import json
import pathlib
import shutil

import numpy as np
import pytest
from PIL import Image

from fer.convert.audit.photo_overlap import find_photo_overlap
from fer.data import example_codec, manifest
from fer.errors import StorageError, UserError
from fer.evaluation import eval_dataset, eval_json, evaluate, inference, prediction_files
from fer.evaluation.eval_options import EvalRequest
from fer.evaluation.metrics import bootstrap, metrics, robustness
from fer.io import files
from fer.labels import CLASSES, FERPLUS_COLUMNS
from fer.models import loading
from fer.viz import gradcam
from tests.evaluation import factories

COUNT = 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    """Writes two runs, and shards: with labelled validation and unlabelled test split, with votes, with all splits."""
    folder = tmp_path_factory.mktemp("evaluation")
    factories.run(folder / "one", seed=1)
    factories.run(folder / "two", seed=2)
    labels = np.arange(COUNT) % 7
    splits = {"validation": (factories.images(COUNT), labels), "test": (factories.images(5), np.full(5, -1))}
    factories.shards(folder / "faces", splits)
    votes = np.zeros((COUNT, 10), np.int64)
    votes[:, FERPLUS_COLUMNS.index("fear")] = 6
    votes[:4] = 0  # no votes
    votes[4:7, FERPLUS_COLUMNS.index("neutral")] = 6  # a tie
    factories.shards(folder / "voted", {"validation": splits["validation"]}, {"validation": votes})
    train = np.concatenate([factories.images(3, seed=1), factories.images(COUNT)[:6]])
    whole = {"train": (train, np.arange(9) % 7), **splits, "test": (factories.images(12, seed=2), np.arange(12) % 7)}
    factories.shards(folder / "whole", whole)
    factories.shards(folder / "empty", {"validation": (factories.images(0), np.zeros(0, np.int64))})
    return folder


def request(folder: pathlib.Path, *names: str, data: str = "faces", **options) -> EvalRequest:
    return EvalRequest([str(folder / name) for name in names or ("one",)], str(folder / data), **options)


@pytest.fixture(scope="module")
def progress_calls() -> list:
    """Collects the arguments of the progress function of `plain`."""
    return []


@pytest.fixture(scope="module")
def plain(folder, progress_calls) -> evaluate.Evaluation:
    """Evaluates one run without options."""
    return evaluate.evaluate(request(folder), lambda count, total: progress_calls.append((count, total)))


def test_evaluate_metrics_are_those_of_its_predictions(plain):
    saved = plain.predictions
    probabilities = prediction_files.normalize(saved.probabilities)
    expected = metrics.compute_metrics(saved.labels, probabilities, CLASSES)
    assert {name: plain.content[name] for name in expected} == expected
    assert plain.content["bootstrap_ci95"] == bootstrap.intervals(saved.labels, probabilities)


def test_evaluate_predictions_are_in_order_of_shards(plain, folder):
    model = loading.open_run(str(folder / "one")).model
    expected = inference.predict([model], factories.images(COUNT)).probabilities
    np.testing.assert_array_equal(plain.predictions.probabilities, expected)
    np.testing.assert_array_equal(plain.predictions.rows, 1000 + np.arange(COUNT))
    np.testing.assert_array_equal(plain.predictions.labels, np.arange(COUNT) % 7)


def test_evaluate_without_train_split_or_votes_records_none(plain):
    assert plain.content["excluding_train_duplicates"] is plain.content["accuracy_by_agreement"] is None


def test_temperature_for_test_split_is_fitted_on_validation(plain, folder):
    test = evaluate.evaluate(request(folder, data="whole", split="test"))
    assert test.content["calibration"]["temperature"] == plain.content["calibration"]["temperature"]
    assert (test.content["examples"], test.content["calibration"]["examples"]) == (12, COUNT)
    assert len(test.predictions.probabilities) == 12


def test_evaluate_also_scores_excluding_train_duplicates(plain, folder):
    found = evaluate.evaluate(request(folder, data="whole")).content
    assert found["excluding_train_duplicates"]["num_duplicates"] == 6
    correct = plain.predictions.probabilities[6:].argmax(axis=1) == plain.predictions.labels[6:]
    assert found["excluding_train_duplicates"]["accuracy"] == correct.mean()


@pytest.mark.usefixtures("figures")  # the page is checked, not the pixels of its figures
def test_evaluate_scores_without_faces_of_train_photographs(folder, plain, tmp_path):
    copy = str(shutil.copytree(folder / "whole", tmp_path / "whole"))
    found_overlap = find_photo_overlap(copy)["validation"]
    assert found_overlap.rows.tolist() == [1000, 1001, 1002, 1003, 1004, 1005]  # those identical to a train face
    evaluation = evaluate.evaluate(EvalRequest([str(folder / "one")], copy))
    found = evaluation.content["excluding_train_photos"]
    assert {**found, "lookup_accuracy": None} == {
        **evaluation.content["excluding_train_duplicates"],
        "lookup_accuracy": None,
    }
    correct = plain.predictions.correct
    looked_up = np.concatenate([found_overlap.train_labels == plain.predictions.labels[:6], correct[6:]])
    assert found["lookup_accuracy"] == looked_up.mean()
    evaluate.write(evaluation, str(tmp_path / "results"))
    assert eval_json.read_eval(str(tmp_path / "results" / "eval.json"))["excluding_train_photos"] == found
    assert "Shared photographs: 6 of these faces" in (tmp_path / "results" / "report.html").read_text()


def test_evaluate_rejects_damaged_photo_overlap_before_predicting(folder, tmp_path, monkeypatch):
    copy = pathlib.Path(shutil.copytree(folder / "whole", tmp_path / "whole"))
    (copy / "photo_overlap.json").write_text("{}")
    monkeypatch.setattr(inference, "predict", None)
    with pytest.raises(UserError, match=r"photo_overlap.json is damaged: it has no 'format_version'"):
        evaluate.evaluate(EvalRequest([str(folder / "one")], str(copy)))


@pytest.mark.usefixtures("figures")  # the page is checked, not the pixels of its figures
def test_evaluate_with_labels_of_ferplus_looks_up_no_train_labels(folder, tmp_path):
    train, validation = factories.images(3, seed=1), factories.images(COUNT)
    votes = np.zeros((COUNT, 10), np.int64)
    votes[:, FERPLUS_COLUMNS.index("fear")] = 6
    splits = {
        "train": (np.concatenate([train, validation[:2]]), np.arange(5)),
        "validation": (validation, np.arange(COUNT) % 7),
    }
    shards = factories.shards(tmp_path / "shards", splits, {"train": votes[:5], "validation": votes})
    find_photo_overlap(shards)
    evaluation = evaluate.evaluate(EvalRequest([str(folder / "one")], shards, labels="ferplus"))
    found = evaluation.content["excluding_train_photos"]
    assert (found["num_duplicates"], found["lookup_accuracy"]) == (2, None)
    evaluate.write(evaluation, str(tmp_path / "results"))
    page = (tmp_path / "results" / "report.html").read_text()
    assert "Shared photographs: 2 of these faces" in page
    assert "With the labels of those images" not in page


def test_evaluate_without_photo_overlap_file_omits_its_scores(folder):
    assert "excluding_train_photos" not in evaluate.evaluate(request(folder, data="whole")).content


def test_evaluate_scores_equally_with_overlap_of_manifest(folder, tmp_path):
    expected = evaluate.evaluate(request(folder, data="whole")).content
    copy = shutil.copytree(folder / "whole", tmp_path / "whole")
    content = json.loads((copy / "manifest.json").read_text())
    content["splits"]["validation"]["train_duplicates"] = [1000, 1001, 1002, 1003, 1004, 1005]
    manifest.write_manifest(str(copy), content)
    (copy / "train-00000-of-00001.tfrecord").unlink()  # the train split is not read
    found = evaluate.evaluate(EvalRequest([str(folder / "one")], str(copy))).content
    varying = ("images_per_second", "data")
    assert {k: v for k, v in found.items() if k not in varying} == {
        k: v for k, v in expected.items() if k not in varying
    }
    assert found["data"]["examples_per_split"] == expected["data"]["examples_per_split"]


def test_progress_reports_number_of_faces(plain, progress_calls):
    assert progress_calls == [(COUNT, COUNT)]


def test_ensemble_averages_probabilities(plain, folder):
    two = evaluate.evaluate(request(folder, "two"))
    both = evaluate.evaluate(request(folder, "one", "two"))
    mean = (plain.predictions.probabilities + two.predictions.probabilities) / 2
    np.testing.assert_allclose(both.predictions.probabilities, mean, atol=1e-6)
    assert both.content["parameters"] == plain.content["parameters"] + two.content["parameters"]


def test_write_writes_all_files_and_valid_eval_json(plain, tmp_path, figures):
    paths = evaluate.write(plain, str(tmp_path / "out"))
    assert {pathlib.Path(path).name for path in paths} == {
        "eval.json",
        "predictions.npz",
        "confusion_matrix.png",
        "reliability.png",
        "roc_pr.png",
        "mistakes.png",
        "gradcam.png",
        "report.html",
        "curves.png",
    }
    assert {str(path) for path in (tmp_path / "out").iterdir()} == set(paths)
    assert eval_json.read_eval(str(tmp_path / "out" / "eval.json")) == plain.content
    read = prediction_files.read_npz(str(tmp_path / "out" / "predictions.npz"))
    np.testing.assert_array_equal(read.probabilities, plain.predictions.probabilities)


def test_draw_plots_titles_name_size_of_ensemble_and_cut_name_of_data(plain, figures):
    content = {**plain.content, "data": {**plain.content["data"], "name": "faces_without_leaked_photographs"}}
    members = 8 * content["protocol"]["members"]
    evaluate._draw_plots(
        dataclasses.replace(plain, content={**content, "protocol": {**content["protocol"], "members": members}})
    )
    title = "ensemble of 8 networks on faces_without_leaked_..., validation"
    shown = [figure.get_suptitle() or figure.axes[0].get_title() for figure in figures]
    assert [text.startswith(title) for text in shown] == [True] * 5 + [False]  # curves.png has none


def test_plots_are_png_files_of_more_than_500_pixels(evaluated_run):
    names = {"confusion_matrix", "reliability", "roc_pr", "mistakes", "gradcam", "curves"}
    assert {path.stem for path in evaluated_run.glob("*.png")} >= names
    for path in evaluated_run.glob("*.png"):
        picture = Image.open(path)
        picture.load()
        assert min(picture.size) > 500


def test_evaluation_maps_are_heatmaps_of_example_faces(plain, folder):
    model = loading.open_run(str(folder / "one")).model
    positions = sorted(plain.maps)
    pairs = gradcam.pick_examples(plain.predictions.labels, plain.predictions.probabilities)
    assert positions == sorted(position for pair in pairs for position in pair if position is not None)
    predicted = plain.predictions.probabilities[positions].argmax(axis=1)
    expected = gradcam.heatmaps(model, factories.images(COUNT)[positions], predicted)
    np.testing.assert_allclose([plain.maps[position] for position in positions], expected, atol=1e-5)


def test_corruptions_flag_adds_robustness_results(plain, folder, tmp_path, figures, monkeypatch):
    calls = []
    found = evaluate.evaluate(request(folder, robustness=True), lambda count, total: calls.append((count, total)))
    assert "corruptions" not in plain.content
    assert sum(count for count, _ in calls) == calls[-1][1] == 51 * COUNT
    kinds = found.content["corruptions"]["kinds"]
    model = loading.open_run(str(folder / "one")).model
    corrupted = robustness.corrupt(factories.images(COUNT), "jpeg", 5, seed=found.content["corruptions"]["seed"])
    predicted = inference.predict([model], corrupted).probabilities.argmax(axis=1)
    assert kinds["jpeg"]["accuracy"][4] == (predicted == np.arange(COUNT) % 7).mean()
    mean = np.mean([kind["accuracy"] for kind in kinds.values()])
    assert found.content["corruptions"]["mean_accuracy"] == pytest.approx(mean)
    written = {pathlib.Path(path).name for path in evaluate.write(found, str(tmp_path / "out"))}
    assert {"corruptions.json", "corruptions.png"} <= written
    recorded = json.loads((tmp_path / "out" / "corruptions.json").read_text())
    assert (recorded["kinds"], recorded["accuracy"]) == (kinds, plain.content["accuracy"])
    always = dict.fromkeys(("confusion_matrix.png", "reliability.png", "roc_pr.png", "mistakes.png"), b"")
    monkeypatch.setattr(evaluate, "_draw_plots", lambda plain: always | ({"curves.png": b""} if plain.history else {}))
    written = {pathlib.Path(path).name for path in evaluate.write(plain, str(tmp_path / "out"))}
    assert {
        path.name for path in (tmp_path / "out").iterdir()
    } == written  # optional files of the earlier evaluation are removed
    evaluate.write(dataclasses.replace(plain, history=[]), str(tmp_path / "out"))  # as for an ensemble
    assert {path.name for path in (tmp_path / "out").iterdir()} == written - {"curves.png"}


def test_write_error_names_unwritable_path(plain, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "_draw_plots", lambda _: {})  # other tests check the plots
    (tmp_path / "file").write_text("")
    eval_json.write_eval(str(tmp_path / "old" / "eval.json"), {**plain.content, "images_per_second": 1.0})
    before = (tmp_path / "old" / "eval.json").read_bytes()
    (tmp_path / "old" / "predictions.npz").mkdir()
    with pytest.raises(UserError, match=r"Cannot write .*old/predictions\.npz"):
        evaluate.write(plain, str(tmp_path / "old"))
    assert (tmp_path / "old" / "eval.json").read_bytes() == before
    with pytest.raises(UserError, match=r"Cannot write .*file/out"):
        evaluate.write(plain, str(tmp_path / "file" / "out"))


@pytest.mark.parametrize("error", [KeyboardInterrupt, StorageError("Cannot write eval.json: No space left.")])
def test_write_replaces_all_files_or_none(plain, tmp_path, monkeypatch, error):
    monkeypatch.setattr(evaluate, "_draw_plots", lambda _: {"roc_pr.png": b"new"})  # other tests check the plots
    evaluate.write(plain, str(tmp_path))
    for name in ("predictions.npz", "report.html", "roc_pr.png", "gradcam.png", "corruptions.json"):
        (tmp_path / name).write_text("old")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def raise_error(path, content):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(eval_json, "write_eval", raise_error)
        with pytest.raises(type(error) if isinstance(error, Exception) else error):
            evaluate.write(plain, str(tmp_path))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    written = evaluate.write(plain, str(tmp_path))
    assert {str(path) for path in tmp_path.iterdir()} == set(written)  # optional files of the first one are removed
    assert b"old" not in {path.read_bytes() for path in tmp_path.iterdir()}


def test_write_replaces_files_in_a_store(plain, tmp_path, monkeypatch):
    output = f"memory://{tmp_path.name}/results"
    monkeypatch.setattr(evaluate, "_draw_plots", lambda _: {"roc_pr.png": b"new"})
    for name in ("roc_pr.png", "gradcam.png"):
        files.write_text(f"{output}/{name}", "old")
    written = evaluate.write(plain, output)
    assert sorted(files.listdir(output)) == ["eval.json", "predictions.npz", "report.html", "roc_pr.png"]
    assert files.read_bytes(f"{output}/roc_pr.png", "") == b"new"
    assert sorted(written) == [f"{output}/{name}" for name in sorted(files.listdir(output))]


def test_ferplus_labels_exclude_examples_without_majority(folder):
    found = evaluate.evaluate(request(folder, data="voted", labels="ferplus"))
    assert found.predictions.labels.tolist() == [2] * (COUNT - 7)
    assert [entry["votes"] for entry in found.content["accuracy_by_agreement"]] == [6]
    assert found.predictions.rows.tolist() == list(range(1007, 1000 + COUNT))
    assert (found.content["examples"], found.content["protocol"]["num_unlabelled"]) == (COUNT - 7, 7)


def test_ferplus_labels_error_names_conversion_flag(folder):
    with pytest.raises(UserError, match=r"no FER\+ votes\. Convert the data with --ferplus"):
        evaluate.evaluate(request(folder, labels="ferplus"))


def test_unlabelled_split_error_names_predict_script(folder):
    with pytest.raises(UserError, match=r"test of .* has no labels\. Use scripts/predict\.py"):
        evaluate.evaluate(request(folder, split="test"))


def test_eval_dataset_excludes_unlabelled_examples(folder, monkeypatch):
    whole, labels = example_codec.read_split, np.arange(COUNT) % 7
    labels[:3] = -1
    monkeypatch.setattr(example_codec, "read_split", lambda *where: dataclasses.replace(whole(*where), labels=labels))
    dataset = eval_dataset.read(manifest.read_manifest(str(folder / "faces")), "validation", "fer")
    assert (dataset.num_unlabelled, dataset.rows.tolist()) == (3, list(range(1003, 1000 + COUNT)))


def test_evaluate_rejects_empty_split(folder):
    with pytest.raises(UserError, match="has 0 examples"):
        evaluate.evaluate(request(folder, data="empty"))


def test_evaluate_error_names_missing_folder(folder):
    with pytest.raises(UserError, match="nowhere"):
        evaluate.evaluate(request(folder, data="nowhere"))


def test_evaluate_error_names_truncated_shard(folder, tmp_path):
    cut = pathlib.Path(shutil.copytree(folder / "faces", tmp_path / "faces"))
    shard = cut / "validation-00000-of-00001.tfrecord"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"validation-00000-of-00001\.tfrecord"):
        evaluate.evaluate(EvalRequest([str(folder / "one")], str(cut)))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "runs/one"),
        ({"split": "test"}, "runs/one/eval-test"),
        ({"tta": "flip"}, "runs/one/eval-validation-flip"),
        ({"split": "test", "tta": "tencrop", "labels": "ferplus"}, "runs/one/eval-test-tencrop-ferplus"),
    ],
)
def test_default_output_depends_on_protocol(options, expected):
    assert EvalRequest(["runs/one"], "data", **options).default_output() == expected


@pytest.mark.parametrize("names", [("two",), ("one", "two"), ("bundled",)])
@pytest.mark.parametrize("missing", ["best.json", "checkpoints"])
def test_check_output_rejects_directory_of_another_run(folder, tmp_path, names, missing):
    output = shutil.copytree(folder / "one", tmp_path / "bundled")
    (output / missing).rename(tmp_path / missing)
    names = tuple(name if name == "bundled" else str(folder / name) for name in names)
    with pytest.raises(UserError, match=rf"^--output={output} is the directory of another run, whose results would be"):
        EvalRequest(names, "faces").check_output(str(output))


def test_check_output_rejects_member_of_ensemble(folder):
    with pytest.raises(UserError, match="one is the directory of another run"):
        request(folder, "one", "two").check_output(str(folder / "one"))


def test_check_output_rejects_run_in_a_store(folder, tmp_path):
    output = f"memory://{tmp_path.name}/run"
    files.write_text(f"{output}/best.json", "{}")
    with pytest.raises(UserError, match="run is the directory of another run"):
        request(folder).check_output(output)
    EvalRequest([output], "faces").check_output(f"{output}/")


def test_check_output_accepts_evaluated_run_and_its_folders(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder / "one")
    for output in (folder / "one", tmp_path / "link", folder / "one" / "eval-test", tmp_path / "new"):
        request(folder).check_output(f"{output}/")


def test_default_output_requires_flag_for_ensemble():
    with pytest.raises(UserError, match="--output is missing"):
        EvalRequest(["runs/one", "runs/two"], "data").default_output()


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> pathlib.Path:
    """Writes a run and shards with two classes, and shards with the same ones in another order."""
    folder = tmp_path_factory.mktemp("own")
    factories.run(folder / "run", seed=1, classes=("bored <b>", "happy"))
    splits = {"validation": (factories.images(COUNT), np.arange(COUNT) % 2)}
    factories.shards(folder / "faces", splits, classes=("bored <b>", "happy"))
    factories.shards(folder / "swapped", splits, classes=("happy", "bored <b>"))
    return folder


@pytest.mark.usefixtures("figures")  # the page is checked, not the pixels of its figures
def test_evaluate_takes_two_classes_of_the_data(own, tmp_path):
    found = evaluate.evaluate(request(own, "run"))
    assert found.content["classes"] == ["bored <b>", "happy"]
    assert found.predictions.probabilities.shape == (COUNT, 2)
    assert None not in [score for scores in found.content["per_class"].values() for score in scores.values()]
    paths = evaluate.write(found, str(tmp_path / "out"))
    page = (tmp_path / "out" / "report.html").read_text()
    assert "bored &lt;b&gt;, predicted happy" in page
    assert "mean F1 of the two classes" in page
    assert "0.693 = uniform guessing" in page
    assert "FER-2013" not in page
    assert {pathlib.Path(path).name for path in paths} >= {"eval.json", "gradcam.png", "confusion_matrix.png"}


@pytest.mark.parametrize(
    ("run", "data", "message"),
    [
        ("run", "swapped", "their order differs; convert the data again with --classes=bored <b>,happy"),
        ("bundled", "faces", "angry, disgust, .* has bored <b>, happy: both must have the same classes"),
    ],
)
def test_evaluate_rejects_data_with_other_classes(own, run, data, message):
    with pytest.raises(UserError, match=f"{message}.$"):
        evaluate.evaluate(EvalRequest([run if run == "bundled" else str(own / run)], str(own / data)))


def test_evaluate_rejects_ferplus_majorities_of_own_classes(own):
    with pytest.raises(
        UserError, match=r"needs the classes of FER-2013, and .* has bored <b>, happy. Use --labels=fer"
    ):
        evaluate.evaluate(request(own, "run", labels="ferplus"))


@pytest.mark.usefixtures("figures")  # the predictions are read
def test_evaluate_rejects_saved_predictions_of_other_classes(own, folder, plain, tmp_path):
    evaluate.write(plain, str(tmp_path / "saved"))
    wanted = EvalRequest([str(tmp_path / "saved"), str(own / "run")], str(own / "faces"))
    with pytest.raises(
        UserError, match=r"eval.json has the classes angry, .* has bored <b>, happy: both must have the"
    ):
        evaluate.evaluate(wanted)
