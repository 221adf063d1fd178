"""Tests of report.html, read as a file and opened in a browser."""

import io
import pathlib
import re

import numpy as np
import pytest
from PIL import Image

from fer.data import manifest
from fer.evaluation import eval_json, evaluate
from fer.evaluation.metrics import bootstrap, metrics, robustness
from fer.evaluation.prediction_files import Predictions
from fer.evaluation.report import report_content, report_html
from fer.labels import CLASSES
from fer.viz import sprite_sheet
from tests import browser
from tests.evaluation import factories
from tests.evaluation.test_eval_json import run

COUNT = 140
WIDTHS = {"desk": 1100, "phone": 390}


def scores() -> tuple:
    """Returns random labels [COUNT] and probabilities [COUNT, 7]; no label is disgust, so that some cells are empty."""
    random = np.random.default_rng(1)
    probabilities = random.dirichlet(np.full(7, 0.2), COUNT)
    labels = np.where(random.random(COUNT) < 0.5, probabilities.argmax(axis=1), random.integers(0, 7, COUNT))
    labels[labels == CLASSES.index("disgust")] = 0
    return labels, probabilities


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory) -> evaluate.Evaluation:
    """Builds an evaluation of random scores that has every optional section."""
    folder = tmp_path_factory.mktemp("report")
    labels, probabilities = scores()
    images = factories.images(COUNT)
    shards = manifest.read_manifest(factories.shards(folder / "a <b> & c", {"validation": (images, labels)}))
    figures = {
        **metrics.compute_metrics(labels, probabilities, CLASSES),
        "bootstrap_ci95": bootstrap.intervals(labels, probabilities),
        "calibration": {"temperature": 1.2, "log_loss": 1.0, "brier": 0.5, "ece": 0.01},
        "excluding_train_duplicates": None,
        "accuracy_by_agreement": [{"votes": 9, "examples": COUNT, "accuracy": 0.5}],
        "corruptions": robustness.measure_robustness(
            lambda faces: probabilities[: len(faces)], images[:10], labels[:10]
        ),
    }
    protocol = eval_json.Protocol("validation", tta="flip", labels="fer", num_unlabelled=0)
    content = eval_json.build([eval_json.describe_member(run())], shards, protocol, figures, 10.0)
    predictions = Predictions(labels, probabilities.astype(np.float32), 1000 + np.arange(COUNT))
    maps = {position: np.zeros((48, 48), np.float32) for position in range(COUNT)}
    return evaluate.Evaluation(content, predictions, images, [], maps)


@pytest.fixture(scope="module")
def written(evaluation, evaluated_run, tmp_path_factory) -> pathlib.Path:
    """Writes the page of `evaluation` with the plots of another evaluation."""
    plots = {path.name: path.read_bytes() for path in evaluated_run.glob("*.png")}
    rows = evaluation.predictions.rows
    text = report_html.build_page(evaluation.content, *scores(), rows, evaluation.images, plots)
    path = tmp_path_factory.mktemp("written") / "report.html"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module", params=[("desk", False), ("desk", True), ("phone", False)], ids=str)
def page(request, written, chromium):
    kind, dark = request.param
    browser.emulate(chromium, WIDTHS[kind], dark)
    chromium.get_log("browser")  # clears the log of earlier pages
    chromium.get(f"file://{written}")
    chromium.dark, chromium.narrow = dark, kind == "phone"
    return chromium


def cell_members(true: int, predicted: int) -> np.ndarray:
    """Returns the positions of a cell's faces, most confident first."""
    labels, probabilities = scores()
    confidence = probabilities.astype(np.float32).max(axis=1)
    positions = np.flatnonzero((labels == true) & (probabilities.argmax(axis=1) == predicted))
    return positions[np.argsort(-confidence[positions], kind="stable")]


def test_sprite_sheet_groups_faces_by_cell_most_confident_first():
    labels, probabilities = scores()
    images = factories.images(COUNT)
    sheet = sprite_sheet.build_sheet(labels, probabilities, images)
    picture = np.asarray(Image.open(io.BytesIO(sheet.jpeg))).astype(int)
    for number, cell in enumerate(sheet.cells):
        expected = cell_members(*divmod(number, 7))
        assert sheet.positions[cell.first : cell.first + cell.shown].tolist() == expected.tolist()
        for place, position in enumerate(expected, start=cell.first):
            top, left = 48 * (place // sheet.columns), 48 * (place % sheet.columns)
            face = picture[top : top + 48, left : left + 48]
            assert np.abs(face - images[position, :, :, 0]).mean() < 4


def test_sprite_sheet_limits_faces_per_cell(monkeypatch):
    monkeypatch.setattr(sprite_sheet, "MAX_FACES_PER_CELL", 2)
    labels, probabilities = scores()
    sheet = sprite_sheet.build_sheet(labels, probabilities, factories.images(COUNT))
    assert max(cell.shown for cell in sheet.cells) == 2
    assert sheet.positions[: sheet.cells[0].shown].tolist() == cell_members(0, 0)[:2].tolist()


def test_page_needs_no_network(written):
    text = written.read_text()
    assert "default-src 'none'" in text
    assert not re.findall(r"(?:src|href)=\"(?!data:)", text)
    assert not re.findall(r"url\((?!data:)", text)


def test_page_escapes_names(written):
    assert "a &lt;b&gt; &amp; c" in written.read_text()
    assert "a <b>" not in written.read_text()


@pytest.fixture
def trained_on_shards(evaluation) -> dict:
    """Returns eval.json of a network trained on these shards; ten of the evaluated faces are in their train split."""
    return {
        **evaluation.content,
        "data": {**evaluation.content["data"], "manifest_sha256": factories.TRAINED_ON["manifest_sha256"]},
        "excluding_train_duplicates": {"num_duplicates": 10, "accuracy": 0.5, "accuracy_difference": 0.01},
    }


def test_protocol_sentences_describe_selection_leakage_and_tta(trained_on_shards):
    text = " ".join(report_content.protocol_sentences(trained_on_shards))
    assert "Checkpoint selected on validation, the split evaluated here, so these metrics are optimistic" in text
    assert "10 of these faces are identical, pixel by pixel, to images of the training data." in text
    assert "mean probabilities of the image and its mirror image" in text
    test = {**trained_on_shards, "split": "test"}
    assert "test was not used for selection" in " ".join(report_content.protocol_sentences(test))


def test_protocol_sentences_call_metrics_of_training_data_optimistic(evaluation, trained_on_shards):
    text = " ".join(report_content.protocol_sentences({**trained_on_shards, "split": "train"}))
    assert "The network was trained on these faces, so the metrics are optimistic." in text
    others = {**trained_on_shards, "split": "train", "data": evaluation.content["data"]}
    assert "train was not used for selection" in " ".join(report_content.protocol_sentences(others))


def test_protocol_sentences_state_when_all_faces_are_in_train_split(trained_on_shards):
    data = {**trained_on_shards["data"], "examples_per_split": {"train": 300, "test": COUNT}}
    leaked = {**trained_on_shards, "data": data, "excluding_train_duplicates": None, "excluding_train_photos": None}
    text = " ".join(report_content.protocol_sentences(leaked))
    assert "all of these faces are identical, pixel by pixel, to images of the training data." in text
    assert "all of these faces are cut from the same photographs as images of the training data." in text
    for changes in ({"split": "train"}, {"data": trained_on_shards["data"]}):
        text = " ".join(report_content.protocol_sentences({**leaked, **changes}))
        assert "all of these faces" not in text


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        (0.01, "is 50.0 %, 1.00 points lower than with them."),
        (-0.003, "is 50.0 %, 0.30 points higher than with them."),
        (0.0, "is 50.0 %, the same as with them."),
    ],
)
def test_protocol_sentences_state_leakage_difference_without_sign(trained_on_shards, difference, words):
    leaked = {**trained_on_shards["excluding_train_duplicates"], "accuracy_difference": difference}
    text = " ".join(report_content.protocol_sentences({**trained_on_shards, "excluding_train_duplicates": leaked}))
    assert f"Without them, the accuracy {words}" in text


def test_protocol_sentences_state_scores_without_train_photographs(trained_on_shards):
    assert "photograph" not in " ".join(report_content.protocol_sentences(trained_on_shards))
    photos = {"num_duplicates": 1009, "accuracy": 0.67, "lookup_accuracy": 0.7317}
    text = " ".join(report_content.protocol_sentences({**trained_on_shards, "excluding_train_photos": photos}))
    assert "1,009 of these faces are cut from the same photographs as images of the training data." in text
    assert "Without them, the accuracy is 67.0 %." in text
    assert "instead of predictions, the accuracy on all faces is 73.2 %." in text


def test_protocol_sentences_distinguish_other_shards_from_training_data(evaluation, trained_on_shards):
    others = {**trained_on_shards, "data": evaluation.content["data"]}
    text = " ".join(report_content.protocol_sentences(others))
    assert "Checkpoint selected on a split named validation of other shards" in text
    assert "10 of these faces are identical, pixel by pixel, to images of the train split of these shards" in text
    assert "training data" not in text


@pytest.mark.parametrize(
    ("temperature", "log_loss", "ece", "text"),
    [
        (1.5, 0.5, 0.0, "over-confident. Temperature 1.50 (fitted on validation) lowers log loss from 2.000 to 0.500"),
        (1.5, 0.5, 0.0, " and lowers ECE from 0.100 to 0.000."),
        (0.8, 0.5, 0.0, "under-confident. Temperature 0.80"),
        (1.5, 0.5, 0.9, " but raises ECE from 0.100 to 0.900."),
        (1.5, 2.5, 0.0, "raises log loss from 2.000 to 2.500 but lowers ECE from 0.100 to 0.000."),
    ],
)
def test_protocol_sentences_describe_effect_of_temperature(evaluation, temperature, log_loss, ece, text):
    scaled = {"temperature": temperature, "log_loss": log_loss, "brier": 0.5, "ece": ece}
    content = {**evaluation.content, "log_loss": 2.0, "ece": 0.1, "calibration": scaled}
    assert text in " ".join(report_content.protocol_sentences(content))


def test_metric_rows_give_value_and_interval(evaluation):
    rows = {row[0]: row for row in report_content.metric_rows(evaluation.content)}
    low, high = evaluation.content["accuracy_ci95"]
    assert rows["accuracy"][1:3] == (f"{evaluation.content['accuracy']:.4f}", f"{low:.4f}-{high:.4f}")
    low, high = evaluation.content["bootstrap_ci95"]["macro_f1"]
    assert rows["macro F1"][1:3] == (f"{evaluation.content['macro_f1']:.4f}", f"{low:.4f}-{high:.4f}")


def test_page_shows_faces_of_clicked_cell(page):
    happy = CLASSES.index("happy")
    page.find_element("css selector", f'[data-cell="{8 * happy}"]').click()
    expected = cell_members(happy, happy)
    assert page.find_element("id", "faces-heading").text.startswith(f"happy, correct: {len(expected)} faces")
    captions = [element.text for element in page.find_elements("css selector", "#faces figcaption")]
    confidence = scores()[1].astype(np.float32).max(axis=1)
    assert captions == [f"{100 * confidence[position]:.0f} %" for position in expected]


def test_page_shows_most_confident_face_of_cell_first(page):
    page.find_element("css selector", '[data-cell="0"]').click()
    face = page.find_element("css selector", "#faces .face")
    shown = np.asarray(Image.open(io.BytesIO(face.screenshot_as_png)).convert("L").resize((48, 48)), int)
    expected = factories.images(COUNT)[cell_members(0, 0)[0], :, :, 0].astype(int)
    assert np.abs(shown - expected)[4:-4, 4:-4].mean() < 12


def test_page_disables_empty_cells(page):
    assert not page.find_element("css selector", f'[data-cell="{7 * CLASSES.index("disgust")}"]').is_enabled()


def test_page_fits_screen_without_browser_errors(page):
    assert page.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    assert [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_page_cuts_no_table(page):
    assert browser.cut_cells(page) == []
    assert page.execute_script("return document.querySelectorAll('.rows td').length") > 100


def test_page_names_the_column_of_each_value_on_phone(page):
    names = page.execute_script(
        "return [...document.querySelectorAll('.rows tr:first-child td:nth-child(2)')]"
        ".map(cell => getComputedStyle(cell, '::before').content)"
    )
    columns = ["value", "examples", "examples", "strength 1"]
    assert names[:4] == ([f'"{name} "' for name in columns] if page.narrow else ["none"] * 4)


def test_page_follows_colour_scheme_of_browser(page):
    colour = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", colour)[:3])) < 128) == page.dark
