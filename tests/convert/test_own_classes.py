"""Conversions with other classes than FER-2013's: folders, built-in sets, tables of pictures, and FER+'s majority."""

from __future__ import annotations

import hashlib
import pathlib
import re
import subprocess

import numpy as np
import pytest

from fer.convert import convert, summary
from fer.convert.convert import Options
from fer.convert.verify import verify
from fer.data import example_codec, manifest
from fer.errors import UserError
from fer.labels import CLASS_SETS, FERPLUS_COLUMNS
from tests.convert import input_factories

FACES = input_factories.noise(24)


def run(source: pathlib.Path | str, tmp_path: pathlib.Path, **options) -> manifest.Manifest:
    return convert.convert(Options(input=str(source), output=str(tmp_path / "out"), **options))


def write_tree(folder: pathlib.Path, *paths: str) -> pathlib.Path:
    """Writes an image file for each path: FACES in order."""
    for face, path in zip(FACES, paths):
        input_factories.write_file(folder / path, input_factories.encode_image(face))
    return folder


def read_classes(made: manifest.Manifest, split: str = "train") -> dict[int, str]:
    """Returns the class name of each of FACES (by index) in a split."""
    read = example_codec.read_split(made, split)
    known = {face.tobytes(): number for number, face in enumerate(FACES)}
    return {known[image.tobytes()]: made.classes[label] for image, label in zip(read.images, read.labels)}


def test_classes_folders_are_sorted_without_case_and_survive_verify(tmp_path):
    paths = ("train/Dog/1.png", "train/cat/2.png", "train/class 3/3.png", "val/dog/4.png", "val/3_cat/5.png")
    made = run(write_tree(tmp_path / "in", *paths), tmp_path, classes="folders")
    assert made.classes == ("3_cat", "cat", "class 3", "Dog")
    assert read_classes(made) == {0: "Dog", 1: "cat", 2: "class 3"}
    assert read_classes(made, "validation") == {3: "Dog", 4: "3_cat"}
    assert made.splits["train"].class_counts == {"3_cat": 0, "cat": 1, "class 3": 1, "Dog": 1}
    assert made.raw["options"]["classes"] == "folders"
    assert verify(made.folder).classes == made.classes
    assert made.raw["audit"]["class_balance"]["validation"] == {"3_cat": 0.5, "cat": 0.0, "class 3": 0.0, "Dog": 0.5}


def test_classes_folders_follow_label_map(tmp_path):
    source = write_tree(tmp_path / "in", "0/1.png", "1/2.png", "2/3.png", "b/4.png")
    made = run(source, tmp_path, classes="folders", label_map="0=Zebra,1=b,2=none")
    assert made.classes == ("b", "Zebra")
    assert read_classes(made) == {0: "Zebra", 1: "b", 3: "b"}
    assert made.raw["audit"]["left_out"] == 1


@pytest.mark.parametrize(
    ("paths", "reason"),
    [
        (["train/1.png", "train/a/2.png"], "in/train/1.png: it lies in no class folder below the input"),
        (["1.png", "a/2.png", "b/3.png"], "in/1.png: it lies in no class folder below the input"),
        (["a/1.png"], "--classes=folders: There are 1 classes; 2 to 100 are supported"),
        (["a/1.png", "b,c/2.png"], "--classes=folders: The class 'b,c' has the character ','"),
    ],
    ids=["split folder", "no folder", "one class", "comma"],
)
def test_classes_folders_error_names_picture_or_folder(paths, reason, tmp_path):
    with pytest.raises(UserError) as caught:
        run(write_tree(tmp_path / "in", *paths), tmp_path, classes="folders")
    assert str(caught.value).startswith(reason)
    assert not (tmp_path / "out").exists()


def test_classes_folders_reject_more_than_100_classes(tmp_path):
    image = input_factories.encode_image(FACES[0])
    for number in range(210):
        input_factories.write_file(tmp_path / "in" / f"c{number}" / "1.png", image)
    with pytest.raises(UserError, match=r"--classes=folders finds more than 100 classes: c0, c1, c10, .* and 189 more"):
        run(tmp_path / "in", tmp_path, classes="folders")


def test_unknown_folder_error_names_classes_folders(tmp_path):
    with pytest.raises(UserError, match=r"its folder 'cat' is no class; .*with --classes=folders"):
        run(write_tree(tmp_path / "in", "cat/1.png"), tmp_path)


def test_classes_list_orders_labels_and_accepts_words_for_its_expressions(tmp_path):
    source = write_tree(tmp_path / "in", "Joy/1.png", "bored/2.png", "02 BORED/3.png")
    made = run(source, tmp_path, classes="bored, happiness")
    assert made.classes == ("bored", "happiness")
    assert read_classes(made) == {0: "happiness", 1: "bored", 2: "bored"}


@pytest.mark.parametrize(
    ("classes", "first", "count"), [("affectnet8", 0, 8), ("affectnet7", 0, 7), ("rafdb", 1, 7), ("FER+", 0, 8)]
)
def test_class_set_reads_its_own_numbers_in_class_folders(classes, first, count, tmp_path):
    made = run(write_tree(tmp_path / "in", *(f"{first + n}/1.png" for n in range(count))), tmp_path, classes=classes)
    assert made.classes == CLASS_SETS[classes.lower().replace("+", "plus")]
    assert read_classes(made) == dict(enumerate(made.classes))
    assert f"Labels in the order of --classes={classes}: {first} = {made.classes[0]}" in "\n".join(
        summary.summary_lines(made)
    )


def test_affectnet7_leaves_out_contempt_and_numbers_without_expression(tmp_path):
    made = run(write_tree(tmp_path / "in", *(f"{n}/1.png" for n in range(11))), tmp_path, classes="affectnet7")
    assert (made.raw["audit"]["left_out"], made.splits["train"].examples) == (4, 7)
    assert "4 rows were excluded, since --classes=affectnet7 leaves their labels out" in list(
        summary.summary_lines(made)
    )


def test_class_set_keeps_fer2013_order_for_files_with_fer2013_names(tmp_path):
    made = run(write_tree(tmp_path / "in", "3/Training_7.png"), tmp_path, classes="rafdb")
    assert read_classes(made) == {0: "happiness"}


def write_table(tmp_path: pathlib.Path, text: str) -> pathlib.Path:
    """Writes FACES as p0.png, p1.png, ... in a folder, and a table beside the folder. Returns the table's path."""
    write_tree(tmp_path / "data" / "pictures", *(f"p{number}.png" for number in range(6)))
    return pathlib.Path(input_factories.write_file(tmp_path / "data" / "labels.csv", text))


def test_picture_table_names_pictures_labels_and_splits(tmp_path):
    table = write_table(
        tmp_path,
        'Path,note,Label,split\r\npictures/p0.png,"x, y",yes,train\r\n\r\n"pictures/p1.png",,No,Training\r\n'
        "pictures/p2.png,,YES,test\r\n",
    )
    made = run(table, tmp_path, classes="no,yes")
    assert made.classes == ("no", "yes")
    assert (read_classes(made), read_classes(made, "test")) == ({0: "yes", 1: "no"}, {2: "yes"})
    assert made.raw["source"]["inputs"][0]["form"] == "labels.csv: a table of pictures; ignored: note"
    hashes = [
        f"{hashlib.sha256((tmp_path / 'data' / name).read_bytes()).hexdigest()}  {name}\n"
        for name in ("labels.csv", *(f"pictures/p{number}.png" for number in range(3)))
    ]
    assert made.raw["source"]["sha256"] == hashlib.sha256("".join(hashes).encode()).hexdigest()


def test_picture_table_collects_classes_of_column_label(tmp_path):
    table = write_table(tmp_path, "image,class\npictures/p0.png,Zoo\npictures/p1.png,ant\npictures/p2.png,zoo\n")
    made = run(table, tmp_path, classes="folders")
    assert made.classes == ("ant", "Zoo")
    assert read_classes(made) == {0: "Zoo", 1: "ant", 2: "Zoo"}


def test_picture_table_in_form_of_affectnet_reads_its_numbers(tmp_path):
    rows = "".join(f"pictures/p{n}.png,0,0,10,10,1;2,{number},0.1,0.1\n" for n, number in enumerate([7, 0, 9]))
    head = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal\n"
    made = run(write_table(tmp_path, head + rows), tmp_path, classes="affectnet8")
    assert read_classes(made) == {0: "contempt", 1: "neutral"}
    assert made.raw["audit"]["left_out"] == 1


def test_picture_table_takes_split_of_its_name_without_column_for_splits(tmp_path):
    write_table(tmp_path, "")
    tables = [
        input_factories.write_file(tmp_path / "data" / name, f"file,expression\npictures/p{number}.png,{number}\n")
        for number, name in enumerate(("training.csv", "validation.csv", "mine.csv"))
    ]
    made = run(",".join(tables[:2]), tmp_path, classes="affectnet8")
    assert (read_classes(made), read_classes(made, "validation")) == ({0: "neutral"}, {1: "happy"})
    made = run(tables[2], tmp_path, classes="affectnet8", overwrite=True)
    assert made.raw["audit"]["divided"] == {"train": 1}


def recipes(root: pathlib.Path) -> tuple[str, str]:
    """Returns the shell commands of docs/data.md for RAF-DB, and the Python program for AffectNet."""
    text = (root / "docs" / "data.md").read_text()
    shell = re.search(r"^    (cd basic && .*\n    .* && cd \.\.)$", text, re.MULTILINE)[1]
    return shell.replace("\n    ", "\n"), re.search(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)[1]


def test_docs_command_converts_published_form_of_rafdb(root, tmp_path):
    names = [f"train_{number:05d}" for number in range(1, 21)] + ["test_0001", "test_0002"]
    write_tree(tmp_path / "basic", *(f"Image/aligned/{name}_aligned.jpg" for name in names))
    lines = "".join(f"{name}.jpg {1 + number % 7}\n" for number, name in enumerate(names))
    input_factories.write_file(tmp_path / "basic" / "EmoLabel" / "list_patition_label.txt", lines)
    subprocess.run(["bash", "-c", recipes(root)[0]], cwd=tmp_path, check=True)
    made = run(tmp_path / "basic" / "rafdb.csv", tmp_path, classes="rafdb")
    found = {split: read_classes(made, split) for split in made.splits}
    assert found["test"] == {20: "neutral", 21: "surprise"}
    assert {**found["train"], **found.get("validation", {})} == {n: CLASS_SETS["rafdb"][n % 7] for n in range(20)}


@pytest.mark.parametrize("kind", [str, int])
def test_docs_program_converts_published_annotations_of_affectnet(kind, root, tmp_path, monkeypatch):
    paths = [f"{split}_set/images/{number}.jpg" for split in ("train", "val") for number in range(9)]
    for number, path in enumerate(paths):
        annotation = (tmp_path / "affectnet" / path.replace("images", "annotations")).with_suffix("")
        annotation.parent.mkdir(parents=True, exist_ok=True)
        np.save(f"{annotation}_exp.npy", np.array(kind(number % 9)))
    write_tree(tmp_path / "affectnet", *paths)
    monkeypatch.chdir(tmp_path)
    exec(recipes(root)[1], {})
    made = run("affectnet/train_set/train.csv,affectnet/val_set/val.csv", tmp_path, classes="affectnet8")
    expected = dict(enumerate(CLASS_SETS["affectnet8"]))
    assert (read_classes(made), made.raw["audit"]["left_out"]) == (expected, 2)
    assert read_classes(made, "validation") == {9 + number: name for number, name in expected.items()}


BAD_ROWS = (
    ("pictures/none.png,yes,train", "path", "there is no file 'pictures/none.png'"),
    ("pictures,yes,train", "path", "there is no file 'pictures'"),
    ("pictures/p1.png,,train", "label", "it is empty"),
    ("pictures/p1.png,maybe,train", "label", "its label 'maybe' is no class; no, yes are"),
    ("pictures/p1.png,yes,later", "split", "'later' is not train, validation or test"),
    ("pictures/p1.png,yes", "", "2 fields where the header names 3"),
    ('"pictures/p1.png,yes,train', "", "its quotes are wrong"),
    ("labels.csv,yes,train", "path", "it is not a readable picture"),
)


@pytest.mark.parametrize(("row", "column", "reason"), BAD_ROWS)
def test_picture_table_error_names_row_and_column(row, column, reason, tmp_path):
    table = write_table(tmp_path, f"path,label,split\npictures/p0.png,yes,train\n{row}\n")
    with pytest.raises(UserError) as caught:
        run(table, tmp_path, classes="no,yes")
    where = f", column {column}" if column else ""
    assert str(caught.value).startswith(f"labels.csv, line 3{where}: {reason}")


def test_picture_table_quarantines_bad_rows_with_their_text(tmp_path):
    rows = "".join(f"{row}\n" for row, _, _ in BAD_ROWS)
    table = write_table(tmp_path, f"path,label,split\npictures/p0.png,yes,train\n{rows}")
    made = run(table, tmp_path, classes="no,yes", on_bad_row="quarantine")
    assert read_classes(made) == {0: "yes"}
    assert sum(made.raw["audit"]["rejected"].values()) == len(BAD_ROWS)
    rejects = (tmp_path / "out" / "rejects.csv").read_text().splitlines()[1:]
    assert [line.split(",")[:3] for line in rejects] == [
        ["labels.csv", str(number), column] for number, (_, column, _) in enumerate(BAD_ROWS, 3)
    ]
    assert all(line.endswith('"' + row.replace('"', '""') + '"') for line, (row, _, _) in zip(rejects, BAD_ROWS))


@pytest.mark.parametrize(
    ("text", "options", "reason"),
    [
        ("path,file,label\nx,y,z\n", {}, "labels.csv, line 1: the columns path and file may both hold the path"),
        ("path,label\npictures/p0.png,3\n", {}, "line 2: pictures/p0.png has the label '3', and data sets number"),
        (b"path,label\n\xff.png,sad\n", {}, "labels.csv is not UTF-8"),
        ("path,other\npictures/p0.png,3\n", {}, "there is no column pixels, but 'path, other'; .* path and label"),
    ],
)
def test_picture_table_error_names_wrong_header_or_content(text, options, reason, tmp_path):
    with pytest.raises(UserError, match=reason):
        run(write_table(tmp_path, text), tmp_path, **options)


def test_table_of_pixels_reads_own_names_and_needs_label_map_for_numbers(tmp_path):
    source = tmp_path / "faces.csv"
    input_factories.write_file(source, input_factories.make_csv(FACES[:3], ["Größe", "b", "größe"], ["Training"] * 3))
    assert read_classes(run(source, tmp_path, classes="größe,b")) == {0: "größe", 1: "b", 2: "größe"}
    input_factories.write_file(source, input_factories.make_csv(FACES[:3], [3, 0, 3], ["Training"] * 3))
    with pytest.raises(UserError, match=r"column emotion: '3' is no label; happy, angry are; name the order of its"):
        run(source, tmp_path, classes="happy,angry", overwrite=True)
    with pytest.raises(UserError, match=r"faces.csv has 3 labels that are numbers in 3 rows; .* with --label_map="):
        run(source, tmp_path, classes="happy,angry", on_bad_row="quarantine", overwrite=True)
    with pytest.raises(UserError, match=r"'3' is no label; .*; give the votes on FER-2013's rows with --ferplus="):
        run(source, tmp_path, classes="ferplus", overwrite=True)
    made = run(source, tmp_path, classes="happy,angry", label_map="fer2013", overwrite=True)
    assert (made.classes, read_classes(made)) == (("happy", "angry"), {0: "happy", 1: "angry", 2: "happy"})
    with pytest.raises(UserError, match=r"faces.csv is a table of pixels, without class folders: name the classes"):
        run(source, tmp_path, classes="folders", overwrite=True)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"classes": "cat"}, "--classes=cat is no set of classes; it takes fer2013, ferplus, affectnet7"),
        ({"classes": "cat,Cat"}, "--classes=cat,Cat: The class 'Cat' is there twice"),
        ({"classes": "cat,none"}, "The class 'none' has a reserved name"),
        ({"classes": "cat,"}, "'' is no name of a class"),
        ({"classes": "rafdb", "ferplus": "v.csv"}, "--ferplus holds votes on .*--classes=rafdb are not"),
        ({"classes": "cat,dog", "label_map": "0=cow"}, "maps '0' to 'cow', which is not cat, dog or none"),
        ({"classes": "rafdb", "input": "synthetic"}, "--classes is not for synthetic faces"),
    ],
)
def test_options_reject_wrong_classes(options, reason, tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(UserError, match=reason):
        Options(**{"input": str(tmp_path / "in"), "output": str(tmp_path / "out"), **options}).check()


def published_label(votes: list[int]) -> str | None:
    """Returns the label of a row by the rule of Barsoum et al.'s program in mode "majority", written out."""
    remaining = [count if count > 1 else 0 for count in votes]
    highest = max(remaining)
    if not highest > 0.5 * sum(remaining):
        return None
    name = FERPLUS_COLUMNS[remaining.index(highest)]
    return name if name in CLASS_SETS["ferplus"] else None


def test_classes_ferplus_take_the_majority_of_votes_and_count_faces_left_out(tmp_path):
    votes = np.random.default_rng(0).multinomial(10, [0.3, 0.25, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05, 0.03, 0.02], 24)
    votes[:4] = [
        [5, 5, 0, 0, 0, 0, 0, 0, 0, 0],  # a tie
        [5, 1, 1, 1, 1, 1, 0, 0, 0, 0],  # half of the votes, and all that count
        [0, 0, 0, 0, 0, 0, 0, 7, 3, 0],  # contempt
        [0, 1, 0, 0, 0, 0, 0, 0, 1, 8],  # not a face
    ]
    usages = ["Training"] * 16 + ["PublicTest"] * 4 + ["PrivateTest"] * 4
    lines = [f"{usage},f.png,{','.join(map(str, counts))}\n" for usage, counts in zip(usages, votes)]
    ferplus = input_factories.write_file(
        tmp_path / "v.csv", "Usage,Image name," + ",".join(FERPLUS_COLUMNS) + "\n" + "".join(lines)
    )
    source = input_factories.write_file(tmp_path / "f.csv", input_factories.make_csv(FACES, None, usages))
    made = run(source, tmp_path, ferplus=ferplus, classes="ferplus")
    expected = {face: published_label(row) for face, row in enumerate(votes.tolist())}
    found = {face: name for split in made.splits for face, name in read_classes(made, split).items()}
    assert found == {face: name for face, name in expected.items() if name is not None}
    assert [expected[face] for face in range(4)] == [None, "neutral", "contempt", None]
    assert made.classes == CLASS_SETS["ferplus"]
    faces = example_codec.read_split(made, "train")
    np.testing.assert_array_equal(faces.votes, votes[faces.rows])
    left_out = made.raw["audit"]["ferplus_labels"]["left_out"]
    assert sum(sum(counts.values()) for counts in left_out.values()) == 24 - len(found)
    assert left_out["train"]["not_a_face"] >= 1
    assert made.raw["audit"]["label_map"]["names"] == {}
    assert any(line.startswith(f"{24 - len(found)} faces were left out") for line in summary.summary_lines(made))
    assert verify(made.folder).splits["train"].examples == faces.examples
