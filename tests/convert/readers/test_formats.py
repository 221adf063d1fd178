"""Formats of inputs are detected by content."""

import gzip

import numpy as np
import pytest

from fer.convert import parser_process
from fer.convert.readers import archives, formats
from fer.convert.readers.hashing_reader import HashingReader
from fer.errors import UserError
from tests.convert import input_factories
from tests.convert.readers.test_archives import make_tar, make_zip

IMAGES = input_factories.noise(3)
CSV = input_factories.make_csv(IMAGES).encode()


def read_images(path: str) -> np.ndarray:
    return np.concatenate(
        [parser_process.parse_chunk(piece)[0].images for piece in formats.iter_chunks(path, HashingReader())]
    )


@pytest.mark.parametrize(
    "content",
    [
        CSV,
        gzip.compress(CSV),
        gzip.compress(make_tar({"fer2013/README": b"about", "fer2013/fer2013.csv": CSV})),
        make_zip({"__MACOSX/._f.csv": b"\0\5\x16\7", "f.csv": CSV}),
    ],
)
def test_formats_find_table_whatever_the_file_name(content, tmp_path):
    np.testing.assert_array_equal(read_images(input_factories.write_file(tmp_path / "x.bin", content)), IMAGES)


def test_formats_find_table_in_folder(tmp_path):
    input_factories.write_file(tmp_path / "fer2013" / "fer2013.csv", CSV)
    input_factories.write_file(tmp_path / "fer2013" / "README", "about")
    np.testing.assert_array_equal(read_images(str(tmp_path / "fer2013")), IMAGES)


def test_formats_read_folder_and_its_archive_alike(tmp_path):
    files = {
        f"train/{name}/{i}.png": input_factories.encode_image(IMAGES[i])
        for i, name in enumerate(["angry", "fear", "sad"])
    }
    for name, content in files.items():
        input_factories.write_file(tmp_path / "tree" / name, content)
    np.testing.assert_array_equal(read_images(str(tmp_path / "tree")), IMAGES)
    np.testing.assert_array_equal(read_images(input_factories.write_file(tmp_path / "t.zip", make_zip(files))), IMAGES)
    np.testing.assert_array_equal(read_images(input_factories.write_file(tmp_path / "t.tar", make_tar(files))), IMAGES)


@pytest.mark.parametrize("opened", ["two", "two/test", "two/test/angry", "two/test/angry/"])
def test_formats_infer_class_and_split_from_input_folder(opened, tmp_path):
    input_factories.write_file(tmp_path / "two" / "test" / "angry" / "1.png", input_factories.encode_image(IMAGES[0]))
    [piece] = formats.iter_chunks(str(tmp_path / opened), HashingReader())
    block, _ = parser_process.parse_chunk(piece)
    assert (block.labels.tolist(), block.splits.tolist()) == ([0], [2])


def test_formats_infer_split_from_current_folder(tmp_path, monkeypatch):
    input_factories.write_file(tmp_path / "test" / "angry" / "1.png", input_factories.encode_image(IMAGES[0]))
    monkeypatch.chdir(tmp_path / "test")
    [piece] = formats.iter_chunks(".", HashingReader())
    assert parser_process.parse_chunk(piece)[0].splits.tolist() == [2]


def test_formats_hash_is_independent_of_folder_name(tmp_path):
    for name in ("test", "archive"):
        input_factories.write_file(tmp_path / name / "angry" / "1.png", input_factories.encode_image(IMAGES[0]))
    found = {}
    for name in ("test", "archive"):
        tally = HashingReader()
        [piece] = formats.iter_chunks(str(tmp_path / name), tally)
        assert piece.pictures[0].name == f"{name}/angry/1.png"
        found[name] = piece.pictures[0].path, archives.sha256(str(tmp_path / name), tally)
    assert found["test"] == found["archive"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"\x00\x01\x02", "is neither a CSV nor an archive"),
        (b"a,b\n1,2\n", "there is no column pixels"),
        (b"Usage,Image name,neutral\n", "holds FER\\+ votes"),
        (make_tar({"README": b"about"}), "holds neither a table"),
        (make_zip({"a.csv": CSV, "b.csv": CSV}), "also the table"),
        (make_zip({"a.csv": CSV, "sad/b.png": input_factories.encode_image(IMAGES[0])}), "also pictures"),
    ],
)
def test_formats_error_names_input_without_faces(content, reason, tmp_path):
    path = input_factories.write_file(tmp_path / "faces.csv", content)
    with pytest.raises(UserError, match=f"faces.csv.*{reason}"):
        read_images(path)


def test_formats_reject_empty_folder(tmp_path):
    with pytest.raises(UserError, match="holds neither a table"):
        read_images(str(tmp_path))


def test_describe_format_names_file_and_form(tmp_path):
    piece = next(formats.iter_chunks(input_factories.write_file(tmp_path / "f.csv", CSV), HashingReader()))
    assert formats.describe_format(piece) == "f.csv: fer2013.csv (emotion,pixels,Usage)"


def test_iter_chunks_limits_bytes_of_images(tmp_path, monkeypatch):
    """The limit bounds the memory for large images."""
    for number in range(4):
        input_factories.write_file(
            tmp_path / "faces" / "sad" / f"{number}.png", input_factories.encode_image(IMAGES[0])
        )
    monkeypatch.setattr(formats, "MAX_PICTURE_BYTES", 1)
    assert [len(piece.pictures) for piece in formats.iter_chunks(str(tmp_path / "faces"), HashingReader())] == [1] * 4
    monkeypatch.setattr(formats, "MAX_PICTURE_BYTES", len(input_factories.encode_image(IMAGES[0])) + 1)
    assert [len(piece.pictures) for piece in formats.iter_chunks(str(tmp_path / "faces"), HashingReader())] == [2, 2]
