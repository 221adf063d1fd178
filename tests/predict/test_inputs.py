"""Tests of `fer.predict.inputs`; those of the output are in test_result_files.py."""

import gzip

import pytest
from PIL import Image

from fer.errors import UserError
from fer.predict import inputs

TABLE = b"emotion,pixels,Usage\n3,1 2 3,Training\n"


@pytest.mark.parametrize(
    ("faces", "fit", "boxes", "message"),
    [
        (
            "auto",
            "pad",
            "b.csv",
            r"^--fit=pad is for whole images, and --boxes names faces in them: omit one of them\.$",
        ),
        ("find", "crop", None, r"^--fit=crop is for whole images: add --faces=whole or omit --fit\.$"),
        ("auto", "pad", None, r"^--fit=pad is for whole images: add --faces=whole or omit --fit\.$"),
        ("find", "stretch", None, r"^--faces is for pictures, and .*test\.csv is a table: omit --faces\.$"),
        (
            "whole",
            "pad",
            None,
            r"^--faces and --fit are for pictures, and .*test\.csv is a table: omit --faces and --fit",
        ),
    ],
)
def test_check_face_flags_rejects_flags_that_no_input_uses(tmp_path, faces, fit, boxes, message):
    (tmp_path / "test.csv").write_bytes(TABLE)
    (tmp_path / "test.gz").write_bytes(gzip.compress(TABLE))
    paths = [str(tmp_path / "test.csv"), str(tmp_path / "test.gz"), "s3://bucket/test.csv.xz"]
    with pytest.raises(UserError, match=message):
        inputs.check_face_flags(paths, faces, fit, boxes)


@pytest.mark.parametrize("name", [".", "a.png", "bad.csv", "absent.csv", "-", "camera:0", "s3://bucket/photos"])
def test_check_face_flags_accepts_inputs_that_may_hold_pictures(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "test.csv").write_bytes(TABLE)
    (tmp_path / "bad.csv").write_bytes(b"\x1f\x8bdamaged")
    Image.new("L", (60, 60)).save(tmp_path / "a.png")
    inputs.check_face_flags(["test.csv", name], "whole", "pad", None)
    inputs.check_face_flags(["test.csv", name], "find", "stretch", None)


def test_check_face_flags_accepts_table_without_flags():
    inputs.check_face_flags(["test.csv"], "auto", "stretch", None)
    inputs.check_face_flags(["test.csv"], "auto", "stretch", "boxes.csv")
