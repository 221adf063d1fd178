"""Tests of comparisons: names, paired tests, plot and page."""

import functools
import itertools
import json
import pathlib
import shutil
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from fer.compare import comparison, comparison_report
from fer.errors import UserError
from fer.evaluation import eval_json, prediction_files
from fer.evaluation.metrics import metrics, significance
from fer.labels import CLASSES
from fer.viz import comparison_plot
from tests import browser
from tests.evaluation import factories
from tests.evaluation.test_eval_json import build

COUNT = 100
LABELS = np.arange(COUNT) % 7
PRIVATE = np.repeat(np.arange(7), [491, 55, 528, 879, 594, 416, 626])


def evaluated(folder: pathlib.Path, wrong: range, rows: int = 0, labels: np.ndarray = LABELS, **fields) -> str:
    """Writes an eval.json and its predictions, which are wrong at the positions `wrong`."""
    count = len(labels)
    probabilities, figures = scored(wrong, tuple(labels))
    content = {**build(), **figures, "examples": count, **fields}
    saved = prediction_files.Predictions(labels, probabilities.astype(np.float32), np.arange(count) + rows)
    prediction_files.write_npz(str(folder / "predictions.npz"), saved)
    eval_json.write_eval(str(folder / "eval.json"), content)
    return str(folder / "eval.json")


@functools.cache
def scored(wrong: range, labels: tuple) -> tuple[np.ndarray, dict]:
    """Returns probabilities that are wrong at the positions `wrong`, and their metrics."""
    predicted = np.array(labels)
    predicted[list(wrong)] = (predicted[list(wrong)] + 1) % 7
    probabilities = np.full((len(labels), 7), 0.05) + 0.65 * np.eye(7)[predicted]
    return probabilities, metrics.compute_metrics(np.array(labels), probabilities, CLASSES)


@pytest.fixture(scope="module")
def templates(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("comparison")
    evaluated(folder / "good", range(10))
    evaluated(folder / "bad", range(5, 35))
    return folder


@pytest.fixture
def two(templates, tmp_path) -> list:
    shutil.copytree(templates, tmp_path, dirs_exist_ok=True)
    return [str(tmp_path / name / "eval.json") for name in ("good", "bad")]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"split": "test"}, "has the split test, and --baselines would measure validation: choose --split=test"),
        ({"data": {"name": "b"}}, "has the data b, and --baselines would measure faces: name the shards of the"),
        ({"protocol": {"labels": "ferplus"}}, "has the labels ferplus, and .* measure fer: leave --baselines out"),
    ],
)
def test_check_baselines_rejects_evaluations_of_other_faces(tmp_path, fields, message):
    data = factories.shards(tmp_path / "faces", {"validation": (factories.images(7), np.arange(7))})
    same = {"split": "validation", "data": {**build()["data"], "name": "faces"}}
    same |= {"protocol": {**build()["protocol"], "labels": "fer"}}
    other = {name: {**same[name], **value} if isinstance(value, dict) else value for name, value in fields.items()}
    paths = [
        evaluated(tmp_path / "other", range(3), **{**same, **other}),
        evaluated(tmp_path / "same", range(3), **same),
    ]
    with pytest.raises(UserError, match=f"^{paths[0]} {message}"):
        comparison.check_baselines(paths[:1], data, "validation")
    comparison.check_baselines(paths, data, "validation")  # one of them can be tested


def test_runs_come_by_falling_accuracy(two):
    runs = comparison.compare(two[::-1])["runs"]
    assert [run["accuracy"] for run in runs] == [0.9, 0.7]
    assert [run["source"] for run in runs] == two


def test_pair_test_counts_examples_that_only_one_classifies_correctly(two):
    (pair,) = comparison.compare(two)["pairs"]
    assert (pair["only_first"], pair["only_second"]) == (25, 5)
    assert pair["sentence"].startswith("good is better than bad: ")


def test_pair_test_reports_small_difference_as_chance(tmp_path):
    paths = [evaluated(tmp_path / "a", range(10)), evaluated(tmp_path / "b", range(5, 16))]
    (pair,) = comparison.compare(paths)["pairs"]
    assert pair["p"] > 0.9
    assert pair["sentence"].startswith("a and b do not differ significantly: ")


def test_pair_tests_are_corrected_for_multiple_comparisons(tmp_path):
    wrong = (range(5), range(10, 25), range(40, 80))
    paths = [evaluated(tmp_path / str(index), faces) for index, faces in enumerate(wrong)]
    pairs = comparison.compare(paths)["pairs"]
    assert len(pairs) == 3
    alone = [pair["p"] for pair in pairs]
    assert [pair["p_corrected"] for pair in pairs] == significance.holm(alone)
    assert max(corrected / p for corrected, p in zip(significance.holm(alone), alone)) == pytest.approx(3)
    assert all("Holm's correction for 3 comparisons" in pair["sentence"] for pair in pairs)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"split": "test"}, "different splits"),
        ({"data": {"name": "other", "manifest_sha256": "c" * 64, "examples_per_split": {}}}, "different data"),
        ({"protocol": {**build()["protocol"], "labels": "fer"}}, "different labels"),
        ({"rows": 1}, "different examples"),
    ],
    ids=["split", "data", "labels", "rows"],
)
def test_runs_on_other_examples_are_not_tested_against_each_other(tmp_path, fields, reason):
    paths = [evaluated(tmp_path / "a", range(10)), evaluated(tmp_path / "b", range(20), **fields)]
    (pair,) = comparison.compare(paths)["pairs"]
    assert reason in pair["not_compared"]
    assert "p" not in pair


def test_compare_accepts_same_examples_under_another_manifest(tmp_path):
    other = {**build()["data"], "manifest_sha256": "c" * 64}
    paths = [evaluated(tmp_path / "a", range(10)), evaluated(tmp_path / "b", range(20), data=other)]
    (pair,) = comparison.compare(paths)["pairs"]
    assert pair["not_compared"] is None
    assert (pair["only_first"], pair["only_second"]) == (10, 0)


def test_compare_lists_runs_without_predictions(two, tmp_path):
    (tmp_path / "bad" / "predictions.npz").unlink()
    found = comparison.compare(two)
    assert len(found["runs"]) == 2
    assert "no predictions.npz beside" in found["pairs"][0]["not_compared"]


def test_compare_rejects_predictions_of_another_evaluation(two, tmp_path):
    shutil.copy(tmp_path / "good" / "predictions.npz", tmp_path / "bad" / "predictions.npz")
    with pytest.raises(UserError, match=r"bad/predictions\.npz does not match the eval\.json beside it"):
        comparison.compare(two)


@pytest.mark.parametrize("name", ["good/./eval.json", "linked/eval.json", "absolute"])
def test_compare_rejects_file_named_twice(two, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "linked").symlink_to(tmp_path / "good")
    with pytest.raises(UserError, match="names a file twice"):
        comparison.compare(["good/eval.json", two[0] if name == "absolute" else name])


def test_compare_error_names_missing_file(two):
    with pytest.raises(UserError, match=r"nowhere/eval\.json"):
        comparison.compare([*two, "nowhere/eval.json"])


def test_validation_score_is_not_comparable_with_published_scores(two):
    run = comparison.compare(two)["runs"][0]
    assert not run["comparable"]
    assert "; a split of this name, from other shards, selected the checkpoint" in run["remark"]


def test_score_on_the_selection_split_states_that(tmp_path):
    members = build()["protocol"]["members"]
    data = {**build()["data"], "manifest_sha256": members[0]["trained_on"]["manifest_sha256"]}
    run = comparison.compare([evaluated(tmp_path, range(10), data=data)])["runs"][0]
    assert "; the split that selected the checkpoint" in run["remark"]


def on_test(folder: pathlib.Path, labels: np.ndarray, **learned_from: Any) -> dict:
    """The run of a plain score on a split named test, trained as `learned_from` says."""
    protocol = {**build()["protocol"], "labels": "fer"}
    protocol["members"][0]["learned_from"].update(learned_from)
    path = evaluated(folder, range(10), labels=labels, split="test", protocol=protocol)
    return comparison.compare([path])["runs"][0]


def test_private_test_score_is_comparable(tmp_path):
    run = on_test(tmp_path, PRIVATE)
    assert run["comparable"]
    assert run["extra_data"] is False


@pytest.mark.parametrize("averaged", [False, True])
def test_score_of_network_trained_on_other_data_is_not_comparable(tmp_path, averaged):
    protocol = {**build()["protocol"], "labels": "fer"}
    member = protocol["members"][0]
    other = {"name": "fer2013+rafdb", "manifest_sha256": 64 * "7"}
    if averaged:
        member["learned_from"]["averaged"] = [{**make_initial_run(), "trained_on": other}]
    else:
        member["trained_on"] = other
    path = evaluated(tmp_path, range(10), labels=PRIVATE, split="test", protocol=protocol)
    run = comparison.compare([path])["runs"][0]
    assert not run["comparable"]
    assert run["extra_data"] is True
    assert "fer2013+rafdb may hold other faces" in run["remark"]


def test_remark_for_ferplus_labels_does_not_name_another_split(tmp_path):
    protocol = {**build()["protocol"], "labels": "ferplus"}
    path = evaluated(tmp_path, range(10), labels=LABELS, split="test", protocol=protocol)
    run = comparison.compare([path])["runs"][0]
    assert not run["comparable"]
    assert run["remark"].startswith("evaluated against FER+ majorities; ")


def test_score_on_another_test_split_is_not_comparable(tmp_path):
    run = on_test(tmp_path, LABELS)
    assert not run["comparable"]
    assert run["remark"].startswith("a test split that is not FER-2013's PrivateTest")


def make_initial_run(initial_weights: str = "none", data: str = "") -> dict:
    """Makes the record of an initial run on the data of the run, or on those whose hash consists of `data`."""
    trained_on = build()["protocol"]["members"][0]["trained_on"]
    return {
        "run": "runs/b",
        "weights_sha256": 64 * "a",
        "config_sha256": 64 * "b",
        "step": 1,
        "trained_on": {**trained_on, **({"manifest_sha256": 64 * data} if data else {})},
        "learned_from": {"weights": initial_weights, "label_source": "posterior", "teacher_runs": ""},
    }


@pytest.mark.parametrize(
    ("learned_from", "comparable", "remark"),
    [
        ({"weights": "weights/faces.npz"}, False, "faces.npz may be trained on other faces; trained on"),
        ({"teacher_runs": "runs/a"}, False, "runs/a may be trained on other faces"),
        ({"weights": "imagenet"}, True, "trained on"),
        ({"label_source": "posterior"}, True, "with FER+ votes"),
        ({"init_from": make_initial_run()}, True, "with FER+ votes"),
        ({"init_from": make_initial_run("faces.npz")}, False, "faces.npz may be trained on other faces; trained on"),
        ({"init_from": make_initial_run(data="1")}, False, "runs/b may be trained on other faces; trained on"),
    ],
    ids=["weights", "teacher", "imagenet", "votes", "initial run", "its weights", "its data"],
)
def test_compare_reports_additional_training_sources(tmp_path, learned_from, comparable, remark):
    run = on_test(tmp_path, PRIVATE, **learned_from)
    assert run["comparable"] == comparable
    assert remark in run["remark"]
    assert (" | possible | " in comparison_report.build_markdown(comparison.compare([run["source"]]))) is not comparable


def test_compare_accepts_older_evaluation_without_training_sources(tmp_path):
    protocol = build()["protocol"]
    del protocol["members"][0]["learned_from"]
    run = comparison.compare([evaluated(tmp_path, range(10), protocol=protocol)])["runs"][0]
    assert run["extra_data"] is None


@pytest.mark.parametrize(("labels", "comparable"), [(PRIVATE, True), (LABELS, False)], ids=["PrivateTest", "other"])
def test_baseline_is_comparable_on_private_test_only(labels, comparable):
    kept = prediction_files.Predictions(labels, np.eye(7, dtype=np.float32)[labels], np.arange(len(labels)))
    baseline = SimpleNamespace(method="a baseline", source="https://a")
    data = {"name": "fer2013"}
    measured = SimpleNamespace(
        baseline=baseline, predictions=kept, split="test", data=data, images_per_second=1.0, parameters=1, failure=""
    )
    assert comparison.compare([], [measured])["baselines"][0]["comparable"] == comparable


def test_published_results_state_protocol_and_source():
    fields = {"method", "accuracy", "split", "examples", "selected_on", "tta", "members", "parameters"}
    fields |= {"extra_data", "year", "comparable", "remark", "source", "accuracy_ci95"}
    for result in comparison.read_published():
        assert set(result) == fields
        assert 0.5 < result["accuracy"] < 0.9
        assert result["source"]
        assert result["comparable"] or result["remark"]


def test_published_result_outside_the_protocol_is_not_comparable():
    for result in comparison.read_published():
        if result["selected_on"] == "PrivateTest" or result["split"] != "PrivateTest" or result["extra_data"]:
            assert not result["comparable"], result["method"]


def test_published_intervals_are_those_of_the_test_split():
    inception = next(one for one in comparison.read_published() if one["method"].startswith("Inception-v3"))
    assert inception["accuracy_ci95"] == pytest.approx([0.7124, 0.7415], abs=2e-4)


def test_compare_writes_all_files_with_every_result(two, tmp_path, figures):
    found = comparison.compare(two)
    paths = comparison_report.write(found, str(tmp_path / "out"))
    assert {str(path) for path in (tmp_path / "out").iterdir()} == set(paths)
    assert json.loads((tmp_path / "out" / "comparison.json").read_text()) == found
    text, page = ((tmp_path / "out" / f"comparison.{kind}").read_text() for kind in ("md", "html"))
    rows = len(found["runs"]) + len(found["published"]) + len(found["pairs"])
    assert text.count("\n| ") - 2 == page.count("<tr") == rows + 2  # with the heads of two tables
    for result in found["published"]:
        assert result["method"] in text
    assert "| good | bad | 25 | 5 | " in text
    assert "| good is better |" in text


def test_page_needs_no_network(two):
    page = comparison_report.build_page(comparison.compare(two), b"picture")
    assert 'src="data:image/png;base64,' in page
    assert "<link" not in page
    assert "<script" not in page


def test_names_cannot_break_the_page_or_the_table(tmp_path):
    folder = tmp_path / "a|b <i>"
    folder.mkdir()
    found = comparison.compare([evaluated(folder, range(3))])
    assert "<i>" not in comparison_report.build_page(found, b"")
    table = [line for line in comparison_report.build_markdown(found).splitlines() if "a\\|b" in line]
    assert table[0].replace("\\|", "").count("|") == len(comparison_report.HEADER) + 1


def test_names_cannot_break_the_plot(tmp_path):
    folder = tmp_path / "$a_{$"  # which would be mathematics to matplotlib
    folder.mkdir()
    found = comparison.compare([evaluated(folder, range(3))])
    assert comparison_plot.accuracy_by_parameters(found["runs"], [], []).startswith(b"\x89PNG")


def test_names_in_the_plot_keep_their_order_and_their_distance():
    values = [0.7, 0.701, 0.7005, 0.9, 0.2, 0.9]
    moved = comparison_plot._spread(values, 0.01)
    assert np.diff(np.sort(moved)).min() >= 0.01 - 1e-9
    assert np.argsort(moved, kind="stable").tolist() == np.argsort(values, kind="stable").tolist()
    assert moved[4] == 0.2


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["runs/a/eval-test/eval.json", "runs/a/eval-test-flip/eval.json"], ["a", "a, flip"]),
        (["runs/a/eval-validation-flip-ferplus/eval.json"], ["a, flip, ferplus"]),
        (["runs/a/eval-test/eval.json", "ensembles/a/eval-test/eval.json"], ["runs/a", "ensembles/a"]),
        (["x/a/eval.json", "y/x/a/eval.json"], ["x/a", "y/x/a"]),
        (
            ["a/eval-test/eval.json", "a/eval-validation/eval.json"],
            ["a/eval-test/eval.json", "a/eval-validation/eval.json"],
        ),
        (["eval.json", "eval-test/eval.json"], ["eval.json", "eval-test"]),
        (["s3://bucket/a/eval-test/eval.json"], ["a"]),
    ],
)
def test_short_names_are_the_shortest_that_differ(paths, names):
    assert comparison.short_names(paths) == names


def run(accuracy: float, **fields) -> dict:
    shown = {"method": f"run {accuracy}", "accuracy_ci95": [accuracy - 0.015, accuracy + 0.015], "comparable": False}
    return {**shown, "accuracy": accuracy, "members": 1, "tta": "none", "bundled": False, "parameters": 10**6, **fields}


SEVEN = [
    run(0.74, members=3, tta="flip"),
    run(0.738, members=3, tta="flip"),
    run(0.73, tta="flip"),
    run(0.725),
    run(0.72),
    run(0.71, bundled=True),
    run(0.69, parameters=10**5),
]


def test_headline_runs_are_five_that_differ_in_kind():
    chosen = comparison_plot.headline_runs(SEVEN)
    assert [each["accuracy"] for each in chosen] == [0.74, 0.73, 0.725, 0.71, 0.69]


def test_headline_runs_are_all_when_there_are_few():
    assert comparison_plot.headline_runs(SEVEN[:3]) == SEVEN[:3]


def test_headline_runs_of_one_kind_are_the_most_accurate():
    runs = [run(accuracy) for accuracy in (0.73, 0.73, 0.72, 0.71, 0.7, 0.69)]
    assert [each["accuracy"] for each in comparison_plot.headline_runs(runs)] == [0.73, 0.73, 0.72, 0.71, 0.7]


def drawn(figures, runs) -> list:
    """Draws runs and the published results, and returns the axes."""
    comparison_plot.accuracy_by_parameters(runs, [], comparison.read_published())
    return figures[-1].axes


def test_names_in_the_plot_do_not_overlap(figures):
    axes = drawn(figures, SEVEN)
    figure = figures[-1]
    FigureCanvasAgg(figure).draw()
    boxes = [Text.get_window_extent(text) for one in axes for text in one.texts]  # without the lines to the points
    assert len(boxes) == 5 + len(comparison.read_published())
    for first, second in itertools.combinations(boxes, 2):
        assert not first.overlaps(second)
    for one in axes:
        for text in one.texts:  # beside the axes, inside the picture
            box = Text.get_window_extent(text)
            assert one.get_window_extent().x1 < box.x0
            assert box.x1 <= figure.bbox.x1


def test_axes_of_the_plot_end_where_the_data_do(figures):
    left, _ = drawn(figures, SEVEN)
    published = comparison.read_published()
    ends = [bound for each in [*SEVEN, *published] for bound in each["accuracy_ci95"] or [each["accuracy"]]]
    assert left.get_ylim() == pytest.approx((min(ends) - 0.005, max(ends) + 0.005))
    sizes = [each["parameters"] for each in [*SEVEN, *published] if each["parameters"]]
    assert left.get_xlim() == pytest.approx((min(sizes) / 1.5, max(sizes) * 1.5))


@pytest.mark.parametrize(
    ("runs", "published", "title"),
    [
        (2, True, "Blue: our runs. Grey: published. Hollow: not comparable, see the table."),
        (7, True, "Blue: 5 of our 7 runs, see the table. Grey: published. Hollow: not comparable, see the table."),
        (2, False, "Blue: our runs. Hollow: not comparable, see the table."),
    ],
)
def test_comparison_plot_explains_what_it_shows(figures, runs, published, title):
    comparison_plot.accuracy_by_parameters(SEVEN[:runs], [], comparison.read_published() if published else [])
    assert figures[0].get_suptitle() == title
    assert len(figures[0].axes) == 1 + published  # panels with results


def test_axis_of_the_plot_has_ticks_of_one_form(figures):
    comparison_plot.accuracy_by_parameters(
        [run(0.7, parameters=parameters) for parameters in (10**6, 4 * 10**6)], [], []
    )
    FigureCanvasAgg(figures[0])
    figures[0].draw_without_rendering()
    labels = [label.get_text() for label in figures[0].axes[0].get_xticklabels(which="both")]
    shown = [text for text in labels if text]
    assert len(shown) > 2
    assert all(text.endswith(("k", "M")) for text in shown)


@pytest.fixture(scope="module")
def written(tmp_path_factory, templates) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("page")
    paths = [str(templates / name / "eval.json") for name in ("good", "bad")]
    comparison_report.write(comparison.compare(paths), str(folder))
    return folder / "comparison.html"


@pytest.mark.parametrize("width", [390, 1200])
@pytest.mark.parametrize("recorded", [False, True], ids=["new", "recorded"])
def test_page_cuts_no_table(written, root, chromium, width, recorded):
    browser.emulate(chromium, width, dark=False)
    chromium.get(f"file://{root / 'docs/results/comparison/comparison.html' if recorded else written}")
    assert browser.cut_cells(chromium) == []
    assert chromium.execute_script("return document.querySelectorAll('.all td').length") > 100


def test_page_states_beside_each_result_whether_it_is_comparable(written, chromium):
    browser.emulate(chromium, 1200, dark=False)
    chromium.get(f"file://{written}")
    rows = chromium.execute_script(
        "return [...document.querySelectorAll('.all tbody tr')]"
        ".map(row => [...row.cells].map(cell => cell.textContent))"
    )
    results = [
        ("good", False),
        ("bad", False),
        *((each["method"], each["comparable"]) for each in comparison.read_published()),
    ]
    assert len(rows) == len(results)
    for name, comparable in results:
        (row,) = (row for row in rows if row[0].split(", 2")[0] == name)
        assert row[1] == ("yes" if comparable else "no")


def test_compare_of_own_classes_leaves_out_published_results(two, tmp_path):
    classes = ("bored", "happy")
    labels, probabilities = np.arange(8) % 2, np.tile([0.4, 0.6], (8, 1))
    for name in ("own", "other"):
        content = {**build(classes=classes), **metrics.compute_metrics(labels, probabilities, classes)}
        saved = prediction_files.Predictions(labels, probabilities.astype(np.float32), np.arange(8))
        prediction_files.write_npz(str(tmp_path / name / "predictions.npz"), saved)
        eval_json.write_eval(str(tmp_path / name / "eval.json"), content)
    own = [str(tmp_path / name / "eval.json") for name in ("own", "other")]
    found = comparison.compare(own)
    assert (found["published"], [run["comparable"] for run in found["runs"]]) == ([], [False, False])
    assert "other classes than FER-2013's" in found["runs"][0]["remark"]
    assert found["pairs"][0]["not_compared"] is None
    assert "PrivateTest" not in comparison_report.build_markdown(found)
    mixed = comparison.compare([own[0], two[0]])
    assert len(mixed["published"]) == len(comparison.read_published())
    assert mixed["pairs"][0]["not_compared"] == "they were measured on different classes"
