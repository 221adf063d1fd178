"""Tests of fer/demo/predictor.py."""

import dataclasses
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from fer.demo import predictor
from fer.errors import UserError
from fer.evaluation import inference
from fer.models import loading
from fer.predict import face_detection
from fer.viz import gradcam
from tests.demo.photo import PLACES, encoded, make_photo
from tests.evaluation import factories

pytest.importorskip("cv2", reason="OpenCV is not installed: the extra demo brings it")


@pytest.fixture(scope="module")
def opened(tmp_path_factory) -> loading.LoadedRun:
    return loading.open_run(factories.run(tmp_path_factory.mktemp("demo") / "run", seed=1))


@pytest.fixture(scope="module")
def predict(opened) -> predictor.FacePredictor:
    return predictor.FacePredictor(opened)


@pytest.fixture(scope="module")
def result(predict) -> predictor.PhotoResult:
    return predict(encoded(make_photo()))


def test_face_predictor_locates_each_face(result):
    assert (result.width, result.height, len(result.faces)) == (640, 400, len(PLACES))
    for face, (left, top, side) in zip(result.faces, PLACES):
        across, down = face.box.left + face.box.width / 2, face.box.top + face.box.height / 2
        assert np.hypot(across - left - side / 2, down - top - side / 2) < 0.15 * side


def test_face_predictor_returns_probabilities_of_the_cropped_faces(result, opened):
    crops = np.stack([face_detection.crop(make_photo(), face.box) for face in result.faces])
    expected = inference.predict([opened.model], crops).probabilities
    np.testing.assert_allclose([face.probabilities for face in result.faces], expected, atol=1e-5)


def test_face_predictor_draws_model_input_and_gradcam_of_each_face(result, opened):
    crops = np.stack([face_detection.crop(make_photo(), face.box) for face in result.faces])
    classes = np.array([face.probabilities.argmax() for face in result.faces])
    maps = gradcam.heatmaps(
        opened.model, crops, classes
    )  # in one batch like the predictor: another batch size rounds differently
    for face, crop, heat in zip(result.faces, crops, maps):
        shown, overlaid = (np.asarray(Image.open(io.BytesIO(png))) for png in (face.input_png, face.gradcam_png))
        np.testing.assert_array_equal(shown[::4, ::4], crop[..., 0])
        np.testing.assert_array_equal(overlaid, np.asarray(predictor.overlay(crop[..., 0], heat)))


def test_overlay_is_brightest_and_reddest_where_the_map_is_highest():
    heat = np.zeros((48, 48), np.float32)
    heat[30:40, 5:15] = 1
    drawn = np.asarray(predictor.overlay(np.full((48, 48), 90, np.uint8), heat)).astype(int)
    hot, cold = drawn[4 * 35, 4 * 10], drawn[4 * 10, 4 * 35]
    assert hot.sum() > 2 * cold.sum()
    assert hot[0] - hot[2] > cold[0] - cold[2]


def test_face_predictor_keeps_largest_faces_when_there_are_too_many(predict, monkeypatch):
    monkeypatch.setattr(predictor, "MAX_FACES", 1)
    (face,) = predict(encoded(make_photo())).faces
    assert abs(face.box.left - PLACES[0][0]) < 40


def test_face_predictor_omits_gradcam_when_model_has_no_layers(opened):
    class Export:
        def __call__(self, images, training):
            return opened.model(images, training=training)

    faces = predictor.FacePredictor(dataclasses.replace(opened, model=Export()))(encoded(make_photo())).faces
    assert [face.gradcam_png for face in faces] == [None, None]
    assert predictor.to_json(predictor.PhotoResult(1, 1, faces))["faces"][0]["looked_at"] is None


def bomb(width: int, height: int) -> bytes:
    """Returns a PNG whose header states a size and whose data are too short for it."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rest = b"IDAT" + zlib.compress(b"\0" * 1000)
    parts = [struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in (header, rest)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a letter", r"is not a supported image\. Supported formats: JPEG, PNG, WebP, BMP, GIF, TIFF and PPM/PGM"),
        (b"", "is not a supported image"),
        (encoded(make_photo())[:3000], "This image cannot be read"),
        (
            b"\xff\xd8\xff and nothing of a JPEG after that",
            r"cannot be read \(it is damaged or no picture; JPEG, PNG, ",
        ),
        (bomb(10_000, 10_000), "it has 10000 x 10000 pixels, more than"),
        (bomb(30_000, 30_000), "This image cannot be read"),
        (encoded(Image.new("RGB", (320, 240), "green"), "JPEG"), "No face was found"),
    ],
    ids=["other format", "empty", "truncated", "damaged", "large", "decompression bomb", "no face"],
)
def test_face_predictor_rejects_unusable_files(predict, content, message):
    with pytest.raises(UserError, match=message):
        predict(content)


def test_face_predictor_rejects_decompression_bomb_before_decoding(predict, monkeypatch):
    def fail_decoding(*_):
        raise AssertionError("the image was decoded")

    monkeypatch.setattr(Image.Image, "convert", fail_decoding)
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail_decoding)
    with pytest.raises(UserError, match="more than"):
        predict(bomb(10_000, 10_000))
