"""Images in class folders."""

import numpy as np
import pytest

from fer.convert.readers import image_folder, image_reader, label_map
from fer.convert.readers.image_folder import Picture
from fer.convert.rows import NO_SPLIT, TRAIN_OR_VAL
from fer.errors import UserError
from fer.labels import CLASSES
from tests.convert import input_factories
from tests.convert.readers.test_image_reader import encode_png, make_png

IMAGES = input_factories.noise(2)


@pytest.mark.parametrize(
    ("path", "label", "split"),
    [
        ("train/angry/1.jpg", "angry", TRAIN_OR_VAL),
        ("Train/Anger/1.jpg", "angry", TRAIN_OR_VAL),
        ("test/HAPPINESS/1.png", "happy", 2),
        ("validation/sadness/1.png", "sad", 1),
        ("val/Surprised/1.png", "surprise", 1),
        ("train/fearful/1.png", "fear", TRAIN_OR_VAL),
        ("train/disgusted/1.png", "disgust", TRAIN_OR_VAL),
        ("test/6/PrivateTest_1.png", "neutral", 2),
        ("0/Training_12.png", "angry", 0),
        ("train/0_angry/1.png", "angry", TRAIN_OR_VAL),
        ("train/1-Happy/1.png", "happy", TRAIN_OR_VAL),
        ("train/6neutral/1.png", "neutral", TRAIN_OR_VAL),
        ("train/03. Sadness/1.png", "sad", TRAIN_OR_VAL),
        ("train/fear (2)/1.png", "fear", TRAIN_OR_VAL),
        ("train/neutrality/1.png", "neutral", TRAIN_OR_VAL),
        ("train/joy/1.png", "happy", TRAIN_OR_VAL),
        ("train/suprise/1.png", "surprise", TRAIN_OR_VAL),
        ("Train_images/sad/1.png", "sad", TRAIN_OR_VAL),
        ("test set/sad/1.png", "sad", 2),
        ("public_test/sad/1.png", "sad", 1),
        ("test/sad/Training_room_01.jpg", "sad", 2),
        ("test/sad/Training_12_flipped.jpg", "sad", 2),
        ("test_run/sad/1.png", "sad", NO_SPLIT),
        ("train_test_split/sad/1.png", "sad", NO_SPLIT),
        ("images/train/fear/1.png", "fear", TRAIN_OR_VAL),
        ("train/happy/Training_1206.jpg", "happy", 0),
        ("test/happy/PublicTest_88305960.jpg", "happy", 1),
        ("test/happy/PrivateTest_10131363.jpg", "happy", 2),
        ("happy/PrivateTest_10131363.jpg", "happy", 2),
        ("happy/train_1.jpg", "happy", NO_SPLIT),
    ],
)
def test_infer_label_and_split_reads_path(path, label, split):
    assert image_folder.infer_label_and_split(path) == (CLASSES.index(label), split)


@pytest.mark.parametrize(
    ("opened", "path", "label", "split"),
    [
        ("two/train", "angry/1.png", "angry", TRAIN_OR_VAL),
        ("two/Test", "angry/1.png", "angry", 2),
        ("train/angry", "1.png", "angry", TRAIN_OR_VAL),
        ("test/3", "PrivateTest_1.png", "happy", 2),
        ("data/3", "Training_1.png", "happy", 0),
        ("data/happy", "1.png", "happy", NO_SPLIT),
        ("x/test", "train/angry/1.png", "angry", TRAIN_OR_VAL),
        ("x/test", "angry/PublicTest_1.png", "angry", 1),
        ("test/archive", "angry/1.png", "angry", NO_SPLIT),
        ("test/3", "angry/1.png", "angry", NO_SPLIT),
    ],
)
def test_infer_label_and_split_reads_input_folder_but_not_its_parents(opened, path, label, split):
    assert image_folder.infer_label_and_split(path, opened) == (CLASSES.index(label), split)


@pytest.mark.parametrize(
    "path",
    ["train/7/1.png", "train/3/1.png", "3/Training_a.png", "²/1.png", "train/contempt/1.png", "train/1.png", "1.png"],
)
def test_infer_label_and_split_returns_no_label_for_other_folder(path):
    assert image_folder.infer_label_and_split(path)[0] is None


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("test/happy/Training_12.jpg", "test"),
        ("validation/happy/Training_12.jpg", "validation"),
        ("train/happy/PublicTest_12.jpg", "train"),
        ("Train/happy/privatetest_12.png", "train"),
        ("PrivateTest/happy/PublicTest_12.jpg", "privatetest"),
        ("valid/happy/PrivateTest_12.jpg", "valid"),
    ],
)
def test_image_folder_rejects_fer2013_name_in_folder_of_another_split(path, words):
    [reject] = image_folder.parse_pictures(
        [Picture(f"in/{path}", path, input_factories.encode_image(IMAGES[0]))]
    ).rejects
    name = path.rpartition("/")[2].partition("_")[0]
    assert reject.kind == "contradicting split"
    assert str(reject).startswith(
        f"in/{path}: its name stands for {name}, and a folder above it for {words}: rename the"
    )


@pytest.mark.parametrize(
    "path", ["train/sad/Training_1.png", "test/sad/PublicTest_1.png", "val/sad/PublicTest_1.png", "sad/Training_1.png"]
)
def test_contradiction_accepts_fer2013_name_in_folder_of_its_split(path):
    assert image_folder.find_split_conflict(path) == ""


@pytest.mark.parametrize("path", ["train/0/1.png", "07/1.png", "train/class_3/Training_room.png", "1.0/../2/x.png"])
def test_check_numbers_error_lists_usual_orders(path):
    with pytest.raises(UserError) as caught:
        image_folder.check_numbered_folder(Picture(f"in/{path}", path, b""), label_map.DEFAULT_MAP)
    message = str(caught.value)
    assert message.startswith(f"in/{path} lies in the class folder {path.split('/')[-2]!r}, and data sets number")
    assert "fer2013 0 angry, 1 disgust, 2 fear, 3 happy, 4 sad, 5 surprise, 6 neutral" in message
    assert "affectnet 0 neutral, 1 happy, 2 sad, 3 surprise, 4 fear, 5 disgust, 6 anger, 7 contempt" in message
    assert "rafdb 1 surprise, 2 fear, 3 disgust, 4 happiness, 5 sadness, 6 anger, 7 neutral" in message
    assert "--label_map=fer2013, ferplus, affectnet, rafdb, FILE.json or pairs such as 0=angry" in message


@pytest.mark.parametrize("path", ["train/0/Training_1.png", "train/0_angry/1.png", "train/angry/1.png", "2x/1.png"])
def test_check_numbers_accepts_fer2013_names_and_words(path):
    image_folder.check_numbered_folder(Picture("n", path, b""), label_map.DEFAULT_MAP)


def test_label_map_overrides_names_of_fer2013():
    affectnet = label_map.parse_label_map("affectnet")
    image_folder.check_numbered_folder(Picture("n", "train/0/1.png", b""), affectnet)
    assert image_folder.infer_label_and_split("train/0/1.png", labels=affectnet)[0] == CLASSES.index("neutral")
    assert image_folder.infer_label_and_split("train/0/Training_1.png", labels=affectnet)[0] == CLASSES.index("neutral")
    assert (
        image_folder.infer_label_and_split("train/0/Training_1.png", labels=label_map.parse_label_map("contempt=none"))[
            0
        ]
        == 0
    )


def test_image_folder_excludes_and_counts_folders_mapped_to_none():
    pictures = [
        Picture("n", f"{name}/1.png", input_factories.encode_image(IMAGES[0])) for name in ("7", "sad", "contempt")
    ]
    block = image_folder.parse_pictures(pictures, label_map.parse_label_map("affectnet,7=none,contempt=none"))
    assert (block.count, block.excluded, block.rows.tolist(), block.rejects) == (3, 2, [1], ())


def test_image_folder_reads_grey_png_exactly():
    block = image_folder.parse_pictures(
        [Picture("n", "sad/1.png", input_factories.encode_image(image)) for image in IMAGES]
    )
    np.testing.assert_array_equal(block.images, IMAGES)
    assert block.altered == {}


def test_image_folder_counts_alterations():
    kinds = [("PNG", 48, "L"), ("PNG", 48, "RGB"), ("PNG", 96, "L"), ("PNG", 96, "RGB")]
    block = image_folder.parse_pictures(
        [Picture("n", "sad/1.png", input_factories.encode_image(IMAGES[0], *kind)) for kind in kinds]
    )
    assert block.altered == {"recoloured": 2, "resized": 2}


def test_fit_makes_images_square():
    picture = Picture("n", "sad/1.png", encode_png(np.repeat(np.uint8([0, 200, 200, 0]), 24)[None].repeat(48, 0)))
    middles = {
        fit: image_folder.parse_pictures([picture], fit=fit).images[0].reshape(48, 48)
        for fit in ("stretch", "crop", "pad")
    }
    assert (middles["stretch"][0, :12] == 0).all()
    assert (middles["crop"] == 200).all()
    assert (middles["pad"][0] == image_reader.BACKGROUND).all()


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xd8\xff", b"GIF89a", input_factories.encode_image(IMAGES[0])[:300], b"\x89PNG\r\n\x1a\n"]
)
def test_image_folder_reject_names_damaged_file(content):
    block = image_folder.parse_pictures([Picture("tree/sad/1.png", "sad/1.png", content)])
    assert len(block.images) == 0
    assert str(block.rejects[0]).startswith("tree/sad/1.png: it is not a readable picture")
    assert "0x" not in block.rejects[0].reason  # a memory address, which differs each time


def test_image_folder_reject_names_unknown_folder_and_label_map():
    block = image_folder.parse_pictures(
        [Picture("tree/love/1.png", "love/1.png", input_factories.encode_image(IMAGES[0]))]
    )
    assert "tree/love/1.png: its folder 'love' is no class" in str(block.rejects[0])
    assert "map it with --label_map=love=angry, or another class, or exclude it with --label_map=love=none" in str(
        block.rejects[0]
    )


@pytest.mark.parametrize("side", [9_000, 20_000])
def test_image_folder_rejects_decompression_bomb_unread(side):
    block = image_folder.parse_pictures([Picture("n", "sad/1.png", make_png(side, side, 8, 0, b""))])
    assert "pixels" in block.rejects[0].reason


def test_image_folder_keeps_row_numbers_among_bad_images():
    pictures = [Picture("n", "sad/1.png", b""), Picture("n", "fear/2.png", input_factories.encode_image(IMAGES[1]))]
    block = image_folder.parse_pictures(pictures)
    assert (block.count, block.rows.tolist(), block.labels.tolist()) == (2, [1], [CLASSES.index("fear")])
