"""Tests of `fer.predict.result_files` on photos composed of synthetic faces."""

import csv
import os
import pathlib

import numpy as np
import pytest
from PIL import Image

from fer.errors import UserError
from fer.labels import CLASSES
from fer.predict import face_detection, inputs, result_files
from fer.predict.classification import Face, Result, Source
from fer.synthetic import synthetic
from tests.demo.photo import encoded, make_photo
from tests.predict import reading

pytest.importorskip("cv2", reason="OpenCV is not installed: the extra photos brings it")

BOX = face_detection.Box(60, 80, 192, 192)


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
    """Writes a photo of two faces, a photo of none, and a picture of 48x48 pixels."""
    folder = tmp_path / "pictures"
    (folder / "below").mkdir(parents=True)
    (folder / "a.png").write_bytes(encoded(make_photo()))
    (folder / "below" / "b.jpg").write_bytes(encoded(Image.new("RGB", (320, 240), "green"), "JPEG"))
    (folder / "c.png").write_bytes(encoded(Image.fromarray(synthetic.generate_faces(2, seed=0)[0][0])))
    return folder


def make_face(label: int, box: face_detection.Box | None = BOX) -> Face:
    return Face("", box, label, CLASSES[label], dict(zip(CLASSES, np.eye(len(CLASSES))[label])))


def write(output: pathlib.Path, results: list[Result], source: str = "nowhere", kaggle: bool = False) -> list[str]:
    with result_files.open_files(str(output), [source], kaggle) as collector:
        for result in results:
            collector.add(result)
    return collector.paths


def test_read_detects_faces_in_photos_and_takes_48x48_pictures_whole(folder):
    found = reading.read(str(folder))
    assert found.names == ["a.png#1", "a.png#2", "c.png"]
    assert [result.source.name for result in found.results if not result.faces] == ["below/b.jpg"]
    np.testing.assert_array_equal(found.images[2, ..., 0], synthetic.generate_faces(2, seed=0)[0][0])


def test_predict_reports_photo_without_faces(folder, monkeypatch):
    monkeypatch.chdir(folder / "below")
    with pytest.raises(UserError, match=r"No face was found in b\.jpg\. --faces=whole"):
        reading.read("b.jpg")


def test_open_files_saves_annotated_photos_by_name_beside_csv(folder, tmp_path):
    labels = iter([0, 3, 5])
    results = [
        result._replace(faces=[make_face(next(labels), face.box) for face in result.faces])
        for result in reading.read(str(folder)).results
    ]
    output = tmp_path / "out" / "found.csv"
    written = write(output, results)
    assert written == [str(tmp_path / "out" / "found-photos" / "a.png"), str(output)]
    assert Image.open(written[0]).size == (640, 400)
    lines = output.read_text().splitlines()
    assert [line.split(",")[:3] for line in lines[1:]] == [
        ["a.png#1", "0", "angry"],
        ["a.png#2", "3", "happy"],
        ["c.png", "5", "surprise"],
    ]
    assert lines[1].split(",")[-4:] == [str(side) for side in results[0].faces[0].box]
    assert lines[3].split(",")[-4:] == [""] * 4


def test_photo_name_cannot_leave_the_output_folder(tmp_path):
    photo = Source("a.tar:../../a.png", "../../a.png", encoded(make_photo()))
    written = write(tmp_path / "p.csv", [Result(photo, [make_face(0)])])
    assert written[0] == str(tmp_path / "p-photos" / "a.png")


def test_open_files_numbers_photos_of_equal_names(tmp_path):
    content = encoded(make_photo())
    results = [
        Result(Source(f"a.tar:{path}", path, content), [make_face(0)]) for path in ("../a.png", "a.png", "b", "b.jpg")
    ]
    names = [pathlib.Path(path).name for path in write(tmp_path / "p.csv", results)]
    assert names == ["a.png", "a-2.png", "b.jpg", "b-2.jpg", "p.csv"]
    assert {path.name for path in (tmp_path / "p-photos").iterdir()} == set(names[:4])


def test_open_files_shortens_names_that_file_systems_do_not_have(tmp_path):
    content = encoded(make_photo())
    long = "x" * 251
    names = [f"{long[2:]}.tif", f"{long}.tif", f"{long}.bmp", f"{'é' * 127}x", f"{'d' * 300}/a.png"]
    results = [Result(Source(name, name, content), [make_face(0)]) for name in names]
    for _ in range(2):  # the second time the folder is there
        *photos, _ = write(tmp_path / "p.csv", results)
    expected = [f"{long[2:]}.t.jpg", f"{long}.jpg", f"{long[2:]}-2.jpg", f"{'é' * 125}.jpg", f"{'d' * 255}/a.png"]
    assert [os.path.relpath(path, tmp_path / "p-photos") for path in photos] == expected
    assert all(pathlib.Path(path).is_file() for path in photos)
    with (tmp_path / "p.csv").open(newline="") as file:
        assert [line["id"] for line in csv.DictReader(file)] == [f"{name}#1" for name in names]


def test_open_files_writes_photos_too_long_for_jpeg_as_png(tmp_path):
    content = encoded(Image.new("L", (65_501, 20)))
    results = [
        Result(Source(name, name, content), [make_face(0, face_detection.Box(0, 0, 20, 20))])
        for name in ("a.jpg", "a.jpg.png", "b")
    ]
    *photos, _ = write(tmp_path / "p.csv", results)
    assert [pathlib.Path(path).name for path in photos] == ["a.jpg.png", "a.jpg-2.png", "b.png"]
    with Image.open(photos[0]) as image:
        assert (image.format, image.size) == ("PNG", (65_501, 20))


@pytest.mark.parametrize(
    ("output", "message"), [(f"{'x' * 250}.csv", "File name too long"), ("taken.csv", "taken-photos is a file")]
)
def test_check_output_rejects_folder_of_photos_that_cannot_be_written(tmp_path, monkeypatch, output, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken-photos").touch()
    with pytest.raises(UserError, match=message):
        check_output(output, "in", faces="find")


@pytest.mark.parametrize(
    ("source", "output"),
    [("pictures", "pictures/found.csv"), ("x-photos", "x.csv"), ("x-photos/a.png", "x.csv"), ("x-photos", "./x.csv")],
)
def test_open_files_rejects_annotated_photos_among_input(folder, tmp_path, monkeypatch, source, output):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x-photos").symlink_to(folder)
    with pytest.raises(UserError, match=r"would be written to .*-photos, among those of --input"):
        write(output, reading.read(source).results, source)
    assert not pathlib.Path(output).exists()


@pytest.mark.parametrize("source", ["pictures", "pictures/a.png"])
def test_open_files_accepts_annotated_photos_beside_input(folder, tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    assert "pictures.csv" in write("pictures.csv", reading.read(source).results, source)


def check_output(output: str, source: str, faces: str = "auto", kaggle: bool = False) -> None:
    inputs.check_output(output, [source], False, kaggle, faces)


@pytest.mark.parametrize("kaggle", [False, True])
def test_check_output_accepts_the_result_of_an_earlier_prediction_in_a_folder_of_the_input(
    folder, tmp_path, monkeypatch, kaggle
):
    monkeypatch.chdir(tmp_path)
    results = [Result(Source("a.csv", "a.csv", b"", row=0), [make_face(3, box=None)])]
    for _ in range(2):
        check_output("pictures/found.csv", "pictures", faces="whole", kaggle=kaggle)
        write("pictures/found.csv", results, kaggle=kaggle)


@pytest.mark.parametrize("name", ["a.jpg", "below/b.PNG", "c.jpeg"])
def test_check_output_rejects_folder_of_pictures_that_no_prediction_wrote(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    original = tmp_path / "holiday-photos" / name
    original.parent.mkdir(parents=True)
    original.write_bytes(encoded(make_photo(), "JPEG"))
    message = rf"holiday-photos, where .*{name} was not written by an earlier prediction"
    with pytest.raises(UserError, match=message):
        check_output("holiday.csv", "in", faces="find")
    check_output("holiday.csv", "in", faces="whole")
    check_output("holiday.csv", "in", faces="auto")  # it may hold no photo to annotate
    face = Result(Source("a.png", "a.png", b""), [make_face(0, box=None)])
    assert write(pathlib.Path("holiday.csv"), [face]) == ["holiday.csv"]
    photo = Result(Source("b.png", "b.png", encoded(make_photo())), [make_face(0)])
    with pytest.raises(UserError, match=message):
        write(pathlib.Path("holiday.csv"), [face, photo])
    assert original.read_bytes() == encoded(make_photo(), "JPEG")
    check_output("holiday.csv", "in.csv", kaggle=True)
    check_output("holiday.csv", "in.mp4")


def test_check_output_accepts_folder_of_an_earlier_prediction(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = encoded(make_photo())
    results = [Result(Source(name, name, content), [make_face(0)]) for name in ("a.png", "b.jpg", "c.tif")]
    for _ in range(2):
        write("found.csv", results)
        (tmp_path / "found-photos" / ".DS_Store").write_text("no picture")
        check_output("found.csv", "pictures", faces="find")
    for name in ("a.png", "b.jpg", "c.tif.jpg"):
        with Image.open(tmp_path / "found-photos" / name) as image:
            assert image.convert("L").size == (640, 400)


def test_open_files_rejects_submission_for_photos(folder, tmp_path):
    with pytest.raises(UserError, match="--kaggle writes labels in the order of a table's rows"):
        write(tmp_path / "p.csv", reading.read(str(folder)).results, kaggle=True)


@pytest.mark.parametrize(("source", "output"), [("a.csv", "./a.csv"), ("a.csv", "link.csv"), ("few", "few/a.png")])
def test_check_output_never_replaces_the_input(tmp_path, monkeypatch, source, output):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("pixels\n" + " ".join(["7"] * 2304) + "\n")
    (tmp_path / "link.csv").symlink_to("a.csv")
    (tmp_path / "few").mkdir()
    Image.new("L", (48, 48)).save(tmp_path / "few" / "a.png")
    with pytest.raises(UserError, match=r"would replace a file of --input"):
        inputs.check_output(output, [source], json=False, kaggle=False, faces="auto")


def test_open_files_rejects_submission_for_pictures_of_faces(tmp_path):
    Image.new("L", (48, 48)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match="--kaggle writes labels in the order of a table's rows"):
        write(tmp_path / "p.csv", reading.read(str(tmp_path / "a.png")).results, kaggle=True)
    assert not (tmp_path / "p.csv").exists()
