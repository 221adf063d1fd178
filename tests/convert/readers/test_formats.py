"""What is at a path is known by its content."""

import gzip

import numpy as np
import pytest

from fer.convert import worker_pool
from fer.convert.readers import archives, formats
from fer.convert.readers.hashing_reader import HashingReader
from fer.errors import UserError
from tests.convert import input_factories
from tests.convert.readers.test_archives import tar, zipped

IMAGES = input_factories.noise(3)
CSV = input_factories.csv(IMAGES).encode()


def images(path: str) -> np.ndarray:
    return np.concatenate([worker_pool.parse(piece)[0].images for piece in formats.iter_chunks(path, HashingReader())])


@pytest.mark.parametrize(
    "content",
    [
        CSV,
        gzip.compress(CSV),
        gzip.compress(tar({"fer2013/README": b"about", "fer2013/fer2013.csv": CSV})),
        zipped({"__MACOSX/._f.csv": b"\0\5\x16\7", "f.csv": CSV}),
    ],
)
def test_the_table_is_found_whatever_the_file_is_called(content, tmp_path):
    np.testing.assert_array_equal(images(input_factories.write(tmp_path / "x.bin", content)), IMAGES)


def test_a_folder_with_a_table_in_it_is_that_table(tmp_path):
    input_factories.write(tmp_path / "fer2013" / "fer2013.csv", CSV)
    input_factories.write(tmp_path / "fer2013" / "README", "about")
    np.testing.assert_array_equal(images(str(tmp_path / "fer2013")), IMAGES)


def test_a_tree_and_the_archive_of_it_are_the_same(tmp_path):
    files = {
        f"train/{name}/{i}.png": input_factories.picture(IMAGES[i]) for i, name in enumerate(["angry", "fear", "sad"])
    }
    for name, content in files.items():
        input_factories.write(tmp_path / "tree" / name, content)
    np.testing.assert_array_equal(images(str(tmp_path / "tree")), IMAGES)
    np.testing.assert_array_equal(images(input_factories.write(tmp_path / "t.zip", zipped(files))), IMAGES)
    np.testing.assert_array_equal(images(input_factories.write(tmp_path / "t.tar", tar(files))), IMAGES)


@pytest.mark.parametrize("opened", ["two", "two/test", "two/test/angry", "two/test/angry/"])
def test_the_folder_that_is_named_says_class_and_split_as_one_in_the_tree_does(opened, tmp_path):
    input_factories.write(tmp_path / "two" / "test" / "angry" / "1.png", input_factories.picture(IMAGES[0]))
    [piece] = formats.iter_chunks(str(tmp_path / opened), HashingReader())
    block, _ = worker_pool.parse(piece)
    assert (block.labels.tolist(), block.splits.tolist()) == ([0], [2])


def test_a_folder_is_the_same_however_it_is_named(tmp_path, monkeypatch):
    input_factories.write(tmp_path / "test" / "angry" / "1.png", input_factories.picture(IMAGES[0]))
    monkeypatch.chdir(tmp_path / "test")
    [piece] = formats.iter_chunks(".", HashingReader())
    assert worker_pool.parse(piece)[0].splits.tolist() == [2]


def test_what_a_folder_is_called_changes_neither_the_names_in_it_nor_its_sum(tmp_path):
    for name in ("test", "archive"):
        input_factories.write(tmp_path / name / "angry" / "1.png", input_factories.picture(IMAGES[0]))
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
        (tar({"README": b"about"}), "holds neither a table"),
        (zipped({"a.csv": CSV, "b.csv": CSV}), "also the table"),
        (zipped({"a.csv": CSV, "sad/b.png": input_factories.picture(IMAGES[0])}), "also pictures"),
    ],
)
def test_what_is_no_set_of_faces_is_named(content, reason, tmp_path):
    path = input_factories.write(tmp_path / "faces.csv", content)
    with pytest.raises(UserError, match=f"faces.csv.*{reason}"):
        images(path)


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(UserError, match="holds neither a table"):
        images(str(tmp_path))


def test_the_form_is_said(tmp_path):
    piece = next(formats.iter_chunks(input_factories.write(tmp_path / "f.csv", CSV), HashingReader()))
    assert formats.describe_format(piece) == "f.csv: fer2013.csv (emotion,pixels,Usage)"


def test_large_pictures_are_handed_on_one_by_one(tmp_path, monkeypatch):
    """So that memory holds a few of them, however many there are."""
    for number in range(4):
        input_factories.write(tmp_path / "faces" / "sad" / f"{number}.png", input_factories.picture(IMAGES[0]))
    monkeypatch.setattr(formats, "PICTURE_BYTES", 1)
    assert [len(piece.pictures) for piece in formats.iter_chunks(str(tmp_path / "faces"), HashingReader())] == [1] * 4
    monkeypatch.setattr(formats, "PICTURE_BYTES", len(input_factories.picture(IMAGES[0])) + 1)
    assert [len(piece.pictures) for piece in formats.iter_chunks(str(tmp_path / "faces"), HashingReader())] == [2, 2]
