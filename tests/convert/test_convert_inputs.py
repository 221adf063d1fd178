"""Conversions of ambiguous inputs: labels, splits, file formats and paths."""

import dataclasses
import json
import os
import pathlib

import numpy as np
import pytest
from PIL import Image

from fer.convert import convert, summary
from fer.convert.convert import Options
from fer.data import example_codec, manifest
from fer.errors import UserError
from fer.labels import CLASSES, FERPLUS_COLUMNS, FERPLUS_OF_CLASS
from tests.convert import input_factories
from tests.convert.readers.test_archives import make_tar, make_zip
from tests.convert.readers.test_image_reader import encode, encode_png, make_exif

FACES = input_factories.noise(8)
AFFECTNET = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry")


def run(source: pathlib.Path | str, tmp_path: pathlib.Path, **options) -> manifest.Manifest:
    return convert.convert(Options(input=str(source), output=str(tmp_path / "out"), **options))


def write_tree(folder: pathlib.Path, names, pattern: str = "train/{}/1.png") -> pathlib.Path:
    """Writes an image file for each name: FACES in order."""
    for face, name in zip(FACES, names):
        input_factories.write_file(folder / pattern.format(name), input_factories.encode_image(face))
    return folder


def read_classes(made: manifest.Manifest, split: str = "train") -> dict[int, str]:
    """Returns the class name of each of FACES (by index) in a split."""
    read = example_codec.read_split(made, split)
    known = {face.tobytes(): number for number, face in enumerate(FACES)}
    return {known[image.tobytes()]: CLASSES[label] for image, label in zip(read.images, read.labels)}


def summary_lines(made: manifest.Manifest) -> list[str]:
    return list(summary.summary_lines(dataclasses.replace(made, folder="out")))


@pytest.mark.parametrize("options", [{}, {"on_bad_row": "quarantine"}])
@pytest.mark.parametrize("first", [0, 1])
def test_convert_rejects_numbered_folders_without_label_map(first, options, tmp_path):
    source = write_tree(tmp_path / "in", range(first, first + 7))
    with pytest.raises(
        UserError, match=r"in/train/\d/1.png lies in the class folder .*name the order of this one with"
    ):
        run(source, tmp_path, **options)
    assert os.listdir(tmp_path) == ["in"]


def test_label_map_labels_numbered_folders_and_is_recorded(tmp_path):
    made = run(write_tree(tmp_path / "in", range(7)), tmp_path, label_map="affectnet")
    assert read_classes(made) == dict(enumerate(AFFECTNET))
    assert made.raw["options"]["label_map"] == "affectnet"
    names = {str(number): name for number, name in enumerate(AFFECTNET)}
    assert made.raw["audit"]["label_map"] == {"given": "affectnet", "names": names}
    mapping = ", ".join(f"{number} = {name}" for number, name in names.items())
    assert f"Labels by --label_map=affectnet: {mapping}" in summary_lines(made)


def test_label_map_error_shows_how_to_map_unknown_number(tmp_path):
    source = write_tree(tmp_path / "in", range(8))
    with pytest.raises(
        UserError, match=r"in/train/7/1.png: its folder '7' is no class; .* with --label_map=affectnet,7=none"
    ):
        run(source, tmp_path, label_map="affectnet")
    made = run(source, tmp_path, label_map="affectnet,7=none")
    assert (made.raw["audit"]["left_out"], made.raw["audit"]["faces"]) == (1, 7)
    assert "1 rows were excluded, since --label_map maps them to none" in summary_lines(made)


def test_label_map_file_is_recorded_without_its_folder(tmp_path):
    input_factories.write_file(tmp_path / "orders" / "mine.json", json.dumps({"0": "sad", "1": "anger"}))
    made = run(write_tree(tmp_path / "in", (0, 1)), tmp_path, label_map=f"{tmp_path}/orders/mine.json")
    assert read_classes(made) == {0: "sad", 1: "angry"}
    assert made.raw["options"]["label_map"] == "mine.json"
    assert made.raw["audit"]["label_map"]["names"] == {"0": "sad", "1": "angry"}


def test_convert_reads_numbered_folders_with_fer2013_names_in_its_order(tmp_path):
    made = run(write_tree(tmp_path / "in", range(7), "train/{0}/Training_{0}12.png"), tmp_path)
    assert read_classes(made) == dict(enumerate(CLASSES))
    assert any(line.startswith("Labels in FER-2013's order: 0 = angry, 1 = disgust") for line in summary_lines(made))


def test_convert_reads_and_prints_folder_names_with_numbers_and_nouns(tmp_path):
    names = ["0_angry", "1-happy", "6neutral", "sadness", "Neutrality", "02 Fear", "Surprised"]
    made = run(write_tree(tmp_path / "in", names), tmp_path)
    assert read_classes(made) == dict(enumerate(["angry", "happy", "neutral", "sad", "neutral", "fear", "surprise"]))
    [line] = [line for line in summary_lines(made) if line.startswith("Labels")]
    assert "0_angry = angry" in line
    assert "Neutrality = neutral" in line


def test_label_map_maps_labels_of_table(tmp_path):
    rows = "".join(f"{number},{input_factories.pixel_text(face)}\n" for number, face in enumerate(FACES[:7]))
    path = input_factories.write_file(tmp_path / "in" / "train.csv", "emotion,pixels\n" + rows)
    assert read_classes(run(path, tmp_path, label_map="affectnet")) == dict(enumerate(AFFECTNET))


@pytest.mark.parametrize(("first", "count"), [(1, 7), (0, 8)], ids=["rafdb", "affectnet with contempt"])
@pytest.mark.parametrize("options", [{}, {"on_bad_row": "quarantine"}, {"on_bad_row": "quarantine", "workers": 3}])
def test_convert_rejects_table_in_another_label_order_even_when_quarantined(first, count, options, tmp_path):
    rows = "".join(
        f"{first + number % count},{input_factories.pixel_text(FACES[number % 8])}\n" for number in range(40)
    )
    path = input_factories.write_file(tmp_path / "in" / "train.csv", "emotion,pixels\n" + rows)
    reason = "train.csv has 5 labels above 6 in 40 rows, .*rafdb 1 surprise" if options else "'7' is no label"
    with pytest.raises(UserError, match=f"{reason}.* --label_map"):
        run(path, tmp_path, **options)
    assert os.listdir(tmp_path) == ["in"]


def test_convert_rejects_small_table_with_labels_from_1_even_when_quarantined(tmp_path):
    rows = "".join(f"{label},{input_factories.pixel_text(FACES[label])}\n" for label in range(1, 8))
    path = input_factories.write_file(tmp_path / "in" / "train.csv", "emotion,pixels\n" + rows)
    with pytest.raises(UserError, match=r"^train.csv has 1 labels above 6 in 7 rows"):
        run(path, tmp_path, on_bad_row="quarantine")
    assert len(read_classes(run(path, tmp_path, label_map="rafdb"))) == 7


@pytest.mark.parametrize("digits", ["9" * 5000, "0" * 5000 + "3"])
def test_convert_reads_or_rejects_labels_of_any_number_of_digits(digits, tmp_path):
    path = input_factories.write_file(
        tmp_path / "in" / "t.csv",
        f"emotion,pixels\n0,{input_factories.pixel_text(FACES[0])}\n{digits},{input_factories.pixel_text(FACES[1])}\n",
    )
    with pytest.raises(UserError, match=r"^t.csv, line 3, column emotion: '\d{20}\.\.\.' is no label"):
        run(path, tmp_path)
    folders = write_tree(tmp_path / "numbers", ["0" * 200 + "3"])
    assert read_classes(
        run(folders, tmp_path, label_map=digits + "=sad,3=sad" if digits[0] == "9" else digits + "=sad")
    )


@pytest.mark.parametrize("other", ["holdout/sad/1.png", "test_aug/sad/1.png", "sad/1.png", "sad/face.png"])
def test_convert_rejects_input_with_split_for_some_images_only(other, tmp_path):
    source = write_tree(tmp_path / "in", ["happy"])
    input_factories.write_file(source / other, input_factories.encode_image(FACES[1]))
    with pytest.raises(UserError, match=r"^in/train/happy/1.png has a split by .* and in/\S+.png has none: put each"):
        run(source, tmp_path)
    assert os.listdir(tmp_path) == ["in"]


def test_convert_reads_images_with_and_without_split_as_two_inputs(tmp_path):
    named = write_tree(tmp_path / "in", ["happy"], "test/{}/1.png")
    input_factories.write_file(tmp_path / "more" / "sad" / "1.png", input_factories.encode_image(FACES[1]))
    made = run(f"{named},{tmp_path / 'more'}", tmp_path)
    assert (read_classes(made), read_classes(made, "test")) == ({1: "sad"}, {0: "happy"})


@pytest.mark.parametrize(("first", "count"), [(200, 250), (900, 110)])
def test_convert_rejects_votes_misplaced_in_some_rows(first, count, tmp_path):
    faces, labels = input_factories.noise(1200, seed=1), np.random.default_rng(0).integers(0, 7, 1200)
    misplaced = labels.copy()
    misplaced[first : first + count] = np.roll(labels[first : first + count], 1)
    columns = [FERPLUS_COLUMNS.index(name) for name in FERPLUS_OF_CLASS]
    rows = [",".join(map(str, np.eye(10, dtype=int)[columns[label]])) for label in misplaced]
    text = "".join(f"Training,fer{i}.png,{row}\n" for i, row in enumerate(rows))
    ferplus = input_factories.write_file(
        tmp_path / "in" / "v.csv", "Usage,Image name," + ",".join(FERPLUS_COLUMNS) + "\n" + text
    )
    source = input_factories.write_file(
        tmp_path / "in" / "f.csv", input_factories.make_csv(faces, labels.tolist(), ["Training"] * 1200)
    )
    with pytest.raises(UserError, match=r"^v.csv agrees with \d+% of the labels of rows "):
        run(source, tmp_path, ferplus=ferplus)


def test_convert_quarantines_few_labels_out_of_range(tmp_path):
    rows = "".join(f"{label},{input_factories.pixel_text(FACES[0])}\n" for label in (7, 9, 3, 3))
    path = input_factories.write_file(tmp_path / "in" / "train.csv", "emotion,pixels\n" + rows)
    made = run(path, tmp_path, on_bad_row="quarantine")
    assert made.raw["audit"]["rejected"] == {"label out of range": 2}


def test_label_map_of_numbers_rejects_table_and_folders_together(tmp_path):
    folders = write_tree(tmp_path / "in" / "set", (0, 1))
    table = input_factories.write_file(tmp_path / "in" / "f.csv", input_factories.make_csv(FACES[4:]))
    for source in (f"{table},{folders}", f"{folders},{table}"):
        with pytest.raises(UserError, match=r"^--label_map=affectnet would give the numbers of .* and of .* the same"):
            run(source, tmp_path, label_map="affectnet")
    words = write_tree(tmp_path / "in" / "words", ("sad", "contempt"))
    made = run(f"{table},{words}", tmp_path, label_map="contempt=none")
    assert made.raw["audit"]["faces"] == 5


def test_convert_rejects_table_with_other_label_column_and_leaves_nothing(tmp_path):
    path = input_factories.write_file(
        tmp_path / "in" / "train.csv", f"label,pixels\n3,{input_factories.pixel_text(FACES[0])}\n"
    )
    with pytest.raises(
        UserError, match=r"train.csv, line 1: there is no column emotion, and label may hold the labels"
    ):
        run(path, tmp_path)
    assert os.listdir(tmp_path) == ["in"]


def test_convert_prefers_split_of_folder_over_file_name(tmp_path):
    source = tmp_path / "in"
    input_factories.write_file(
        source / "test" / "happy" / "Training_room_01.jpg", input_factories.encode_image(FACES[0])
    )
    input_factories.write_file(source / "train" / "happy" / "1.png", input_factories.encode_image(FACES[1]))
    made = run(source, tmp_path)
    assert (read_classes(made), read_classes(made, "test")) == ({1: "happy"}, {0: "happy"})


def test_convert_rejects_or_quarantines_fer2013_name_in_another_split(tmp_path):
    source = write_tree(tmp_path / "in", ["happy", "sad"])
    input_factories.write_file(source / "test" / "happy" / "Training_12.png", input_factories.encode_image(FACES[2]))
    with pytest.raises(
        UserError, match=r"^in/test/happy/Training_12.png: its name stands for Training, and a folder above"
    ):
        run(source, tmp_path)
    made = run(source, tmp_path, on_bad_row="quarantine")
    assert made.raw["audit"]["rejected"] == {"contradicting split": 1}
    assert read_classes(made) == {0: "happy", 1: "sad"}


@pytest.mark.parametrize("packed", [False, True])
def test_convert_reads_images_of_other_formats_or_counts_them_by_ending(packed, tmp_path):
    kinds = {"a.webp": "WEBP", "b.bmp": "BMP", "c.gif": "GIF", "d.tif": "TIFF", "e.ppm": "PPM", "f.pgm": "PPM"}
    pictures = {name: encode(Image.fromarray(FACES[0].reshape(48, 48)), kind) for name, kind in kinds.items()}
    others = dict.fromkeys(["g.heic", "h.HEIC", "i.avif", "j.jp2", "notes.txt", ".DS_Store"], b"\0\0\0\x18ftypheic")
    files = {f"train/happy/{name}": content for name, content in {**pictures, **others}.items()}
    for name, content in files.items():
        input_factories.write_file(tmp_path / "in" / name, content)
    path = input_factories.write_file(tmp_path / "faces.zip", make_zip(files)) if packed else tmp_path / "in"
    made = run(path, tmp_path)
    assert made.raw["audit"]["faces"] == len(kinds)
    assert made.raw["audit"]["passed_over"] == {".heic": 2, ".avif": 1, ".jp2": 1, ".txt": 1, "hidden": 1}
    assert "6 files of other types were skipped: 2 .heic, 1 .avif, 1 .jp2, 1 .txt, 1 hidden" in summary_lines(made)


def test_convert_error_lists_unreadable_formats_of_input(tmp_path):
    for name in ("1.heic", "2.heic", "3.avif"):
        input_factories.write_file(tmp_path / "in" / "happy" / name, b"\0\0\0\x18ftypheic")
    with pytest.raises(
        UserError, match=r"in holds neither a table .* nor pictures \(JPEG, .* but 2 \.heic, 1 \.avif\."
    ):
        run(tmp_path / "in", tmp_path)


def test_convert_counts_and_prints_alterations_of_images(tmp_path):
    face = FACES[0].reshape(48, 48)
    folder = tmp_path / "in" / "train" / "sad"
    input_factories.write_file(
        folder / "turned.jpg", encode(Image.fromarray(np.rot90(face).copy()), "JPEG", exif=make_exif(6))
    )
    input_factories.write_file(
        folder / "clear.png", encode(Image.fromarray(face).convert("LA").point(lambda level: level // 2))
    )
    input_factories.write_file(folder / "deep.png", encode_png(face.astype(np.uint16) << 4))
    input_factories.write_file(folder / "wide.png", encode_png(face[:24]))
    input_factories.write_file(
        folder / "moving.gif",
        encode(Image.fromarray(face), "GIF", save_all=True, append_images=[Image.new("L", (48, 48))]),
    )
    made = run(tmp_path / "in", tmp_path)
    audit = made.raw["audit"]
    counted = {name: audit[name] for name in ("turned", "composited", "rescaled", "squashed", "first_frame", "resized")}
    assert counted == dict.fromkeys(counted, 1)
    assert audit["recoloured"] == 2
    lines = summary_lines(made)
    assert "1 pictures were turned upright by their EXIF orientation" in lines
    assert "1 pictures have transparent pixels and were composited on grey level 128" in lines
    assert "1 pictures are not square and were squashed (--fit=crop and --fit=pad keep their proportions)" in lines


@pytest.mark.parametrize(("fit", "name"), [("stretch", "squashed"), ("crop", "cropped"), ("pad", "padded")])
def test_fit_is_recorded_with_number_of_altered_images(fit, name, tmp_path):
    wide = np.zeros((48, 96), np.uint8)
    wide[:, 24:72] = FACES[0].reshape(48, 48)
    input_factories.write_file(tmp_path / "in" / "train" / "sad" / "1.png", encode_png(wide))
    made = run(tmp_path / "in", tmp_path, fit=fit)
    assert (made.raw["options"]["fit"], made.raw["audit"][name]) == (fit, 1)
    same = np.array_equal(example_codec.read_split(made, "train").images[0, ..., 0], FACES[0].reshape(48, 48))
    assert same == (fit == "crop")


def test_convert_skips_hidden_and_system_folders(tmp_path):
    source = write_tree(tmp_path / "in", ["happy", "@eaDir/sad", ".cache/fear", "__MACOSX/fear", "sad/.thumbs"])
    made = run(source, tmp_path)
    assert read_classes(made) == {0: "happy"}
    assert made.raw["audit"]["passed_over"] == {"hidden": 4}


def test_convert_rejects_votes_on_other_faces_and_leaves_nothing(tmp_path):
    faces, labels = input_factories.noise(70, seed=1), np.arange(70) % 7
    columns = [FERPLUS_COLUMNS.index(name) for name in FERPLUS_OF_CLASS]
    votes = np.eye(10, dtype=int)[[columns[label] for label in np.roll(labels, 10).tolist()]]
    rows = "".join(f"Training,fer{i}.png," + ",".join(map(str, row)) + "\n" for i, row in enumerate(votes))
    ferplus = input_factories.write_file(
        tmp_path / "in" / "v.csv", "Usage,Image name," + ",".join(FERPLUS_COLUMNS) + "\n" + rows
    )
    source = input_factories.write_file(
        tmp_path / "in" / "f.csv", input_factories.make_csv(faces, labels, ["Training"] * 70)
    )
    with pytest.raises(UserError, match=r"^v.csv agrees with 0% of the labels, where votes on other faces .* 14%"):
        run(source, tmp_path, ferplus=ferplus)
    assert os.listdir(tmp_path) == ["in"]


@pytest.mark.parametrize("pack", [make_zip, make_tar])
def test_convert_reads_archive_made_on_windows(pack, tmp_path):
    files = {
        f"faces\\train\\{name}\\1.png": input_factories.encode_image(face)
        for face, name in zip(FACES, ("happy", "sad"))
    }
    made = run(input_factories.write_file(tmp_path / "faces.zip", pack(files)), tmp_path)
    assert read_classes(made) == {0: "happy", 1: "sad"}


def test_convert_expands_leading_tilde_to_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_tree(tmp_path / "in", ["happy"])
    made = convert.convert(Options(input="~/in", output="~/deep/out"))
    assert made.folder == str(tmp_path / "deep" / "out")
    assert made.raw["source"]["path"] == "in"


def test_convert_reads_file_whose_name_begins_with_tilde(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    input_factories.write_file(tmp_path / "~faces.csv", input_factories.make_csv(FACES))
    assert run("~faces.csv", tmp_path).raw["source"]["rows"] == len(FACES)


@pytest.mark.parametrize(
    ("existing", "text", "paths"),
    [
        (["a", "b"], "a,b", ["a", "b"]),
        (["a,b"], "a,b", ["a,b"]),
        (["a, b", "c"], "a, b,c", ["a, b", "c"]),
        (["c", "a,b,d"], "c,a,b,d", ["c", "a,b,d"]),
        (["a", "a,b"], "a,b", ["a,b"]),
        (["a", "b", "a,b"], "a,b", ["a", "b"]),
        (["a"], "a,nowhere", ["a", "nowhere"]),
        ([], "s3://b/a,s3://b/c", ["s3://b/a", "s3://b/c"]),
        (["x,y"], "s3://b/a,x,y", ["s3://b/a", "x,y"]),
    ],
)
def test_options_split_inputs_at_commas_except_in_existing_paths(existing, text, paths, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in existing:
        (tmp_path / name).mkdir()
    assert Options(input=text, output="out").paths() == paths


def test_options_reject_input_of_commas_alone():
    with pytest.raises(UserError, match="--input names no path"):
        Options(input=" , ", output="out").paths()


def test_convert_reads_input_with_comma_in_path(tmp_path):
    made = run(input_factories.write_file(tmp_path / "a, b" / "f,1.csv", input_factories.make_csv(FACES)), tmp_path)
    assert (made.raw["source"]["path"], made.raw["source"]["rows"]) == ("f,1.csv", len(FACES))


FOREIGN = {
    "f.hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(99), "is an HDF5 file, which is not supported: export its faces as a CSV"),
    "f.parquet": (b"PAR1" + bytes(99), "is a Parquet file, which is not supported: export"),
    "f.npy": (b"\x93NUMPY\1\0" + bytes(99), "is a NumPy array, which is not supported: export"),
    "f.pkl": (b"\x80\x04\x95" + bytes(99), "is a Python pickle, which is not supported: export"),
    "f.rar": (b"Rar!\x1a\x07\x01\0" + bytes(99), "is a RAR archive, which is not supported: unpack it first"),
    "f.7z": (b"7z\xbc\xaf\x27\x1c" + bytes(99), "is a 7z archive, which is not supported: unpack it first"),
    "f.zst": (b"\x28\xb5\x2f\xfd" + bytes(99), "is a file compressed by Zstandard, which is not supported: unpack"),
    "f.heic": (b"\0\0\0\x18ftypheic" + bytes(99), "is a HEIC picture, which is not supported: save it as JPEG or PNG"),
    "f.mp4": (b"\0\0\0\x18ftypisom" + bytes(99), "is a video, which is not supported: save its frames"),
    "f.csv": ("emotion,pixels\n".encode("utf-16"), "is text in UTF-16, which is not supported: save it in UTF-8"),
    "f.png": (input_factories.encode_image(FACES[0]), "is a picture alone, without a class: name the folder"),
    "f.npz": (make_zip({"x.npy": b"\x93NUMPY"}), r"holds neither a table .*, but 1 \.npy\."),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_convert_error_names_format_of_foreign_file(name, tmp_path):
    content, reason = FOREIGN[name]
    with pytest.raises(UserError, match=f"{name} {reason}"):
        run(input_factories.write_file(tmp_path / "in" / name, content), tmp_path)
    assert os.listdir(tmp_path) == ["in"]


def test_convert_fills_empty_output_folder(tmp_path):
    (tmp_path / "out").mkdir()
    assert read_classes(run(write_tree(tmp_path / "in", ["happy"]), tmp_path)) == {0: "happy"}


@pytest.mark.parametrize("flag", ["input", "output", "ferplus", "label_map"])
def test_convert_error_names_path_that_is_not_utf8(flag, tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.csv")
    options = {
        "input": input_factories.write_file(tmp_path / "f.csv", input_factories.make_csv(FACES)),
        "output": str(tmp_path / "out"),
        flag: path,
    }
    with pytest.raises(UserError, match=r"/caf\\xe9\.csv holds a name whose bytes are not UTF-8: rename it\.$"):
        convert.convert(Options(**options))


def test_label_map_rejects_synthetic_input(tmp_path):
    with pytest.raises(UserError, match="--label_map is not for synthetic faces"):
        run("synthetic:9", tmp_path, label_map="affectnet")


def test_fit_error_names_unknown_value(tmp_path):
    with pytest.raises(UserError, match="--fit=squash is not valid; it takes stretch, crop, pad"):
        run("in", tmp_path, fit="squash")
