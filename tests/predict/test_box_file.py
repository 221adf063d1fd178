"""Tests of `fer.predict.box_file`: the boxes of faces that a user names."""

import os

import numpy as np
import pytest
from PIL import Image

from fer.errors import UserError
from fer.predict import box_file, face_detection
from fer.predict.classification import Source
from tests.demo.photo import encoded, make_photo


def write(folder, *rows: str, header: str = "path,x,y,width,height") -> str:
    (folder / "boxes.csv").write_text("\n".join([header, *rows]) + "\n")
    return str(folder / "boxes.csv")


def test_extract_crops_the_boxes_of_a_picture_in_the_order_of_rows(tmp_path):
    boxes = box_file.BoxFile(
        write(
            tmp_path,
            "two.png,400.4,150,144,144,b",
            "./in/../in/two.png,1,2,30,40,c",
            "two.png,60,79.6,192,192,a",
            header="Path, X ,y,width,height,label",
        )
    )
    found = boxes.extract(Source("photos/two.png", "two.png", encoded(make_photo())))
    assert found.boxes == [(400, 150, 144, 144), (60, 80, 192, 192)]
    np.testing.assert_array_equal(
        found.images[1], face_detection.crop(make_photo(), face_detection.Box(60, 80, 192, 192))
    )
    (box,) = boxes.extract(Source("in/two.png", "other", encoded(make_photo()))).boxes
    assert box == (1, 2, 30, 40)
    assert boxes.extract(Source("none.png", "none.png", encoded(make_photo()))).boxes == []


@pytest.mark.parametrize(
    ("row", "box"),
    [
        ("11.5,0,35.5,46.6", (12, 0, 35, 47)),
        ("0.5,12.5,46.5,34.5", (0, 12, 47, 35)),
        ("46.4,0.4,0.6,0.6", (46, 0, 1, 1)),
        ("10.5,0,0.6,1", (10, 0, 1, 1)),
    ],
)
def test_extract_rounds_edges_so_that_a_box_at_the_border_fits(tmp_path, row, box):
    boxes = box_file.BoxFile(write(tmp_path, f"a.png,{row}"))
    assert boxes.extract(Source("a.png", "a.png", encoded(Image.new("L", (47, 47))))).boxes == [box]


def test_extract_uses_rows_of_both_paths_of_a_picture(tmp_path):
    boxes = box_file.BoxFile(write(tmp_path, "p.png,1,2,30,40", "photos/p.png,5,6,70,80", "p.png,9,8,70,60"))
    source = Source("photos/p.png", "p.png", encoded(make_photo()))
    assert boxes.extract(source).boxes == [(1, 2, 30, 40), (5, 6, 70, 80), (9, 8, 70, 60)]
    boxes.mark_used(source)
    assert boxes.unused() == []
    (box,) = box_file.BoxFile(write(tmp_path, "p.png,1,2,30,40")).extract(source._replace(path="p.png")).boxes
    assert box == (1, 2, 30, 40)


def test_mark_used_rejects_path_of_two_pictures(tmp_path):
    path = write(tmp_path, "photos/x.jpg,1,2,3,4")
    boxes = box_file.BoxFile(path)
    for same in ("./photos/x.jpg", os.path.abspath("photos/x.jpg")):  # the same picture may be in several inputs
        boxes.mark_used(Source(same, "photos/x.jpg"))
    with pytest.raises(UserError) as raised:
        boxes.mark_used(Source("./photos/photos/x.jpg", "photos/x.jpg"))
    assert str(raised.value) == (
        f"{path}, line 2, column path: 'photos/x.jpg' names two pictures, photos/x.jpg and photos/photos/x.jpg. Write "
        "the path as it is printed, or use absolute paths here and in --input."
    )


def test_extract_uses_boxes_of_a_picture_of_48x48_pixels(tmp_path):
    boxes = box_file.BoxFile(write(tmp_path, "a.png,0,0,48,24"))
    found = boxes.extract(Source("a.png", "a.png", encoded(Image.new("L", (48, 48)))))
    assert found.boxes == [(0, 0, 48, 24)]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a.png,600,0,41,10", "line 2, column width: the box ends at x 641, and a.png has a width of 640 pixels"),
        ("a.png,640,0,1,10", "line 2, column x: the box ends at x 641"),
        ("a.png,0,390,5,11", "line 2, column height: the box ends at y 401, and a.png has a height of 400 pixels"),
    ],
)
def test_extract_error_names_line_and_column_of_a_box_outside_the_picture(tmp_path, row, message):
    boxes = box_file.BoxFile(write(tmp_path, row))
    with pytest.raises(box_file.BoxError, match=message):
        boxes.extract(Source("a.png", "a.png", encoded(make_photo())))


def test_box_file_error_has_a_line_for_each_wrong_row(tmp_path):
    path = write(
        tmp_path, "a.png,1,2,3", "a.png,1,x,3,4", "", "a.png,-1,2,3,4", "a.png,1,2,0.2,4", ",1,2,3,4", "b,1,2,3,nan"
    )
    with pytest.raises(UserError) as raised:
        box_file.BoxFile(path)
    assert str(raised.value).splitlines() == [
        f"{path}, line 2, column height: the cell is empty.",
        f"{path}, line 3, column y: 'x' is no number.",
        f"{path}, line 5, column x: -1 is less than 0 pixels.",
        f"{path}, line 6, column width: 0.2 is less than 1 pixel.",
        f"{path}, line 7, column path: the cell is empty.",
        f"{path}, line 8, column height: 'nan' is no number.",
    ]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("path,x,y,w,h", r"boxes\.csv, line 1: column width is missing among 'path, x, y, w, h'; expected are path"),
        ("path,x,y,x,width,height", "line 1: column x occurs twice"),
        ("path,x,y,width,height", r"boxes\.csv has no rows"),
    ],
)
def test_box_file_error_names_wrong_header(tmp_path, header, message):
    with pytest.raises(UserError, match=message):
        box_file.BoxFile(write(tmp_path, header=header))


def test_unused_names_paths_that_are_no_picture_of_the_input(tmp_path):
    path = write(tmp_path, "a.png,1,2,3,4", "b.png,1,2,3,4", "b.png,2,2,3,4")
    boxes = box_file.BoxFile(path)
    boxes.mark_used(Source("photos/a.png", "a.png", error="it cannot be read"))
    assert boxes.unused() == [f"{path}, line 3, column path: 'b.png' is no picture of the input"]
    with pytest.raises(UserError, match=r"--boxes is for pictures, and test\.csv is a table"):
        boxes.mark_used(Source("test.csv", "0", row=0))
