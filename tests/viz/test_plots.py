"""Tests of `fer.viz.plots`: what the figures show."""

import io
import itertools

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image
from sklearn.calibration import calibration_curve

from fer.evaluation.metrics import calibration, metrics
from fer.labels import CLASSES, SIDE
from fer.viz import gradcam, plots, rendering
from tests.scripts import run_script


def matrix() -> np.ndarray:
    """Returns a confusion matrix [7, 7] of different counts."""
    return np.arange(49).reshape(7, 7) * 31


def epochs(count: int) -> list:
    """Returns `count` entries of history.json, at most 3."""
    return [
        {
            "epoch": epoch,
            "learning_rate": 0.1 / epoch,
            "train_loss": 2 / epoch,
            "train_accuracy": 1 - 0.8 / epoch,
            "validation_loss": 2.1 / epoch,
            "validation_accuracy": {1: 0.3, 2: 0.7, 3: 0.6}[epoch],
            "validation_macro_f1": 0.25,
        }
        for epoch in range(1, count + 1)
    ]


def texts(axes) -> list:
    return [text.get_text() for text in axes.texts]


def test_confusion_matrix_shows_count_and_share_of_each_cell(figures):
    plots.confusion_matrix(matrix(), CLASSES, "a title")
    shown = texts(figures[0].axes[0])
    shares = matrix() / matrix().sum(axis=1, keepdims=True)
    assert shown[1::2] == [f"{count:,}" for count in matrix().ravel()]
    assert shown[0::2] == [f"{100 * share:.0f} %" for share in shares.ravel()]


def test_confusion_matrix_rows_are_true_classes_from_the_top(figures):
    plots.confusion_matrix(matrix(), CLASSES, "a title")
    axes = figures[0].axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == list(CLASSES)
    assert [label.get_text().split("\n")[0] for label in axes.get_yticklabels()] == list(CLASSES)
    assert axes.yaxis_inverted()
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class and support")


def test_confusion_matrix_title_states_accuracy_and_n(figures):
    plots.confusion_matrix(np.diag([3, 0, 0, 0, 0, 0, 0]) + np.eye(7, k=1, dtype=int), CLASSES, "a title")
    assert figures[0].get_suptitle() == "a title\naccuracy 33.33 %, n = 9"


def test_confusion_matrix_marks_class_without_examples(figures):
    plots.confusion_matrix(np.diag([3, 0, 0, 0, 0, 0, 0]), CLASSES, "a title")
    assert texts(figures[0].axes[0])[14] == "-"


def test_curves_mark_the_best_epoch_on_validation(figures):
    plots.curves(epochs(3))
    accuracy = figures[0].axes[1]
    assert "70.00%, epoch 2" in accuracy.get_title()
    assert [line.get_xdata()[0] for line in accuracy.lines if len(set(line.get_xdata())) == 1] == [2]


def test_curves_show_each_series_unchanged(figures):
    plots.curves(epochs(3))
    loss = {line.get_label(): list(line.get_ydata()) for line in figures[0].axes[0].lines}
    assert loss["train"] == [2, 1, 2 / 3]
    assert loss["validation"] == [2.1, 1.05, pytest.approx(0.7)]


def test_curves_draw_a_single_epoch():
    assert Image.open(io.BytesIO(plots.curves(epochs(1)))).width > 1000


def scores(count: int = 200) -> tuple:
    """Returns random labels [count] and probabilities [count, 7], about 66 % of them correct."""
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.full(7, 0.3), count)
    correct = generator.random(count) < 0.6
    labels = np.where(correct, probabilities.argmax(axis=1), generator.integers(0, 7, count))
    return labels, probabilities


def test_reliability_draws_accuracy_over_confidence_before_and_after_scaling(figures):
    labels, probabilities = scores()
    plots.reliability(labels, probabilities, calibration.scale(probabilities, 2.0), "a title")
    diagonal, before, after = figures[0].axes[0].lines
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata())
    for line, shown in ((before, probabilities), (after, calibration.scale(probabilities, 2.0))):
        theirs = np.array(calibration_curve(shown.argmax(axis=1) == labels, shown.max(axis=1), n_bins=15))
        examples, _ = np.histogram(shown.max(axis=1), np.linspace(0, 1, 16))
        np.testing.assert_allclose([line.get_ydata(), line.get_xdata()], theirs[:, examples[examples > 0] >= 10])


def test_reliability_without_a_temperature_draws_one_series(figures):
    plots.reliability(*scores(), None, "a title")
    assert len(figures[0].axes[0].lines) == 2


def test_roc_and_precision_recall_legends_give_areas_of_each_class(figures):
    labels, probabilities = scores()
    plots.roc_and_precision_recall(labels, probabilities, CLASSES, "a title")
    per_class = metrics.compute_metrics(labels, probabilities, CLASSES)["per_class"]
    for axes, area in zip(figures[0].axes, ("roc_auc", "average_precision")):
        shown = [text.get_text() for text in axes.get_legend().get_texts()]
        assert shown == [f"{name}: {per_class[name][area]:.3f}" for name in CLASSES]


def test_roc_and_precision_recall_omit_class_without_examples(figures):
    labels, probabilities = scores()
    plots.roc_and_precision_recall(np.where(labels == 1, 0, labels), probabilities, CLASSES, "a title")
    shown = [text.get_text().split(":")[0] for text in figures[0].axes[0].get_legend().get_texts()]
    assert shown == [name for name in CLASSES if name != "disgust"]


def test_mistakes_show_both_classes_most_confident_first(figures):
    labels, probabilities = scores()
    images = np.arange(200, dtype=np.uint8)[:, None, None, None] * np.ones((48, 48, 1), np.uint8)
    plots.mistakes(images, labels, probabilities, CLASSES, "a title")
    confidence, predicted = probabilities.max(axis=1), probabilities.argmax(axis=1)
    (axes,) = figures[0].axes
    (sheet,) = axes.images
    shown = sorted(axes.texts, key=lambda text: text.get_position()[::-1])  # as one reads
    faces = [int(sheet.get_array()[int(y) + SIDE // 2, int(x), 0]) for x, y in (text.get_position() for text in shown)]
    wrong = [int(face) for face in np.argsort(-confidence) if labels[face] != predicted[face]]
    assert faces == wrong[:40]
    for text, face in zip(shown, faces):
        above = f"{CLASSES[labels[face]]}, predicted\n{CLASSES[predicted[face]]} ({100 * confidence[face]:.0f} %)"
        assert text.get_text() == above


def test_mistakes_neither_overlap_nor_leave_the_figure(figures):
    labels, probabilities = scores()
    plots.mistakes(np.zeros((200, SIDE, SIDE, 1), np.uint8), labels, probabilities, CLASSES, "a title")
    axes, render = figures[0].axes[0], FigureCanvasAgg(figures[0]).get_renderer()
    below = [(x - SIDE / 2, y + 1) for x, y in (text.get_position() for text in axes.texts)]
    faces = [Bbox([(x, y), (x + SIDE, y + SIDE)]).transformed(axes.transData) for x, y in below]
    boxes = [*faces, *(text.get_window_extent(render) for text in [*axes.texts, figures[0].texts[0]])]
    assert not [1 for place, box in enumerate(boxes) if box.count_overlaps(boxes[place + 1 :])]
    assert all(figures[0].bbox.containsx(x) and figures[0].bbox.containsy(y) for box in boxes for x, y in box.corners())
    (sheet,) = axes.images
    assert np.sum(sheet.get_array() == 0) == 40 * SIDE * SIDE * 3  # no face is cut


@pytest.mark.parametrize(("count", "rows"), [(0, 1), (1, 1), (8, 1), (9, 2), (200, 5)])
def test_mistakes_have_no_empty_row(figures, count, rows):
    images, labels = np.zeros((200, SIDE, SIDE, 1), np.uint8), np.zeros(200, int)
    plots.mistakes(images, labels, np.eye(2)[(np.arange(200) < count).astype(int)], ("a", "b"), "a title")
    (sheet,) = figures[0].axes[0].images
    assert len(sheet.get_array()) == rows * (rendering.TEXT_HEIGHT + SIDE + rendering.FACE_GAP)


@pytest.mark.parametrize(
    ("names", "shortened"),
    [
        (["happy", "bewilderment", "expressionless"], ["happy", "bewilderment", "expressio..."]),
        (["contempt_left_side", "contempt_right_side", "sad"], ["co...ft_side", "co...ht_side", "sad"]),
        (["nine_letters_a_nine_letters", "nine_letters_b_nine_letters"], ["0 nine_lette", "1 nine_lette"]),
    ],
)
def test_shorten_names_keeps_different_names_different(names, shortened):
    assert rendering.shorten_names(names) == shortened


def test_mistakes_draw_empty_grid_when_all_predictions_are_correct(figures):
    plots.mistakes(np.zeros((1, SIDE, SIDE, 1), np.uint8), np.array([3]), np.eye(7)[[3]], CLASSES, "a title")
    (axes,) = figures[0].axes
    assert not axes.texts
    assert (axes.images[0].get_array() == 255).all()


def test_face_sheet_is_drawn_upright_where_its_axes_are():
    pictures = np.full((2, SIDE, SIDE, 3), 255, np.uint8)
    pictures[0, : SIDE // 2, : SIDE // 2] = (200, 0, 0)  # the upper left quarter of the first face
    figure = rendering.plot_face_sheet(pictures, ["", ""], (1, 2), "", cell_width=5.2, fontsize=9)
    pixels = np.asarray(Image.open(io.BytesIO(rendering.render_png(figure, dpi=100))))
    rows, columns = np.nonzero((pixels == (200, 0, 0)).all(axis=-1))
    top, left = 100 * rendering.HEADING + 10 * rendering.TEXT_HEIGHT, 10 * rendering.FACE_GAP / 2
    bounds = [rows.min(), rows.max() + 1, columns.min(), columns.max() + 1]
    assert bounds == pytest.approx([top, top + 240, left, left + 240], abs=1)


def test_render_png_gives_same_bytes_for_same_figure():
    counts = [[3, 1], [0, 2]]
    assert plots.confusion_matrix(counts, ["a", "b"], "a") == plots.confusion_matrix(counts, ["a", "b"], "a")


def test_plots_do_not_import_pyplot():
    code = "import sys; from fer.viz import plots; plots.confusion_matrix([[1]], ['a'], ''); "
    assert run_script.execute(code + "sys.exit('matplotlib.pyplot' in sys.modules)") == 0


def find_overlaps(figure) -> list[tuple[str, str]]:
    """Returns the pairs of texts of a drawn figure that overlap, and texts beyond its edge."""
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()  # lays out the figure; its pixels, which take most of the time, are not read
    visible = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    boxes = [(text.get_text(), text.get_window_extent()) for text in visible]
    pairs = itertools.combinations(boxes, 2)
    found = [(one, other) for (one, first), (other, second) in pairs if _common_area(first, second) > 1]
    edge = figure.bbox
    return found + [(one, "edge") for one, box in boxes if not (box.x0 >= -1 and box.x1 <= edge.x1 + 1)]


def _common_area(first, second) -> float:
    """Returns the area in pixels that two boxes share."""
    width = min(first.x1, second.x1) - max(first.x0, second.x0)
    height = min(first.y1, second.y1) - max(first.y0, second.y0)
    return width * height if width > 0 and height > 0 else 0


LONG = "an expression with a name of 40 letters "
TITLE = "ensemble of 8 networks on faces_without_leaked_..., validation"  # as long as an evaluation makes it


@pytest.mark.parametrize(
    ("count", "name"), [(2, "class"), (2, LONG), (7, "surprise"), (8, "contempt"), (9, LONG), (100, "class")]
)
def test_plots_of_own_classes_have_no_overlapping_texts(figures, count, name):
    classes = tuple(f"{name[:37]} {number}" if name != "surprise" else CLASSES[number] for number in range(count))
    random = np.random.default_rng(0)
    labels, probabilities = np.arange(6 * count) % count, random.dirichlet(np.full(count, 0.3), 6 * count)
    images = np.zeros((len(labels), 48, 48, 1), np.uint8)
    plots.confusion_matrix(random.integers(0, 4000, (count, count)), classes, TITLE)
    plots.roc_and_precision_recall(labels, probabilities, classes, TITLE)
    plots.mistakes(images, labels, probabilities, classes, TITLE)
    examples = gradcam.pick_examples(labels, probabilities)
    maps = dict.fromkeys(range(len(labels)), np.zeros((48, 48), np.float32))
    gradcam.plot_examples(examples, images, maps, probabilities, classes, TITLE)
    for figure in figures:
        assert find_overlaps(figure) == []


def test_reliability_title_fits_the_figure(figures):
    plots.reliability(*scores(), None, TITLE)
    assert not [pair for pair in find_overlaps(figures[0]) if TITLE in pair]
