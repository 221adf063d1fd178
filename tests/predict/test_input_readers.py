"""Tests of `fer.predict.input_readers`: all input formats are read in order, or the error names the fault."""

import gzip
import io
import os
import pathlib

import numpy as np
import pytest
from PIL import Image

from fer.config import FITS
from fer.convert.readers import image_reader
from fer.errors import UserError
from fer.predict import input_readers, inputs
from tests.evaluation import factories
from tests.predict import reading

SHARED = pathlib.Path(os.environ.get("FER_SHARED", "../shared")) / "data" / "test.csv.gz"


@pytest.fixture
def faces() -> np.ndarray:
    return factories.images(5)


def pixels(faces: np.ndarray) -> list:
    return [" ".join(map(str, face.ravel())) for face in faces]


def png(face: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(face).save(file, "png")
    return file.getvalue()


def folder_of_pictures(folder: pathlib.Path, faces: np.ndarray) -> str:
    for name, face in zip(("b.png", "a.png", "deeper/c.png"), faces[..., 0]):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(face))
    (folder / "notes.txt").write_text("no picture")
    return str(folder)


def test_read_of_challenge_test_csv_returns_rows_in_order(faces, tmp_path):
    path = tmp_path / "test.csv"
    path.write_text("pixels\n" + "".join(f'"{text}"\n' for text in pixels(faces)))
    names, found = reading.read(str(path))[:2]
    assert names == ["0", "1", "2", "3", "4"]
    np.testing.assert_array_equal(found, faces)


def test_read_ignores_invalid_labels_and_usage(faces, tmp_path):
    path, rows = tmp_path / "test.csv", zip(["", "-1", "x", "7", "happy"], pixels(faces))
    path.write_text("emotion,pixels,Usage\n" + "".join(f"{label},{text},Test\n" for label, text in rows))
    np.testing.assert_array_equal(reading.read(str(path)).images, faces)


def test_read_of_compressed_table_equals_plain_table(faces, tmp_path):
    path = tmp_path / "test.csv.gz"
    path.write_bytes(gzip.compress(("pixels\n" + "\n".join(pixels(faces))).encode()))
    np.testing.assert_array_equal(reading.read(str(path))[1], faces)


def test_read_ignores_labels_and_usage_of_fer2013(faces, tmp_path):
    path = tmp_path / "fer2013.csv"
    path.write_text("emotion,pixels,Usage\n" + "".join(f"3,{text},PrivateTest\n" for text in pixels(faces)))
    names, found, *_ = reading.read(str(path))
    assert names == ["0", "1", "2", "3", "4"]
    np.testing.assert_array_equal(found, faces)


def test_read_numbers_rows_across_chunks_of_a_table(tmp_path):
    path = tmp_path / "test.csv"
    many = np.repeat(np.arange(250, dtype=np.uint8), 48 * 48).reshape(-1, 48, 48, 1)
    path.write_text("pixels\n" + "\n".join(pixels(many)))
    names, found, *_ = reading.read(str(path))
    assert names == [str(row) for row in range(250)]
    np.testing.assert_array_equal(found, many)


def test_read_of_image_folder_is_ordered_by_name(faces, tmp_path):
    names, found, *_ = reading.read(folder_of_pictures(tmp_path / "faces", faces))
    assert names == ["a.png", "b.png", "deeper/c.png"]
    np.testing.assert_array_equal(found, faces[[1, 0, 2]])


def test_read_takes_single_48x48_image_as_a_face(faces, tmp_path):
    path = tmp_path / "face.png"
    path.write_bytes(png(faces[0, ..., 0]))
    names, found, *_ = reading.read(str(path))
    assert names == ["face.png"]
    np.testing.assert_array_equal(found, faces[:1])


def test_read_converts_whole_colour_picture_to_48x48_grey(tmp_path):
    path = tmp_path / "large.png"
    path.write_bytes(png(np.full((96, 144, 3), (255, 0, 0), np.uint8)))
    _, found, *_ = reading.read(str(path), faces="whole")
    np.testing.assert_array_equal(found, np.full((1, 48, 48, 1), 76))  # 0.299 of 255, ITU-R 601


@pytest.mark.skipif(not SHARED.exists(), reason=f"{SHARED} is absent; FER_SHARED names the folder of shared/data")
def test_read_of_original_challenge_file_returns_3589_faces():
    names, found, *_ = reading.read(str(SHARED))
    assert (names[0], names[-1], found.shape) == ("0", "3588", (3589, 48, 48, 1))
    assert found[0, 0, :4, 0].tolist() == [155, 157, 158, 149]


def test_read_error_names_missing_input(tmp_path):
    with pytest.raises(UserError, match=r"no .*nowhere\.csv"):
        reading.read(str(tmp_path / "nowhere.csv"))


def test_read_error_names_file_and_line_of_a_bad_row(faces, tmp_path):
    path = tmp_path / "test.csv"
    rows = pixels(faces)
    rows[2] = rows[2].rpartition(" ")[0]
    path.write_text("pixels\n" + "\n".join(rows))
    with pytest.raises(UserError, match=r"test\.csv, line 4"):
        reading.read(str(path))


def test_read_error_names_file_that_is_no_image(faces, tmp_path):
    folder = folder_of_pictures(tmp_path / "faces", faces)
    (tmp_path / "faces" / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    found = reading.read(folder)
    assert (found.names, len(found.unreadable)) == (["a.png", "deeper/c.png"], 1)
    assert found.unreadable[0].startswith(
        f"{folder}/b.png is no picture that can be read (it is damaged or no picture; JPEG"
    )
    np.testing.assert_array_equal(found.images, faces[[1, 2]])


def test_report_lists_unreadable_pictures_last_and_fails(faces, tmp_path, capsys):
    folder = folder_of_pictures(tmp_path / "faces", faces)
    for name in ("b.png", "a.png"):
        (tmp_path / "faces" / name).write_bytes(b"no picture")
    found = reading.read(folder)
    with pytest.raises(UserError, match=r"^2 pictures could not be read .*\. Repair .*; p\.csv has the other 1 faces"):
        found.summary.report("p.csv")
    listed = capsys.readouterr().err.splitlines()
    assert [line.split(" is no picture")[0] for line in listed] == [f"{folder}/a.png", f"{folder}/b.png"]


def test_report_counts_alterations_and_skipped_files(faces, tmp_path, capsys):
    folder = folder_of_pictures(tmp_path / "faces", faces)
    (tmp_path / "faces" / "wide.png").write_bytes(png(np.zeros((10, 20), np.uint8)))
    (tmp_path / "faces" / "new.heic").write_bytes(b"\0\0\0\x18ftypheic")
    reading.read(folder, "whole").summary.report("p.csv")
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("1 pictures are not square and were squashed") for line in lines)
    assert lines[-1] == "skipped files of other formats: 1 .heic, 1 .txt"


@pytest.mark.parametrize("fit", FITS)
def test_read_of_whole_pictures_equals_conversion(fit, tmp_path):
    sideways = np.rot90(factories.images(1)[0, :30, :, 0], 1).copy()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(sideways).save(tmp_path / "a.png", exif=exif)
    found = reading.read(str(tmp_path), "whole", fit)
    converted, _ = image_reader.read_face((tmp_path / "a.png").read_bytes(), fit)
    np.testing.assert_array_equal(found.images[0, ..., 0], converted)
    assert found.altered["turned"] == 1


def test_read_skips_hidden_files(faces, tmp_path):
    folder = folder_of_pictures(tmp_path / "faces", faces)
    for name in (".hidden.png", "@eaDir/a.png", "__MACOSX/._a.png"):
        (tmp_path / "faces" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "faces" / name).write_bytes(png(faces[0, ..., 0]))
    assert reading.read(folder).names == ["a.png", "b.png", "deeper/c.png"]


def test_read_reports_files_of_a_folder_that_cannot_be_read_and_reads_the_others(faces, tmp_path):
    folder = tmp_path / "faces"
    folder_of_pictures(folder, faces)
    name = os.fsdecode(b"caf\xe9.png")  # no UTF-8
    (folder / name).write_bytes(png(faces[3, ..., 0]))
    (folder / "gone.png").symlink_to("nowhere.png")
    (folder / "deeper" / "up").symlink_to("..")
    (folder / "old.zip").write_bytes(b"PK\x03\x04 and no more")
    os.mkfifo(folder / "pipe.png")
    found = reading.read(str(folder))
    assert [result.source.path for result in found.results if result.faces] == [
        f"{folder}/{each}" for each in ("a.png", "b.png", name, "deeper/c.png")
    ]
    assert found.names == ["a.png", "b.png", r"caf\xe9.png", "deeper/c.png"]
    assert [error.removeprefix(f"{folder}/")[:30] for error in found.unreadable] == [
        "gone.png is a link to nowhere.",
        "old.zip is truncated, damaged ",
        "pipe.png is neither a file nor",
    ]


def test_read_names_faces_of_several_inputs_by_their_paths(faces, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder_of_pictures(tmp_path / "faces", faces)
    pathlib.Path("test.csv").write_text("pixels\n" + "\n".join(pixels(faces[:2])))
    sources = input_readers.read(["faces", "test.csv", "nowhere.png"])
    assert [(source.name, source.error) for source in sources] == [
        *((f"faces/{name}", "") for name in ("a.png", "b.png", "deeper/c.png")),
        *((f"test.csv row {row}", "") for row in range(2)),
        ("nowhere.png", "There is no nowhere.png: check the name"),
    ]


def test_expand_replaces_patterns_unless_a_file_has_that_name(faces, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder_of_pictures(tmp_path / "faces [1]", faces)
    pathlib.Path("x[1].png").write_bytes(b"")
    pathlib.Path("x1.png").write_bytes(b"")
    assert inputs.expand(["x[1].png", "faces*/*.png", "**/c.png", "no*.png", "-"]) == [
        *("x[1].png", "faces [1]/a.png", "faces [1]/b.png", "faces [1]/deeper/c.png", "no*.png", "-")
    ]
    shown = ("a.png", "b.png", "deeper/c.png", "notes.txt")
    assert inputs.expand(["f*/**"]) == [f"faces [1]/{name}" for name in shown]
    with pytest.raises(UserError, match=r"^There is no no\*\.png\."):
        inputs.expand(["no*.png"])


@pytest.mark.parametrize("kind", ["webp", "bmp", "gif", "tiff", "ppm"])
def test_read_supports_every_format_alone_and_from_standard_input(kind, faces, tmp_path, monkeypatch):
    path = tmp_path / f"face.{kind}"
    Image.fromarray(faces[0, ..., 0]).save(path, **({"lossless": True} if kind == "webp" else {}))
    whole = reading.read(str(path)).images
    assert np.abs(whole[0].astype(int) - faces[0]).max() <= 3
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))
    np.testing.assert_array_equal(reading.read("-").images, whole)


def test_read_error_names_format_of_unsupported_image(tmp_path, monkeypatch):
    content = b"\0\0\0\x18ftypheic" + bytes(60)
    (tmp_path / "photo.heic").write_bytes(content)
    with pytest.raises(
        UserError, match=r"photo\.heic is a HEIC picture, which is not supported: save it as JPEG or PNG"
    ):
        reading.read(str(tmp_path / "photo.heic"))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    with pytest.raises(UserError, match="Standard input is a HEIC picture: --input=- reads"):
        reading.read("-")


def test_read_error_names_pictures_when_all_are_unreadable(tmp_path):
    for name in ("a.png", "b.jpg", "c.gif", "d.tif"):
        (tmp_path / name).write_bytes(b"no picture")
    with pytest.raises(
        UserError, match=r"/a\.png is no picture .*, .*/b\.jpg is .* and 1 more\. Repair or remove them\."
    ):
        reading.read(str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"hello\n1,2,3\n", b"\0" * 100], ids=["empty", "other columns", "binary"])
def test_read_error_names_file_of_another_format(content, tmp_path):
    path = tmp_path / "something.bin"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"something\.bin"):
        reading.read(str(path))


def test_read_rejects_table_without_rows(tmp_path):
    path = tmp_path / "test.csv"
    path.write_text("pixels\n")
    with pytest.raises(UserError, match="0 faces"):
        reading.read(str(path))


def test_read_error_names_folder_without_faces(tmp_path):
    with pytest.raises(UserError, match=str(tmp_path)):
        reading.read(str(tmp_path))


def test_read_error_names_standard_input_that_is_closed_or_write_only(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(UserError, match=r"^Standard input is closed"):
        reading.read("-")
    with open(os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT), "rb") as file:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(file))
        with pytest.raises(UserError, match=r"^Cannot read standard input: Bad file descriptor"):
            reading.read("-")


def test_read_takes_picture_from_standard_input(faces, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(png(faces[0, ..., 0]))))
    names, found, *_ = reading.read("-")
    assert names == ["stdin"]
    np.testing.assert_array_equal(found, faces[:1])


@pytest.mark.parametrize("content", [b"", b"pixels\n1 2 3"])
def test_read_rejects_standard_input_that_is_no_image(content, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    with pytest.raises(UserError, match="Standard input is no picture: --input=- reads"):
        reading.read("-")
