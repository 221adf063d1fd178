"""Pictures in class folders."""

import io

import numpy as np
import pytest
from PIL import Image

from fer.data import folders
from fer.data.folders import Picture
from fer.data.rows import NO_SPLIT, TO_LEARN
from fer.labels import CLASSES
from tests.data import making

IMAGES = making.noise(2)


@pytest.mark.parametrize(
    ("path", "label", "split"),
    [
        ("train/angry/1.jpg", "angry", TO_LEARN),
        ("Train/Anger/1.jpg", "angry", TO_LEARN),
        ("test/HAPPINESS/1.png", "happy", 2),
        ("validation/sadness/1.png", "sad", 1),
        ("val/Surprised/1.png", "surprise", 1),
        ("train/fearful/1.png", "fear", TO_LEARN),
        ("train/disgusted/1.png", "disgust", TO_LEARN),
        ("train/6/1.png", "neutral", TO_LEARN),
        ("0/1.png", "angry", NO_SPLIT),
        ("images/train/fear/1.png", "fear", TO_LEARN),
        ("train/happy/Training_1206.jpg", "happy", 0),
        ("test/happy/PublicTest_88305960.jpg", "happy", 1),
        ("test/happy/PrivateTest_10131363.jpg", "happy", 2),
        ("happy/PrivateTest_10131363.jpg", "happy", 2),
        ("happy/train_1.jpg", "happy", NO_SPLIT),
    ],
)
def test_a_path_says_label_and_split(path, label, split):
    assert folders.meaning(path) == (CLASSES.index(label), split)


@pytest.mark.parametrize(
    ("opened", "path", "label", "split"),
    [
        ("two/train", "angry/1.png", "angry", TO_LEARN),
        ("two/Test", "angry/1.png", "angry", 2),
        ("train/angry", "1.png", "angry", TO_LEARN),
        ("test/3", "1.png", "happy", 2),
        ("data/3", "1.png", "happy", NO_SPLIT),
        ("x/test", "train/angry/1.png", "angry", TO_LEARN),
        ("x/train", "angry/PublicTest_1.png", "angry", 1),
        ("test/archive", "angry/1.png", "angry", NO_SPLIT),
        ("test/3", "angry/1.png", "angry", NO_SPLIT),
    ],
)
def test_the_folder_that_was_opened_says_them_too_and_no_other_one_further_out(opened, path, label, split):
    assert folders.meaning(path, opened) == (CLASSES.index(label), split)


@pytest.mark.parametrize("path", ["train/7/1.png", "train/contempt/1.png", "train/1.png", "1.png"])
def test_a_folder_that_is_no_class_has_no_label(path):
    assert folders.meaning(path)[0] is None


@pytest.mark.parametrize(
    ("path", "head", "expected"),
    [
        ("a/1.jpg", b"\xff\xd8\xff\xe0", True),
        ("a/1", b"\x89PNG\r\n\x1a\n", True),
        ("a/1.PNG", b"junk", True),
        ("a/1.bmp", b"BM", True),
        ("a/1.webp", b"RIFF", True),
        ("a/readme.txt", b"junk", False),
        ("__MACOSX/a/._1.jpg", b"\0\5\x16\7", False),
    ],
)
def test_pictures_are_known_by_content_or_name(path, head, expected):
    assert folders.is_picture(path, head) is expected


def test_a_grey_png_is_read_pixel_by_pixel():
    block = folders.parse([Picture("n", "sad/1.png", making.picture(image)) for image in IMAGES])
    np.testing.assert_array_equal(block.images, IMAGES)
    assert (block.resized, block.recoloured) == (0, 0)


def test_a_larger_picture_is_averaged_down_and_counted():
    face, resized, recoloured = folders.decode(making.picture(IMAGES[0], size=96))
    np.testing.assert_array_equal(face.ravel(), IMAGES[0])
    assert (resized, recoloured) == (True, False)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_a_picture_in_another_form_becomes_the_same_grey_and_is_counted(mode):
    face, resized, recoloured = folders.decode(making.picture(IMAGES[0], mode=mode))
    np.testing.assert_array_equal(face.ravel(), IMAGES[0])
    assert (resized, recoloured) == (False, True)


def test_sixteen_bits_of_grey_become_the_upper_eight():
    file = io.BytesIO()
    Image.fromarray((IMAGES[0].reshape(48, 48).astype(np.uint16) << 8) + 77).save(file, "PNG")
    face, _, recoloured = folders.decode(file.getvalue())
    np.testing.assert_array_equal(face.ravel(), IMAGES[0])
    assert recoloured


def test_colour_becomes_the_luma_of_bt_601():
    colours = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(colours).save(file, "PNG")
    face, _, _ = folders.decode(file.getvalue())
    assert np.abs(face - colours @ [0.299, 0.587, 0.114]).max() < 1


def test_a_jpeg_is_read_within_its_loss():
    smooth = np.linspace(20, 230, 2304).astype(np.uint8)
    face, _, _ = folders.decode(making.picture(smooth, "JPEG"))
    assert np.abs(face.ravel().astype(int) - smooth).max() < 12


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xd8\xff", b"GIF89a", making.picture(IMAGES[0])[:300], b"\x89PNG\r\n\x1a\n"]
)
def test_a_file_that_is_no_whole_picture_is_rejected_by_name(content):
    block = folders.parse([Picture("tree/sad/1.png", "sad/1.png", content)])
    assert len(block.images) == 0
    assert str(block.rejects[0]).startswith("tree/sad/1.png: it is no picture that can be read")
    assert "0x" not in block.rejects[0].reason  # a place in memory, which is another each time


def test_a_picture_in_no_class_is_rejected_by_name():
    block = folders.parse([Picture("tree/love/1.png", "love/1.png", making.picture(IMAGES[0]))])
    assert "tree/love/1.png: its folder 'love' is no class" in str(block.rejects[0])


@pytest.mark.parametrize("side", [9_000, 20_000])
def test_a_decompression_bomb_is_refused_unread(side):
    file = io.BytesIO()
    Image.new("1", (side, side)).save(file, "PNG")
    block = folders.parse([Picture("n", "sad/1.png", file.getvalue())])
    assert "pixels" in block.rejects[0].reason


def test_good_pictures_keep_their_places_among_bad_ones():
    pictures = [Picture("n", "sad/1.png", b""), Picture("n", "fear/2.png", making.picture(IMAGES[1]))]
    block = folders.parse(pictures)
    assert (block.count, block.rows.tolist(), block.labels.tolist()) == (2, [1], [CLASSES.index("fear")])
