"""Tests of the benchmark suite `detect`."""

import numpy as np
import pytest

from fer.predict.face_detection import Box
from fer.synthetic import synthetic

pytest.importorskip("cv2", reason="OpenCV is not installed: the extra photos brings it")

from fer.benchmark import detect


def test_match_pairs_each_face_with_its_detection_and_counts_the_rest():
    faces = [Box(0, 0, 100, 100), Box(200, 0, 100, 100), Box(400, 0, 100, 100)]
    found = [Box(210, 10, 100, 100), Box(0, 0, 100, 100), Box(460, 0, 100, 100), Box(0, 300, 20, 20)]
    assert detect.match(found, faces) == ([found[1], found[0], None], 2)
    assert detect.match([], faces) == ([None] * 3, 0)


@pytest.mark.parametrize("tilt", [0, 45])
def test_make_scenes_pastes_each_face_at_its_box(tilt):
    faces = np.full([5, 48, 48], 255, np.uint8)
    scenes = detect.make_scenes(faces, 96, tilt)
    assert [len(scene.boxes) for scene in scenes] == [4, 1]
    for scene in scenes:
        for box in scene.boxes:
            inner = np.asarray(scene.image)[box.top + 30 : box.top + 66, box.left + 30 : box.left + 66]
            assert (inner >= 254).all()


def test_measure_recall_reports_both_detectors(monkeypatch):
    monkeypatch.setattr(detect, "CONDITIONS", [(96, 0)])
    faces = synthetic.generate_faces(4, seed=0)[0]
    images = []

    def classify(given):
        images.append(given)
        return np.eye(7)[[0] * len(given)]

    results = {each.name: each for each in detect.measure_recall("drawn", faces, classify)}
    yunet = results["drawn, YuNet, 96 px, 0 degrees"]
    assert yunet.value == 100
    assert yunet.low < 100
    assert results["drawn, YuNet, false"].value == 0
    assert results["drawn, YuNet, class of the whole face"].value == 100
    np.testing.assert_array_equal(images[0][..., 0], faces)
    assert images[1].shape == images[2].shape


def test_measure_recall_counts_false_detections_and_omits_classes_without_common_faces(monkeypatch):
    monkeypatch.setattr(detect, "CONDITIONS", [(20, 0)])
    monkeypatch.setattr(
        detect, "detectors", lambda: {detect.HAAR: lambda _: [Box(0, 0, 5, 5)] * 2, detect.YUNET: lambda _: []}
    )
    faces = synthetic.generate_faces(8, seed=0)[0]
    results = {
        each.name: each for each in detect.measure_recall("drawn", faces, lambda given: np.eye(7)[[0] * len(given)])
    }
    assert results["drawn, Haar cascade, false"].value == 200
    assert results["drawn, Haar cascade, 20 px, 0 degrees"].value == 0
    assert not any("class" in name for name in results)
