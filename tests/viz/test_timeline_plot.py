"""Tests of `fer.viz.timeline_plot`."""

import io

import numpy as np
from PIL import Image, ImageColor

from fer.labels import CLASSES, class_colours
from fer.viz import timeline_plot
from fer.viz.timeline_plot import Timeline


def draw(timelines: list[Timeline], classes: tuple[str, ...] = CLASSES) -> np.ndarray:
    content = timeline_plot.class_timelines(timelines, classes, "clip $1.mp4", duration_s=10.0, step_s=0.1)
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def area(image: np.ndarray, colour: str) -> int:
    """Returns the number of pixels of a colour, without those of the legend."""
    return int((np.abs(image[: -image.shape[0] // 5] - ImageColor.getrgb(colour)).max(axis=2) <= 2).sum())


def test_class_timelines_fill_areas_by_probability_and_time():
    times = np.linspace(0, 5, 20)
    rows = np.zeros([20, 7])
    rows[:, CLASSES.index("happy")], rows[:, CLASSES.index("sad")] = 0.75, 0.25
    image = draw([Timeline("track 1: happy 100 %", times, rows)])
    happy, sad = (area(image, class_colours(CLASSES)[CLASSES.index(name)]) for name in ("happy", "sad"))
    assert 2.7 < happy / sad < 3.3
    twice = draw([Timeline("track 1", np.append(times, 10.0), np.append(rows, rows[:1], axis=0))])
    assert 1.8 < area(twice, class_colours(CLASSES)[3]) / happy < 2.2


def test_class_timelines_draw_a_panel_for_each_track_and_many_classes():
    classes = tuple(f"class {number}" for number in range(25))
    rows = np.eye(25)[:4]
    one = draw([Timeline("track 1", np.arange(4.0), rows)], classes)
    three = draw([Timeline(f"track {number}", np.arange(4.0) + number, rows) for number in range(3)], classes)
    assert three.shape[0] > 1.5 * one.shape[0]
    for colour in class_colours(classes)[:4]:
        assert area(three, colour) > 0


def test_class_timelines_show_a_track_of_one_frame_and_a_clip_without_faces():
    single = draw([Timeline("track 1", np.array([5.0]), np.eye(7)[:1])])
    assert area(single, class_colours(CLASSES)[0]) > 100
    assert area(draw([]), class_colours(CLASSES)[0]) == 0
