"""Tests of `fer.predict.video_request`."""

import pytest

from fer.errors import UserError
from fer.predict import video_request
from fer.predict.video_request import VideoRequest


@pytest.mark.parametrize(("name", "expected"), [("a.mp4", True), ("A.MOV", True), ("camera:0", True), ("a.png", False)])
def test_is_video_knows_extensions_and_cameras(name, expected):
    assert video_request.is_video(name) is expected


def test_make_request_takes_its_options_for_the_only_input(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {"annotate": None, "every": "1s", "smooth": None, "json": False}
    assert video_request.make_request(["a.mp4"], "a.csv", options) == VideoRequest("a.mp4", "a.csv", every="1s")
    assert video_request.make_request(["a.png", "b.csv"], None, {"every": None, "json": True}) is None
    (tmp_path / "folder.mp4").mkdir()
    assert video_request.make_request(["folder.mp4", "a.png"], None, {}) is None


@pytest.mark.parametrize(
    ("paths", "options", "message"),
    [
        (["a.png", "b.mp4"], {}, r"b\.mp4 is a video, which must be the only input"),
        (["a.png"], {"every": "1s"}, r"--every is for a video, and the input is a\.png\. Omit --every"),
        (["a.mp4"], {"kaggle": True}, r"--kaggle is for pictures and tables, and the input is a\.mp4"),
        (["a.mp4"], {"every": "soon"}, "every is 'soon'"),
    ],
)
def test_make_request_error_names_input_and_option(paths, options, message):
    with pytest.raises(UserError, match=message):
        video_request.make_request(paths, None, options)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"every": "soon"}, "every is 'soon'; it must be a duration"),
        ({"smooth": "mean:1s"}, "smooth is 'mean:1s'; it must be exponential:SECONDS or window:SECONDS"),
        ({"annotate": "a.gif"}, r"--annotate=a\.gif is no video: its name must end with \.mp4"),
        ({"annotate": "s3://bucket/a.mp4"}, "is not a file on a local disk"),
        ({"annotate": "clip.avi"}, r"clip\.avi would replace the input"),
        ({"output": "./clip.avi"}, r"clip\.avi would replace the input"),
        ({"output": "a.mp4", "annotate": "a.mp4"}, r"a\.mp4 would replace the input or another output"),
        ({"output": "a.png"}, r"a\.png would replace the input or another output"),
        ({"output": "clip.avi/a.csv"}, r"Cannot write clip\.avi/a\.csv: .*clip\.avi is a file"),
    ],
)
def test_check_error_names_option_and_value(tmp_path, monkeypatch, changes, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clip.avi").touch()
    with pytest.raises(UserError, match=message):
        VideoRequest("clip.avi", **changes).check()


def test_check_rejects_plot_that_no_prediction_wrote(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").write_bytes(b"\x89PNG of the user")
    with pytest.raises(UserError, match=r"writes a plot to a\.png, which was not written by an earlier prediction"):
        VideoRequest("clip.avi", "a.csv").check()


@pytest.mark.parametrize("text", ["mean:1s", "window", "window:", "window:0", "exponential:-1s", "exponential:1m", ""])
def test_parse_smoothing_error_names_value_and_forms(text):
    with pytest.raises(UserError, match=r"smooth") as raised:
        video_request.parse_smoothing(text)
    assert "0.2s" in str(raised.value) or "exponential:0.5s" in str(raised.value)


@pytest.mark.parametrize(("text", "seconds"), [("0.2s", 0.2), ("0.2", 0.2), (" 3 s", 3.0), (".5s", 0.5), ("2.", 2.0)])
def test_parse_duration_reads_seconds(text, seconds):
    assert video_request.parse_duration(text, "every") == seconds


@pytest.mark.parametrize("text", ["", "0", "0.0s", "-1s", "1m", "s", "nan", "inf", "1e3"])
def test_parse_duration_error_names_option_and_value(text):
    with pytest.raises(UserError, match=f"every is {text!r}; it must be a duration above 0"):
        video_request.parse_duration(text, "every")
