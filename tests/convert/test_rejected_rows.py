"""Bad rows stop a conversion or are quarantined."""

import csv

import pytest

from fer.convert.rejected_rows import RejectedRows
from fer.convert.rows import Reject
from fer.errors import UserError

ROWS = [
    Reject("f.csv", 7, "pixels", "bad pixels", "2,303 values", b"3,1 2 3"),
    Reject("f.csv", 9, "", "bad quotes", 'a "quote"', b'4,"1 2'),
    Reject("t/sad/1.png", 0, "", "bad picture", "no picture", b""),
    Reject("t/sad/new\nline.png", 0, "", "bad picture", "no picture", b""),
    Reject("f.csv", 12, "pixels", "bad pixels", "0 values", b"3,\xff\x00\r"),
]


def test_rejected_rows_raise_user_error_without_folder():
    with pytest.raises(UserError, match=r"^f.csv, line 7, column pixels: 2,303 values\. .*--on_bad_row=quarantine\.$"):
        RejectedRows(None).add(ROWS)


def test_rejected_rows_are_written_unchanged(tmp_path):
    rejects = RejectedRows(str(tmp_path))
    rejects.add(ROWS[:1])
    rejects.add(ROWS[1:])
    rejects.close()
    with open(tmp_path / "rejects.csv", encoding="latin-1", newline="") as file:
        header, *rows = list(csv.reader(file))
    assert header == ["file", "line", "column", "reason", "original"]
    assert [row[0] for row in rows] == [reject.file for reject in ROWS]
    assert [int(row[1]) for row in rows] == [reject.line for reject in ROWS]
    assert [row[4].encode("latin-1") for row in rows] == [reject.original for reject in ROWS]


def test_rejected_rows_are_counted_by_kind(tmp_path):
    rejects = RejectedRows(str(tmp_path))
    rejects.add(ROWS)
    rejects.close()
    assert rejects.counts == {"bad pixels": 2, "bad quotes": 1, "bad picture": 2}


def test_rejected_rows_write_no_file_without_rows(tmp_path):
    rejects = RejectedRows(str(tmp_path))
    rejects.add([])
    rejects.close()
    assert list(tmp_path.iterdir()) == []
