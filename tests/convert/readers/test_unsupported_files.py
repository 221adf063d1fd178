"""Checks the counts of skipped files."""

import pytest

from fer.convert.readers import unsupported_files
from fer.convert.readers.unsupported_files import SkippedFiles


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("a/.b/c.png", "a/.b"),
        (".a", ".a"),
        ("a/@eaDir/1.png/SYNO.png", "a/@eaDir"),
        ("__MACOSX/a/1.png", "__MACOSX"),
        ("a/$Recycle.Bin/1.png", "a/$Recycle.Bin"),
        ("./a/1.png", ""),
        ("../a/1.png", ""),
        ("a.b/c..png", ""),
        ("a/...", "a/..."),
        ("a/@eadir.png", ""),
    ],
)
def test_skipped_files_hides_dot_and_system_names_and_counts_the_part_once(path, part):
    skipped = SkippedFiles()
    assert skipped.hides(path) == bool(part)
    assert skipped.counts() == ({"hidden": 1} if part else {})
    if part:
        assert skipped.hides(part)
        assert skipped.hides(f"{part}/other")
        assert skipped.counts() == {"hidden": 1}  # the same part


def test_skipped_files_counts_by_ending_in_order_of_frequency():
    skipped = SkippedFiles()
    for name in ("1.HEIC", "a/2.heic", "x.jp2", "README", "a.b/noending", "odd.a b", "x.txt"):
        skipped.add(name)
    for name in ("a/.b", "a/.b", "c/@eaDir"):
        assert skipped.hides(name)
    assert skipped.counts() == {".heic": 2, "no ending": 2, ".jp2": 1, ".txt": 1, "other": 1, "hidden": 2}
    assert list(skipped.counts())[:2] == [".heic", "no ending"]


def test_skipped_files_counts_rare_endings_together():
    skipped = SkippedFiles()
    for number in range(unsupported_files.MAX_KINDS + 5):
        skipped.add(f"scan.{number:04}")
    skipped.add("odd.a b")
    counts = skipped.counts()
    assert (len(counts), sum(counts.values())) == (unsupported_files.MAX_KINDS + 1, unsupported_files.MAX_KINDS + 6)
    assert counts["other"] == 6


def test_describe_names_most_frequent_kinds():
    assert unsupported_files.describe_counts({".heic": 1_024, "hidden": 2}) == "1,024 .heic, 2 hidden"
    many = unsupported_files.describe_counts({f".{number}": 1 for number in range(15)})
    assert many.startswith("1 .0, 1 .1, ")
    assert many.endswith("1 .11 and 3 more kinds")
