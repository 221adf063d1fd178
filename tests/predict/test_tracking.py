"""Tests of `fer.predict.tracking`."""

import numpy as np
import pytest

from fer.predict import tracking
from fer.predict.face_detection import Box
from fer.predict.tracking import Smoother, Track, Tracks

GAP_S = 1.0


def box(left: int, top: int = 0, side: int = 10) -> Box:
    return Box(left, top, side, side)


def follow(frames: list[tuple[float, list[Box]]]) -> list[list[int]]:
    """Returns the track numbers of each frame, given as time and boxes."""
    tracks, numbers = Tracks(), []
    for time_s, boxes in frames:
        tracks, found = tracking.update(tracks, boxes, time_s, GAP_S)
        numbers.append(found)
    return numbers


@pytest.mark.parametrize(
    ("other", "expected"),
    [(box(0), 1.0), (box(5), 1 / 3), (box(10), 0.0), (box(30, 30), 0.0), (Box(0, 0, 5, 5), 0.25), (box(0, 9), 1 / 19)],
)
def test_iou_divides_intersection_by_union(other, expected):
    assert tracking.iou(box(0), other) == pytest.approx(expected)
    assert tracking.iou(other, box(0)) == pytest.approx(expected)


def test_update_keeps_numbers_of_faces_that_move_and_change_order():
    assert follow([(0, [box(0), box(50)]), (0.1, [box(4), box(47)]), (0.2, [box(44, 2), box(48, 30)])]) == [
        [1, 2],
        [1, 2],
        [2, 3],
    ]


def test_update_matches_largest_overlap_first():
    # The second box overlaps both tracks; it belongs to the one that it overlaps more.
    assert follow([(0, [box(0), box(8)]), (0.1, [box(6)])]) == [[1, 2], [2]]
    assert follow([(0, [box(0), box(8)]), (0.1, [box(2), box(6)])]) == [[1, 2], [1, 2]]


def test_update_begins_a_track_below_the_smallest_overlap():
    assert tracking.iou(box(0), box(5)) > tracking.MIN_IOU > tracking.iou(box(0), box(6))
    assert follow([(0, [box(0)]), (0.1, [box(5)])]) == [[1], [1]]
    assert follow([(0, [box(0)]), (0.1, [box(6)])]) == [[1], [2]]


def test_update_continues_a_track_after_a_short_gap_only():
    assert follow([(0, [box(0)]), (0.5, []), (GAP_S, [box(0)])]) == [[1], [], [1]]
    assert follow([(0, [box(0)]), (0.5, []), (GAP_S + 0.01, [box(0)])]) == [[1], [], [2]]


def test_update_changes_no_argument_and_forgets_ended_tracks():
    before = Tracks((Track(1, box(0), 0.0), Track(2, box(50), 0.9)), 2)
    after, numbers = tracking.update(before, [box(90)], 1.5, GAP_S)
    assert before == Tracks((Track(1, box(0), 0.0), Track(2, box(50), 0.9)), 2)
    assert after == Tracks((Track(2, box(50), 0.9), Track(3, box(90), 1.5)), 3)
    assert numbers == [3]


def rows(count: int) -> np.ndarray:
    return np.random.default_rng(0).dirichlet(np.ones(7), count).astype(np.float32)


def test_exponential_smoother_follows_its_formula_at_uneven_times():
    times, values = [0.0, 0.1, 0.4, 0.5], rows(4)
    smoother, expected = Smoother("exponential:0.2s"), values[0]
    for position, (time_s, value) in enumerate(zip(times, values)):
        if position:
            weight = 1 - np.exp(-(time_s - times[position - 1]) / 0.2)
            expected = (1 - weight) * expected + weight * value
        found = smoother.update(1, time_s, value)
        np.testing.assert_allclose(found, expected, atol=1e-6)
        assert found.dtype == np.float32
        assert found.sum() == pytest.approx(1, abs=1e-6)


def test_window_smoother_averages_frames_of_the_window_and_holds_no_others():
    smoother, values = Smoother("window:0.25"), rows(200)
    found = [smoother.update(1, 0.1 * position, value) for position, value in enumerate(values)]
    np.testing.assert_allclose(found[0], values[0])
    np.testing.assert_allclose(found[-1], values[-3:].mean(axis=0), atol=1e-6)
    assert len(smoother._history[1]) == 3


@pytest.mark.parametrize("smoothing", ["exponential:1s", "window:1s"])
def test_smoother_keeps_tracks_apart_and_forgets_the_others(smoothing):
    smoother, values = Smoother(smoothing), rows(3)
    smoother.update(1, 0.0, values[0])
    np.testing.assert_array_equal(smoother.update(2, 0.0, values[1]), values[1])
    smoother.keep([2])
    np.testing.assert_array_equal(smoother.update(1, 0.1, values[2]), values[2])
