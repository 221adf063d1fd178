"""What is made of a photo's bytes."""

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
from tests.demo.photo import PLACES, encoded, photo
from tests.evaluation import factories

pytest.importorskip("cv2", reason="OpenCV is not installed: the extra demo brings it")


@pytest.fixture(scope="module")
def opened(tmp_path_factory) -> loading.Run:
    return loading.open_run(factories.run(tmp_path_factory.mktemp("demo") / "run", seed=1))


@pytest.fixture(scope="module")
def recognise(opened) -> predictor.FacePredictor:
    return predictor.FacePredictor(opened)


@pytest.fixture(scope="module")
def found(recognise) -> predictor.PhotoResult:
    return recognise(encoded(photo()))


def test_each_face_is_where_it_was_drawn(found):
    assert (found.width, found.height, len(found.faces)) == (640, 400, len(PLACES))
    for face, (left, top, side) in zip(found.faces, PLACES):
        across, down = face.box.left + face.box.width / 2, face.box.top + face.box.height / 2
        assert np.hypot(across - left - side / 2, down - top - side / 2) < 0.15 * side


def test_the_probabilities_are_those_of_the_network_for_what_is_cut_out(found, opened):
    cuts = np.stack([face_detection.crop(photo(), face.box) for face in found.faces])
    expected = inference.predict([opened.model], cuts).probabilities
    np.testing.assert_allclose([face.probabilities for face in found.faces], expected, atol=1e-5)


def test_what_is_shown_is_the_face_and_the_face_under_its_map(found, opened):
    cuts = np.stack([face_detection.crop(photo(), face.box) for face in found.faces])
    classes = np.array([face.probabilities.argmax() for face in found.faces])
    maps = gradcam.heatmaps(opened.model, cuts, classes)  # all at once, as the page does: other batches round otherwise
    for face, cut, heat in zip(found.faces, cuts, maps):
        seen, looked_at = (np.asarray(Image.open(io.BytesIO(png))) for png in (face.seen, face.looked_at))
        np.testing.assert_array_equal(seen[::4, ::4], cut[..., 0])
        np.testing.assert_array_equal(looked_at, np.asarray(predictor.under_heat(cut[..., 0], heat)))


def test_the_place_that_speaks_most_is_the_brightest_and_reddest():
    heat = np.zeros((48, 48), np.float32)
    heat[30:40, 5:15] = 1
    drawn = np.asarray(predictor.under_heat(np.full((48, 48), 90, np.uint8), heat)).astype(int)
    hot, cold = drawn[4 * 35, 4 * 10], drawn[4 * 10, 4 * 35]
    assert hot.sum() > 2 * cold.sum()
    assert hot[0] - hot[2] > cold[0] - cold[2]


def test_of_a_crowd_the_largest_faces_are_taken(recognise, monkeypatch):
    monkeypatch.setattr(predictor, "MOST_FACES", 1)
    (face,) = recognise(encoded(photo())).faces
    assert abs(face.box.left - PLACES[0][0]) < 40


def test_a_network_that_cannot_be_looked_into_still_names_the_faces(opened):
    class Export:
        def __call__(self, images, training):
            return opened.model(images, training=training)

    faces = predictor.FacePredictor(dataclasses.replace(opened, model=Export()))(encoded(photo())).faces
    assert [face.looked_at for face in faces] == [None, None]
    assert predictor.as_json(predictor.PhotoResult(1, 1, faces))["faces"][0]["looked_at"] is None


def bomb(width: int, height: int) -> bytes:
    """A PNG's header alone: to see how large it says it is, nothing more need be read."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rest = b"IDAT" + zlib.compress(b"\0" * 1000)
    parts = [struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in (header, rest)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a letter", r"is no picture that is read \(JPEG, PNG, WebP, BMP, GIF, TIFF and PPM/PGM are\)"),
        (b"", "is no picture that is read"),
        (encoded(photo())[:3000], "is no picture that can be read"),
        (b"\xff\xd8\xff and nothing of a JPEG after that", r"can be read \(it is damaged or no picture; JPEG, PNG, "),
        (bomb(10_000, 10_000), "it has 10000 x 10000 pixels, more than"),
        (bomb(30_000, 30_000), "is no picture that can be read"),
        (encoded(Image.new("RGB", (320, 240), "green"), "JPEG"), "No face was found"),
    ],
    ids=["another kind", "nothing", "cut short", "damaged", "large", "decompression bomb", "no face"],
)
def test_what_cannot_be_shown_is_told_in_a_sentence(recognise, content, said):
    with pytest.raises(UserError, match=said):
        recognise(content)


def test_a_bomb_is_refused_before_it_is_unpacked(recognise, monkeypatch):
    def unpacked(*_):
        raise AssertionError("it was unpacked")

    monkeypatch.setattr(Image.Image, "convert", unpacked)
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", unpacked)
    with pytest.raises(UserError, match="more than"):
        recognise(bomb(10_000, 10_000))
