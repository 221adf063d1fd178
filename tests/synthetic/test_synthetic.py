"""Tests of the synthetic data set and the face renderer."""

import csv
import os
import pathlib
import tracemalloc

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier

from fer.errors import UserError
from fer.labels import CLASSES
from fer.synthetic import face_renderer, synthetic


@pytest.fixture(scope="module")
def faces_1000() -> tuple:
    return synthetic.generate_faces(1000, seed=3)


@pytest.fixture(scope="module")
def faces_230() -> tuple:
    """Generates the first 230 faces of `faces_1000` again; a deck has 200."""
    return synthetic.generate_faces(230, seed=3)


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> pathlib.Path:
    """Writes a CSV of 400 rows."""
    path = tmp_path_factory.mktemp("csv") / "faces.csv"
    synthetic.write_csv(str(path), 400, seed=5)
    return path


@pytest.fixture(scope="module")
def rows(table) -> list:
    """Reads the rows of `table` with Python's csv module."""
    with open(table, newline="") as file:
        return list(csv.DictReader(file))


def repeat_person(seed: int, count: int):
    """Returns the same person `count` times, without blur, noise and compression."""
    person = face_renderer.draw_person(np.random.default_rng(seed), 1)
    person.blur = person.noise = person.coarseness = np.zeros((1, 1, 1), np.float32)
    person.blink = np.ones((1, 1, 1), np.float32)
    for name, value in vars(person).items():
        setattr(person, name, np.repeat(value, count, axis=0))
    return person


def make_units(count: int, **units: list) -> dict:
    """Returns action units at rest, except for those given, such as au12=[0, 1]."""
    strengths = {int(name[2:]): np.float32(values).reshape(-1, 1, 1) for name, values in units.items()}
    return {unit: strengths.get(unit, np.zeros((count, 1, 1), np.float32)) for unit in face_renderer.UNITS}


def test_generate_faces_returns_images_and_labels(faces_1000):
    images, labels = faces_1000
    assert (images.shape, images.dtype, labels.shape, labels.dtype) == ((1000, 48, 48), np.uint8, (1000,), np.int64)


def test_generate_faces_differs_for_another_seed(faces_230):
    assert (synthetic.generate_faces(30, seed=4)[0] != faces_230[0][:30]).mean() > 0.8


def test_generate_faces_repeats_for_a_seed_whatever_the_number_of_rows(faces_230, faces_1000):
    for small, big in zip(faces_230, faces_1000):
        np.testing.assert_array_equal(small, big[:230])


def test_generate_faces_repeats_no_image(faces_1000):
    assert len({image.tobytes() for image in faces_1000[0]}) == 1000


def test_render_is_independent_of_the_batch():
    random = np.random.default_rng(1)
    person, units = face_renderer.draw_person(random, 21), face_renderer.draw_units(random, np.arange(21) % 7)
    together = face_renderer.render(person, units)
    for i in (0, 13, 20):
        alone = type(person)(**{name: value[i : i + 1] for name, value in vars(person).items()})
        mine = face_renderer.render(alone, {unit: value[i : i + 1] for unit, value in units.items()})
        np.testing.assert_array_equal(mine[0], together[i])


def test_draw_scene_cuts_nothing_off_at_its_windows(monkeypatch):
    random = np.random.default_rng(2)
    person, units = face_renderer.draw_person(random, 70), face_renderer.draw_units(random, np.arange(70) % 7)
    in_windows = face_renderer._draw_scene(person, units)
    for name in ("UPPER", "MIDDLE", "LOWER", "LEFT", "CENTRE", "RIGHT"):
        monkeypatch.setattr(face_renderer, name, slice(0, 48))
    assert np.abs(face_renderer._draw_scene(person, units) - in_windows).max() < 0.005


def test_generate_faces_has_brightness_and_contrast_near_fer2013(faces_1000):
    # FER-2013's training rows have mean 0.508 and standard deviation 0.255.
    assert abs(faces_1000[0].mean() / 255 - 0.508) < 0.06
    assert abs(faces_1000[0].std() / 255 - 0.255) < 0.06


def test_generate_faces_has_most_happy_and_fewest_disgust(faces_1000):
    counts = np.bincount(faces_1000[1], minlength=7)
    assert (CLASSES[counts.argmax()], CLASSES[counts.argmin()]) == ("happy", "disgust")
    assert counts.min() >= 0.04 * len(faces_1000[1])


@pytest.mark.parametrize("usage", ["Training", "PublicTest", "PrivateTest"])
def test_write_csv_has_every_class_in_each_split_of_400_rows(rows, usage):
    assert {int(row["emotion"]) for row in rows if row["Usage"] == usage} == set(range(7))


def test_write_csv_splits_80_10_10_percent(rows):
    counts = [sum(row["Usage"] == usage for row in rows) for usage in synthetic.USAGES]
    assert counts == [320, 40, 40]


def test_write_csv_writes_pixels_and_labels_of_generate_faces(rows):
    images, labels = synthetic.generate_faces(200, seed=5)  # one deck
    pixels = np.array([row["pixels"].split(" ") for row in rows[:200]], np.int64)
    np.testing.assert_array_equal(pixels, images.reshape(200, -1))
    np.testing.assert_array_equal([int(row["emotion"]) for row in rows[:200]], labels)


def test_write_csv_has_header_and_line_ends_of_fer2013(tmp_path):
    synthetic.write_csv(str(tmp_path / "faces.csv"), 3, seed=0)
    content = (tmp_path / "faces.csv").read_bytes()
    assert content.startswith(b"emotion,pixels,Usage\n")
    assert (content.count(b"\n"), content.count(b"\r"), content[-1:]) == (4, 0, b"\n")


def test_write_csv_of_fewer_rows_is_a_prefix(table, tmp_path):
    synthetic.write_csv(str(tmp_path / "90.csv"), 90, seed=5)
    assert table.read_bytes().startswith((tmp_path / "90.csv").read_bytes())


def test_write_csv_memory_does_not_grow_with_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic, "render", lambda person, units: np.full((200, 48, 48), 255, np.uint8))

    def peak(count: int) -> int:
        tracemalloc.start()
        synthetic.write_csv(str(tmp_path / "faces.csv"), count, seed=0)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    peak_of_200 = peak(200)
    assert peak(1000) < 1.5 * peak_of_200


@pytest.mark.parametrize("stop", [OSError("disk full"), KeyboardInterrupt()])
def test_write_csv_keeps_old_file_when_interrupted(tmp_path, monkeypatch, stop):
    path, render = tmp_path / "faces.csv", face_renderer.render
    path.write_text("old")
    calls = iter([render])

    def render_once(*arguments):
        function = next(calls, None)
        if function is None:
            raise stop
        return function(*arguments)

    monkeypatch.setattr(synthetic, "render", render_once)
    with pytest.raises((UserError, KeyboardInterrupt)):
        synthetic.write_csv(str(path), 400, seed=0)
    assert (os.listdir(tmp_path), path.read_text()) == (["faces.csv"], "old")


def test_write_csv_error_names_unwritable_path(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"Cannot write .*file/faces\.csv"):
        synthetic.write_csv(str(tmp_path / "file" / "faces.csv"), 1, seed=0)


@pytest.mark.parametrize(
    ("count", "seed", "message"), [(0, 0, "rows is 0"), (-5, 0, "rows is -5"), (1, -1, "seed is -1")]
)
def test_synthetic_reports_rows_and_seeds_out_of_range(tmp_path, count, seed, message):
    with pytest.raises(UserError, match=message):
        synthetic.generate_faces(count, seed)
    with pytest.raises(UserError, match=message):
        synthetic.write_csv(str(tmp_path / "faces.csv"), count, seed)
    assert not os.listdir(tmp_path)


UPPER_FACE, MIDDLE_FACE, LOWER_FACE = (0, 24), (14, 34), (26, 47)  # rows of the image


@pytest.mark.parametrize(
    ("unit", "region"),
    [
        *[(unit, UPPER_FACE) for unit in (1, 2, 4, 5, 7, 43)],
        *[(unit, MIDDLE_FACE) for unit in (6, 9)],
        *[(unit, LOWER_FACE) for unit in (10, 12, 15, 16, 17, 20, 22, 23, 24, 25, 26)],
    ],
)
def test_draw_scene_action_unit_changes_its_own_part_of_the_face(unit, region):
    person = repeat_person(seed=11, count=2)
    person.beard[:] = person.glasses[:] = 0.5
    both = face_renderer._draw_scene(person, make_units(2, **{f"au{unit}": [0, 1]}))
    change = np.abs(both[1] - both[0])
    rows = (change.sum(1) * np.arange(48)).sum() / change.sum()
    assert region[0] <= rows < region[1]
    assert change.max() > 0.05


@pytest.mark.parametrize("seed", range(3))
def test_draw_scene_opens_dark_mouth_in_proportion_to_jaw_drop(seed):
    faces = face_renderer._draw_scene(repeat_person(seed, 4), make_units(4, au26=[0, 0.4, 0.7, 1.0]))
    dark = (faces[:, 30:46, 14:34] < 0.1).sum((1, 2))
    assert (np.diff(dark) > 0).all()


@pytest.mark.parametrize("name", [name for name in CLASSES if name != "neutral"])
def test_render_changes_less_for_weak_expressions(name):
    expression = face_renderer.EMOTIONS[name][0]
    units = {f"au{unit}": [0, 0.3 * strength, strength] for unit, strength in expression.items()}
    still, weak, strong = face_renderer.render(repeat_person(4, 3), make_units(3, **units)).astype(float)
    assert 0 < np.abs(weak - still).mean() < np.abs(strong - still).mean()


def test_generate_faces_lets_a_linear_model_learn(faces_1000):
    images, labels = faces_1000
    small = images.reshape(-1, 16, 3, 16, 3).mean((2, 4)).reshape(len(images), -1)
    small = (small - small.mean(1, keepdims=True)) / small.std(1, keepdims=True)
    model = RidgeClassifier(alpha=10.0).fit(small[:750], labels[:750])
    assert model.score(small[750:], labels[750:]) > 0.45  # always predicting "happy" gives 0.24
