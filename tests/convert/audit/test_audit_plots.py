"""Plots of the class balance and of example faces."""

import dataclasses
import io
import itertools

import numpy as np
import pytest
from PIL import Image

from fer.convert.audit import audit_plots
from fer.data.manifest import Split
from fer.io.temp_store import TempStore
from fer.labels import CLASSES
from tests.convert.audit.test_audit import FACES, dataset  # noqa: F401 - a fixture

WRITTEN = {
    "train": Split("train", 28, dict(zip(CLASSES, range(1, 8))), ()),
    "test": Split("test", 5, dict.fromkeys(CLASSES, 0), ()),
}


@pytest.fixture
def store(tmp_path) -> TempStore:
    store = TempStore(str(tmp_path))
    store.append_faces(np.array([face[0] for face in FACES], np.uint8))
    yield store
    store.close()


def test_balance_plots_every_class_of_labelled_splits():
    [axes] = audit_plots.plot_class_balance(WRITTEN).axes
    assert [bar.get_height() for bar in axes.patches] == list(range(1, 8))
    assert [label.get_text() for label in axes.get_xticklabels()] == list(CLASSES)


@pytest.mark.parametrize("count", [2, 8, 100])
def test_plots_show_every_class_of_other_sets_within_the_figure(dataset, store, count):  # noqa: F811
    classes = tuple(f"class {number}" for number in range(count))
    written = {"train": Split("train", 5, dict(zip(classes, range(count))), ())}
    figure = audit_plots.plot_class_balance(written)
    [axes] = figure.axes
    bars = [bar.get_width() if count > 10 else bar.get_height() for bar in axes.patches]
    assert bars == list(range(count))
    figure.draw_without_rendering()
    labels = axes.get_yticklabels() if count > 10 else axes.get_xticklabels()
    assert [label.get_text() for label in labels] == list(classes)
    boxes = [label.get_window_extent() for label in labels]
    assert all(box.x0 >= 0 and box.y0 >= 0 for box in boxes)
    if count > 10:
        assert not any(one.overlaps(other) for one, other in itertools.pairwise(boxes))
    many = dataclasses.replace(dataset, store=store, classes=classes, labels=np.arange(len(FACES)) % count)
    faces = audit_plots.plot_sample_faces(many, np.zeros(len(FACES), int), seed=0)
    names = [text.get_text() for axes in faces.axes for text in axes.texts]
    names += [axes.get_title("left") for axes in faces.axes if axes.get_title("left")]
    assert sorted(names) == sorted(classes[: len(FACES)])
    drawn = sum((image.get_array() != 255).any() for axes in faces.axes for image in axes.images)
    assert drawn >= min(count, len(FACES))


def test_faces_plots_images_of_each_class(dataset, store, monkeypatch):  # noqa: F811
    monkeypatch.setattr(audit_plots, "FACES_PER_CLASS", 4)  # one more than the faces of any class
    figure = audit_plots.plot_sample_faces(dataclasses.replace(dataset, store=store), dataset.splits, seed=0)
    present = sorted({face[1] for face in FACES if face[2] == 0})
    assert len(figure.axes) == len(present) * audit_plots.FACES_PER_CLASS
    for number, label in enumerate(present):
        row = figure.axes[number * audit_plots.FACES_PER_CLASS : (number + 1) * audit_plots.FACES_PER_CLASS]
        shown = [np.asarray(image.get_array()).ravel() for axes in row for image in axes.images]
        expected = [face[0] for face in FACES if face[1] == label and face[2] == 0]
        np.testing.assert_array_equal(shown, expected)
        assert row[0].texts[0].get_text() == CLASSES[label]


def test_faces_plots_unlabelled_images_alone(dataset, store):  # noqa: F811
    unlabelled = dataclasses.replace(dataset, labels=np.full(len(FACES), -1), store=store)
    figure = audit_plots.plot_sample_faces(unlabelled, np.full(len(FACES), 2), seed=0)
    assert figure.axes[0].texts[0].get_text() == "unlabelled"
    assert sum(len(axes.images) for axes in figure.axes) == len(FACES)


def test_audit_plots_write_same_png_files_each_time(dataset, store, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(audit_plots, "FACES_PER_CLASS", 2)
    contents = []
    for name in ("one", "two"):
        audit_plots.write_plots(
            str(tmp_path / name), WRITTEN, dataclasses.replace(dataset, store=store), dataset.splits, seed=0
        )
        contents.append(
            [(tmp_path / name / file).read_bytes() for file in (audit_plots.BALANCE_FILE, audit_plots.PREVIEW_FILE)]
        )
    assert contents[0] == contents[1]
    assert all(Image.open(io.BytesIO(content)).format == "PNG" for content in contents[0])
