"""report.html, read as a file and used in a browser."""

import io
import pathlib
import re

import numpy as np
import pytest
from PIL import Image

from fer.data import manifest
from fer.evaluation import eval_json, evaluate
from fer.evaluation.metrics import bootstrap, metrics
from fer.evaluation.predictions import Predictions
from fer.evaluation.report import report_html, report_text
from fer.labels import CLASSES
from fer.viz import sprite_sheet
from tests import browser
from tests.evaluation import factories
from tests.evaluation.test_eval_json import member

COUNT = 140
WIDTHS = {"desk": 1100, "phone": 390}


def scores() -> tuple:
    random = np.random.default_rng(1)
    probabilities = random.dirichlet(np.full(7, 0.2), COUNT)
    labels = np.where(random.random(COUNT) < 0.5, probabilities.argmax(axis=1), random.integers(0, 7, COUNT))
    labels[labels == CLASSES.index("disgust")] = 0  # so that some cells are empty
    return labels, probabilities


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory) -> evaluate.Evaluation:
    """Of scores drawn by chance: the page does not ask where they come from."""
    folder = tmp_path_factory.mktemp("report")
    labels, probabilities = scores()
    images = factories.images(COUNT)
    shards = manifest.read_manifest(factories.shards(folder / "a <b> & c", {"validation": (images, labels)}))
    figures = {
        **metrics.measure(labels, probabilities),
        "bootstrap_ci95": bootstrap.intervals(labels, probabilities),
        "calibration": None,
        "without_training_images": None,
        "by_agreement": [{"votes": 9, "examples": COUNT, "accuracy": 0.5}],
    }
    content = eval_json.build([eval_json.member(member())], shards, "validation", figures, 10.0, "flip", "fer", 0)
    kept = Predictions(labels, probabilities.astype(np.float32), 1000 + np.arange(COUNT))
    maps = {position: np.zeros((48, 48), np.float32) for position in range(COUNT)}
    return evaluate.Evaluation(content, kept, images, [], maps)


@pytest.fixture(scope="module")
def written(evaluation, evaluated_run, tmp_path_factory) -> pathlib.Path:
    """The page of these scores, with another evaluation's pictures."""
    pictures = {path.name: path.read_bytes() for path in evaluated_run.glob("*.png")}
    kept = evaluation.predictions
    text = report_html.page(evaluation.content, *scores(), kept.rows, evaluation.images, pictures)
    path = tmp_path_factory.mktemp("written") / "report.html"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module", params=[("desk", False), ("desk", True), ("phone", False)], ids=str)
def page(request, written, chromium):
    kind, dark = request.param
    browser.emulate(chromium, WIDTHS[kind], dark)
    chromium.get_log("browser")  # of the pages before
    chromium.get(f"file://{written}")
    chromium.dark = dark
    return chromium


def members(true: int, taken: int) -> np.ndarray:
    """Positions of a cell's faces, the most confident first."""
    labels, probabilities = scores()
    confidence = probabilities.astype(np.float32).max(axis=1)
    found = np.flatnonzero((labels == true) & (probabilities.argmax(axis=1) == taken))
    return found[np.argsort(-confidence[found], kind="stable")]


def test_a_sheet_holds_each_cells_faces_the_most_confident_first():
    labels, probabilities = scores()
    images = factories.images(COUNT)
    sheet = sprite_sheet.build_sheet(labels, probabilities, images)
    picture = np.asarray(Image.open(io.BytesIO(sheet.jpeg))).astype(int)
    for number, cell in enumerate(sheet.cells):
        expected = members(*divmod(number, 7))
        assert sheet.positions[cell.first : cell.first + cell.shown].tolist() == expected.tolist()
        for place, position in enumerate(expected, start=cell.first):
            top, left = 48 * (place // sheet.columns), 48 * (place % sheet.columns)
            face = picture[top : top + 48, left : left + 48]
            assert np.abs(face - images[position, :, :, 0]).mean() < 4


def test_a_cell_shows_no_more_faces_than_a_browser_bears(monkeypatch):
    monkeypatch.setattr(sprite_sheet, "MAX_FACES_PER_CELL", 2)
    labels, probabilities = scores()
    sheet = sprite_sheet.build_sheet(labels, probabilities, factories.images(COUNT))
    assert max(cell.shown for cell in sheet.cells) == 2
    assert sheet.positions[: sheet.cells[0].shown].tolist() == members(0, 0)[:2].tolist()


def test_the_page_asks_nothing_of_a_network(written):
    text = written.read_text()
    assert "default-src 'none'" in text
    assert not re.findall(r"(?:src|href)=\"(?!data:)", text)
    assert not re.findall(r"url\((?!data:)", text)


def test_names_are_escaped(written):
    assert "a &lt;b&gt; &amp; c" in written.read_text()
    assert "a <b>" not in written.read_text()


@pytest.fixture
def trained_on_it(evaluation) -> dict:
    """eval.json of a network that was trained on these very shards, ten faces of whose train split are scored."""
    return {
        **evaluation.content,
        "data": {**evaluation.content["data"], "manifest_sha256": factories.TRAINED_ON["manifest_sha256"]},
        "without_training_images": {"left_out": 10, "accuracy": 0.5, "accuracy_difference": 0.01},
    }


def test_the_protocol_is_told_in_words(trained_on_it):
    said = " ".join(report_text.protocol(trained_on_it))
    assert "The split validation chose the weights and is scored here too" in said
    assert "10 of these faces are, pixel by pixel, faces that training saw" in said
    assert "as it is and mirrored" in said
    test = {**trained_on_it, "split": "test"}
    assert "test had no say in it" in " ".join(report_text.protocol(test))


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        (0.01, "is 50.0 %, 1.00 points lower than with them."),
        (-0.003, "is 50.0 %, 0.30 points higher than with them."),
        (0.0, "is 50.0 %, the same as with them."),
    ],
)
def test_protocol_states_the_leakage_difference_without_a_sign(trained_on_it, difference, words):
    leaked = {**trained_on_it["without_training_images"], "accuracy_difference": difference}
    said = " ".join(report_text.protocol({**trained_on_it, "without_training_images": leaked}))
    assert f"without them the accuracy {words}" in said


def test_shards_that_nobody_trained_on_are_not_called_training_data(evaluation, trained_on_it):
    others = {**trained_on_it, "data": evaluation.content["data"]}
    said = " ".join(report_text.protocol(others))
    assert "A split validation chose the weights, but of other shards than these" in said
    assert "10 of these faces are, pixel by pixel, faces that these shards would train on" in said
    assert "training saw" not in said


@pytest.mark.parametrize(
    ("temperature", "ece", "said"),
    [
        (1.5, 0.0, "the network is too confident: dividing its logits by 1.50"),
        (0.8, 0.0, "the network is too modest: dividing its logits by 0.80"),
        (1.5, 0.9, "but its calibration error up from"),
    ],
)
def test_what_a_temperature_mends_is_told_and_what_it_does_not(evaluation, temperature, ece, said):
    scaled = {"temperature": temperature, "log_loss": 1.0, "brier": 0.5, "ece": ece}
    assert said in " ".join(report_text.protocol({**evaluation.content, "calibration": scaled}))


def test_every_figure_stands_with_its_interval(evaluation):
    rows = {row[0]: row for row in report_text.figures(evaluation.content)}
    low, high = evaluation.content["accuracy_ci95"]
    assert rows["accuracy"][1:3] == (f"{evaluation.content['accuracy']:.4f}", f"{low:.4f} to {high:.4f}")
    low, high = evaluation.content["bootstrap_ci95"]["macro_f1"]
    assert rows["macro F1"][1:3] == (f"{evaluation.content['macro_f1']:.4f}", f"{low:.4f} to {high:.4f}")


def test_a_click_on_a_cell_shows_its_faces(page):
    happy = CLASSES.index("happy")
    page.find_element("css selector", f'[data-cell="{8 * happy}"]').click()
    expected = members(happy, happy)
    assert page.find_element("id", "faces-heading").text.startswith(f"happy, recognised: {len(expected)} faces")
    captions = [element.text for element in page.find_elements("css selector", "#faces figcaption")]
    confidence = scores()[1].astype(np.float32).max(axis=1)
    assert captions == [f"{100 * confidence[position]:.0f} %" for position in expected]


def test_the_first_face_that_is_shown_is_the_cells_most_confident(page):
    page.find_element("css selector", '[data-cell="0"]').click()
    face = page.find_element("css selector", "#faces .face")
    shown = np.asarray(Image.open(io.BytesIO(face.screenshot_as_png)).convert("L").resize((48, 48)), int)
    expected = factories.images(COUNT)[members(0, 0)[0], :, :, 0].astype(int)
    assert np.abs(shown - expected)[4:-4, 4:-4].mean() < 12


def test_an_empty_cell_cannot_be_chosen(page):
    assert not page.find_element("css selector", f'[data-cell="{7 * CLASSES.index("disgust")}"]').is_enabled()


def test_nothing_is_wider_than_the_screen_and_the_browser_complains_of_nothing(page):
    assert page.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    assert [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_the_page_is_as_dark_as_its_reader_wants(page):
    colour = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", colour)[:3])) < 128) == page.dark
