"""Tests of `fer.predict.face_detection` on photos composed of synthetic faces."""

import numpy as np
import pytest
from matplotlib import cbook
from PIL import Image

from fer.convert.readers import image_reader
from fer.labels import CLASSES
from fer.predict import face_detection, tracking
from tests.demo.photo import PLACES, encoded, make_photo

pytest.importorskip("cv2", reason="OpenCV is not installed: the extra photos brings it")


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return make_photo()


def test_detect_returns_every_face_from_left_to_right(photo):
    boxes = face_detection.detect(photo)
    assert len(boxes) == 2
    for box, (left, top, side) in zip(boxes, PLACES):
        middle = (box.left + box.width / 2, box.top + box.height / 2)
        assert np.hypot(middle[0] - left - side / 2, middle[1] - top - side / 2) < 0.15 * side
        assert 0.6 * side < box.width < 1.2 * side


def test_detect_scales_boxes_of_a_photo_too_large_to_search(photo):
    large = photo.resize((6 * photo.width, 6 * photo.height), Image.Resampling.BICUBIC)
    np.testing.assert_allclose(np.array(face_detection.detect(large)) / 6, face_detection.detect(photo), atol=12)


@pytest.fixture(scope="module")
def portrait() -> Image.Image:
    """Opens a photo of the U.S. Navy (public domain); its face is about 200 pixels high."""
    with Image.open(cbook.get_sample_data("grace_hopper.jpg")) as image:
        return image.convert("RGB")


@pytest.mark.parametrize("side", [24, 48, 96, 200, 900])
def test_detect_finds_the_face_of_a_portrait_at_any_size(portrait, side):
    width, height = (round(length * side / 200) for length in portrait.size)
    (box,) = face_detection.detect(portrait.resize((width, height), Image.Resampling.BICUBIC))
    np.testing.assert_allclose(np.array(box) / width * 512, [157, 105, 211, 211], atol=18)


@pytest.mark.parametrize("angle", [-45, -30, 15, 45])
def test_detect_finds_a_tilted_face(portrait, angle):
    (box,) = face_detection.detect(portrait.rotate(angle, Image.Resampling.BICUBIC, center=(263, 210)))
    assert abs(box.left + box.width / 2 - 263) < 25
    assert abs(box.top + box.height / 2 - 210) < 25


def test_detect_keeps_boxes_of_faces_at_the_border_square_and_inside(portrait):
    for window in ((230, 0, 512, 600), (0, 0, 300, 600), (0, 180, 512, 600), (165, 110, 365, 330)):
        part = portrait.crop(window)
        (box,) = face_detection.detect(part)
        assert box.width == box.height
        assert 0 <= box.left <= box.left + box.width <= part.width
        assert 0 <= box.top <= box.top + box.height <= part.height


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (5000, 30), (48, 47)])
def test_detect_returns_nothing_for_tiny_and_thin_images(size):
    assert face_detection.detect(Image.new("RGB", size, "grey")) == []


@pytest.mark.parametrize("shift", [(0, 0), (12, -9), (-60, 0), (0, -80)])
def test_detect_near_finds_moved_faces_at_the_places_of_detect(photo, shift):
    before = face_detection.detect(photo)
    moved = Image.fromarray(np.roll(photo, shift, axis=(1, 0)))  # by -60 and -80 to the edges of the photo
    near = [face_detection.Box(box.left + shift[0] // 2, box.top + shift[1] // 2, *box[2:]) for box in before]
    found, expected = face_detection.detect_near(moved, near), face_detection.detect(moved)
    assert len(found) == len(expected) == 2
    assert min(tracking.iou(*boxes) for boxes in zip(found, expected)) > 0.7


def test_detect_near_finds_each_face_once_and_nothing_elsewhere(photo):
    first, _ = face_detection.detect(photo)
    assert len(face_detection.detect_near(photo, [first, first._replace(left=first.left + 9)])) == 1
    assert face_detection.detect_near(photo, [first._replace(left=250, top=0, width=60, height=60)]) == []


def test_crop_equals_pillow_grey_crop(photo):
    box = face_detection.Box(60, 80, 96, 96)
    expected = photo.crop((60, 80, 156, 176)).convert("L").resize((48, 48), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(face_detection.crop(photo, box)[..., 0], np.asarray(expected))


def test_decode_picture_turns_sideways_photo_upright(photo):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned to the right
    sideways = encoded(photo.rotate(90, expand=True), "JPEG", quality=95, exif=exif)
    upright = image_reader.decode_picture(sideways, "RGB").image
    assert upright.size == photo.size
    assert np.abs(np.asarray(upright).astype(int) - np.asarray(photo)).mean() < 3


def test_decode_picture_keeps_orientation_when_exif_is_damaged(photo):
    damaged = Image.Exif()
    damaged[0x0112] = 6
    text = damaged.tobytes().replace(b"\x01\x12\x00\x03", b"\x01\x12\x00\x02").replace(b"Exif\x00\x00", b"")
    for exif in (b"II*\x00", text):
        image = image_reader.decode_picture(encoded(photo, exif=exif), "RGB").image
        np.testing.assert_array_equal(np.asarray(image), np.asarray(photo))


def test_decode_picture_converts_16_bit_grey_to_8_bits_without_clipping():
    ramp = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    image = image_reader.decode_picture(encoded(Image.fromarray(ramp)), "RGB").image
    np.testing.assert_array_equal(np.asarray(image)[..., 0], ramp >> 8)


def test_decode_picture_rejects_too_many_pixels_without_reading_them(monkeypatch, photo):
    monkeypatch.setattr(image_reader, "MAX_PIXELS", 1000)
    with pytest.raises(image_reader.PictureError, match=r"it has 640 x 400 pixels, more than 1,000"):
        image_reader.decode_picture(encoded(photo), "RGB")


@pytest.mark.parametrize("size", [(200, 120), (300, 18)])
def test_annotate_draws_the_label_of_a_box_from_edge_to_edge_inside(size):
    grey = Image.new("RGB", size, "grey")
    outline = (0xE6, 0x9F, 0x00)
    annotated = face_detection.annotate(
        grey, [face_detection.Box(0, 0, *size)], np.eye(7)[[CLASSES.index("happy")]], CLASSES
    )
    label = np.asarray(annotated)[-19:-3, 3:60].reshape(-1, 3)
    assert (label == outline).all(axis=1).mean() > 0.4
    assert (label == 0).all(axis=1).any()  # the text


def test_annotate_draws_boxes_in_class_colours_on_a_copy(photo):
    before = photo.copy()
    annotated = face_detection.annotate(
        photo, [face_detection.Box(60, 80, 192, 192)], np.eye(7)[[CLASSES.index("happy")]], CLASSES
    )
    assert photo == before
    assert annotated.getpixel((60, 200)) == (0xE6, 0x9F, 0x00)
    assert annotated.getpixel((620, 390)) == photo.getpixel((620, 390))
