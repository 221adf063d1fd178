"""Tests of `fer.predict.face_detection` on photos composed of synthetic faces."""

import pathlib

import numpy as np
import pytest
from PIL import Image

from fer.convert.readers import image_reader
from fer.convert.readers.image_folder import Picture
from fer.errors import UserError
from fer.io.temp_store import TempStore
from fer.labels import CLASSES
from fer.predict import face_detection, input_readers, predict
from fer.synthetic import synthetic
from tests.demo.photo import PLACES, encoded, make_photo

pytest.importorskip("cv2", reason="OpenCV is not installed: the extra photos brings it")


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    return synthetic.generate_faces(2, seed=0)[0]


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return make_photo()


@pytest.fixture
def folder(tmp_path, photo, faces):
    """Writes a photo of two faces, a photo of none, and a picture of 48x48 pixels."""
    folder = tmp_path / "pictures"
    (folder / "below").mkdir(parents=True)
    (folder / "a.png").write_bytes(encoded(photo))
    (folder / "below" / "b.jpg").write_bytes(encoded(Image.new("RGB", (320, 240), "green"), "JPEG"))
    (folder / "c.png").write_bytes(encoded(Image.fromarray(faces[0])))
    return folder


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


def test_annotate_draws_boxes_in_class_colours_on_a_copy(photo):
    before = photo.copy()
    annotated = face_detection.annotate(
        photo, [face_detection.Box(60, 80, 192, 192)], np.eye(7)[[CLASSES.index("happy")]]
    )
    assert photo == before
    assert annotated.getpixel((60, 200)) == (0xE6, 0x9F, 0x00)
    assert annotated.getpixel((620, 390)) == photo.getpixel((620, 390))


def test_read_detects_faces_in_photos_and_takes_48x48_pictures_whole(folder, faces):
    faces_read = input_readers.read(str(folder))
    assert faces_read.names == ["a.png#1", "a.png#2", "c.png"]
    assert faces_read.faceless == ["below/b.jpg"]
    np.testing.assert_array_equal(faces_read.images[2, ..., 0], faces[0])


def test_predict_reports_photo_without_faces(folder):
    with pytest.raises(UserError, match=r"No face was found in b\.jpg\. --faces=whole"):
        input_readers.read(str(folder / "below" / "b.jpg"))


def test_write_saves_annotated_photos_by_name_beside_csv(folder, tmp_path):
    faces_read = input_readers.read(str(folder))
    output = str(tmp_path / "out" / "found.csv")
    written = predict.write(output, faces_read, np.eye(7, dtype=np.float32)[[0, 3, 5]], kaggle=False)
    assert written == [str(tmp_path / "out" / "found-photos" / "a.png"), output]
    assert Image.open(written[0]).size == (640, 400)
    lines = (tmp_path / "out" / "found.csv").read_text().splitlines()
    assert [line.split(",")[:3] for line in lines[1:]] == [
        ["a.png#1", "0", "angry"],
        ["a.png#2", "3", "happy"],
        ["c.png", "5", "surprise"],
    ]
    assert lines[1].split(",")[-4:] == [str(side) for side in faces_read.photos[0].boxes[0]]


def test_photo_name_cannot_leave_the_output_folder(photo, tmp_path):
    boxes = [face_detection.Box(60, 80, 192, 192)]
    picture = input_readers.StoredPicture.append(
        TempStore(), Picture("a.tar:../../a.png", "../../a.png", encoded(photo))
    )
    faces_read = input_readers.Faces(
        ["x#1"], np.zeros((1, 48, 48, 1), np.uint8), [input_readers.Photo(picture, boxes, 0)], []
    )
    written = predict.write(str(tmp_path / "p.csv"), faces_read, np.eye(7)[:1], kaggle=False)
    assert written[0] == str(tmp_path / "p-photos" / "a.png")


def test_write_numbers_photos_of_equal_names(photo, tmp_path):
    store, box = TempStore(), [face_detection.Box(60, 80, 192, 192)]
    pictures = [Picture(f"a.tar:{path}", path, encoded(photo)) for path in ("../a.png", "a.png", "b", "b.jpg")]
    photos = [
        input_readers.Photo(input_readers.StoredPicture.append(store, picture), box, first)
        for first, picture in enumerate(pictures)
    ]
    faces = input_readers.Faces([picture.path for picture in pictures], np.zeros((4, 48, 48, 1), np.uint8), photos, [])
    written = predict.write(str(tmp_path / "p.csv"), faces, np.eye(7)[:4], kaggle=False)
    names = [pathlib.Path(path).name for path in written]
    assert names == ["a.png", "a-2.png", "b.jpg", "b-2.jpg", "p.csv"]
    assert {path.name for path in (tmp_path / "p-photos").iterdir()} == set(names[:4])


@pytest.mark.parametrize(
    ("source", "output"),
    [("pictures", "pictures/found.csv"), ("x-photos", "x.csv"), ("x-photos/a.png", "x.csv"), ("x-photos", "./x.csv")],
)
def test_check_rejects_annotated_photos_among_input(folder, tmp_path, monkeypatch, source, output):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x-photos").symlink_to(folder)
    with pytest.raises(UserError, match=r"would be written to .*-photos, among those of --input"):
        predict.check(source, output, input_readers.read(source), kaggle=False)


@pytest.mark.parametrize("source", ["pictures", "pictures/a.png"])
def test_check_accepts_annotated_photos_beside_input(folder, tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    predict.check(source, "pictures.csv", input_readers.read(source), kaggle=False)


def test_check_rejects_submission_for_photos(folder, tmp_path):
    with pytest.raises(UserError, match="--kaggle writes labels in the order of a table's rows"):
        predict.check(str(folder), str(tmp_path / "p.csv"), input_readers.read(str(folder)), kaggle=True)


@pytest.mark.parametrize(("source", "output"), [("a.csv", "./a.csv"), ("a.csv", "link.csv"), ("few", "few/a.png")])
def test_predict_never_replaces_its_input(tmp_path, monkeypatch, source, output):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("pixels\n" + " ".join(["7"] * 2304) + "\n")
    (tmp_path / "link.csv").symlink_to("a.csv")
    (tmp_path / "few").mkdir()
    Image.new("L", (48, 48)).save(tmp_path / "few" / "a.png")
    with pytest.raises(UserError, match=r"would replace a file of --input"):
        predict.check(source, output, input_readers.read(source), kaggle=False)


def test_check_rejects_submission_for_pictures_of_faces(tmp_path):
    Image.new("L", (48, 48)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match="--kaggle writes labels in the order of a table's rows"):
        predict.check(str(tmp_path), str(tmp_path / "p.csv"), input_readers.read(str(tmp_path)), kaggle=True)
