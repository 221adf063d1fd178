"""Tests of `fer.predict.video_files` and `fer.predict.track_statistics`, with a classifier that computes no network."""

import csv
import io
import os

import numpy as np
import pytest
from PIL import Image, ImageColor

from fer.errors import UserError
from fer.labels import CLASSES, class_colours
from fer.predict import track_statistics, video, video_files, video_request
from fer.predict.face_detection import Box, FaceCrops
from fer.predict.track_statistics import TrackStatistics
from fer.predict.video import Frame, FrameFaces
from fer.predict.video_request import VideoRequest
from tests.predict import clips

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed: the extra photos brings it")

FPS = 25
GREY = np.full([240, 320, 3], 128, np.uint8)


def extract(image: Image.Image, detector=None) -> FaceCrops:
    """Returns two faces of each frame but dark ones, which have none."""
    boxes = [] if image.getpixel((0, 0))[0] < 20 else [Box(30, 60, 80, 80), Box(180, 70, 100, 100)]
    return FaceCrops(np.zeros([len(boxes), 48, 48, 1], np.uint8), boxes, image.size, ())


def compute(images: np.ndarray) -> np.ndarray:
    """Returns happy for faces at even positions, sad for the others."""
    probabilities = np.full([len(images), len(CLASSES)], 0.02, np.float32)
    probabilities[::2, CLASSES.index("happy")] = probabilities[1::2, CLASSES.index("sad")] = 0.88
    return probabilities


@pytest.fixture
def clip(tmp_path) -> str:
    """Writes 20 grey frames followed by 5 black ones."""
    return clips.write_clip(tmp_path / "clip.avi", [GREY] * 20 + [np.zeros_like(GREY)] * 5, FPS)


def predict(request: VideoRequest) -> list[str]:
    request.check()
    results = io.StringIO()
    video_files.predict(request, extract, compute, CLASSES, results)
    return results.getvalue().splitlines()


def names(folder) -> set[str]:
    return set(os.listdir(folder))


def test_predict_writes_a_row_for_each_face_and_frame(clip, tmp_path):
    lines = predict(VideoRequest(clip, str(tmp_path / "out" / "a.csv"), str(tmp_path / "out" / "a.mp4"), every="0.2s"))
    assert lines[0].startswith(f"{clip}: 5 of 25 frames analysed, 0.8 s, ")
    assert lines[1:3] == [
        "track 1: 0.6 s from 0.0 s, 4 frames: happy 100 %",
        "track 2: 0.6 s from 0.0 s, 4 frames: sad 100 %",
    ]
    assert lines[3:] == [f"wrote {tmp_path / 'out' / name}" for name in ("a.mp4", "a.csv", "a.png")]
    assert names(tmp_path / "out") == {"a.mp4", "a.csv", "a.png"}
    with open(tmp_path / "out" / "a.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["frame", "time", "track", "label", "name", *CLASSES, "left", "top", "width", "height"]
    assert [(row["frame"], row["time"], row["track"], row["name"]) for row in rows] == [
        (str(number), f"{number / FPS:.3f}", track, name)
        for number in (0, 5, 10, 15)
        for track, name in (("1", "happy"), ("2", "sad"))
    ]
    assert [rows[1][name] for name in ("label", "sad", "left", "top", "width", "height")] == [
        *("4", "0.880000", "180", "70", "100", "100")
    ]
    assert Image.open(tmp_path / "out" / "a.png").format == "PNG"


def test_predict_replaces_the_files_of_an_earlier_prediction(clip, tmp_path):
    for every in ("0.2s", "0.4s"):
        predict(VideoRequest(clip, str(tmp_path / "a.csv"), str(tmp_path / "a.mp4"), every=every))
    assert (tmp_path / "a.csv").read_text().count("\n") == 5
    assert Image.open(tmp_path / "a.png").text == {"Software": "Written by fer-predict"}


def test_predict_without_output_writes_nothing(clip, tmp_path):
    assert len(predict(VideoRequest(clip))) == 3
    assert names(tmp_path) == {"clip.avi"}


@pytest.mark.parametrize("name", [f"copy{ending}" for ending in video_request.CODECS])
def test_annotated_copy_shows_boxes_and_keeps_size_and_times(clip, tmp_path, name):
    predict(VideoRequest(clip, annotate=str(tmp_path / name)))
    with video.Reader(str(tmp_path / name)) as reader:
        found = list(reader.frames())
    assert len(found) == 25
    np.testing.assert_allclose([frame.time_s for frame in found], np.arange(25) / FPS, atol=2e-3)
    assert found[0].image.shape == GREY.shape
    first, last = found[0].image.astype(int), found[24].image
    outline = np.array(ImageColor.getrgb(class_colours(CLASSES)[CLASSES.index("sad")]))
    assert np.abs(first[200:] - 128).max() < 20
    assert np.abs(first[85:165, 181] - outline).max() < 60
    assert last.max() < 40


def test_annotated_copy_of_a_variable_frame_rate_repeats_frames(tmp_path):
    frames = [np.full_like(GREY, 100), np.full_like(GREY, 180), np.full_like(GREY, 40)]
    clip = clips.write_variable_rate(tmp_path / "a.mkv", frames, [0, 400, 1200])
    predict(VideoRequest(clip, annotate=str(tmp_path / "copy.mp4"), every="0.1s"))
    with video.Reader(str(tmp_path / "copy.mp4")) as reader:
        found = list(reader.frames())
    levels = [int(frame.image[230, 4].mean()) for frame in found]
    assert [round(frame.time_s, 1) for frame in found] == [0.0, 0.4, 0.8, 1.2]
    assert np.abs(np.array(levels) - [100, 180, 180, 40]).max() < 20


def test_annotated_copy_of_sparse_frames_keeps_their_times(tmp_path):
    levels = np.arange(0, 240, 20, np.uint8)
    clip = clips.write_clip(tmp_path / "a.avi", [np.full_like(GREY, level) for level in levels], fps=0.01)
    predict(VideoRequest(clip, annotate=str(tmp_path / "copy.mp4"), every="500s"))
    with video.Reader(str(tmp_path / "copy.mp4")) as reader:
        found = {frame.time_s: int(frame.image[230, 4].mean()) for frame in reader.frames()}
    assert list(found) == list(range(1001))
    assert np.abs(np.array([found[time] for time in (0, 499, 500, 999, 1000)]) - [0, 0, 100, 100, 200]).max() < 20


@pytest.mark.parametrize(
    ("fps", "every_s", "expected"),
    [(25, None, 25), (None, None, 25), (25, 0.2, 5), (25, 600, 1), (25, 7, 1), (25, 1.3, 1.54), (0.4, None, 1.2)],
)
def test_copied_fps_is_high_enough_for_opencv(fps, every_s, expected):
    assert video_files._copied_fps(fps, every_s) == pytest.approx(expected)


def test_annotated_copy_cuts_a_jump_of_the_timestamps(tmp_path, monkeypatch):
    monkeypatch.setattr(video_files, "MAX_PAUSE_S", 1.2)
    frames = [np.full_like(GREY, level) for level in (100, 180, 40, 240)]
    clip = clips.write_variable_rate(tmp_path / "a.mkv", frames, [0, 400, 30_000, 30_400])
    lines = predict(VideoRequest(clip, annotate=str(tmp_path / "copy.mp4"), every="0.1s"))
    note = "copy.mp4 is 28 s shorter than the input: pauses between frames are cut to 1 s"
    assert lines[-2:] == [f"wrote {tmp_path / 'copy.mp4'}", f"{tmp_path / note}"]
    copy = video_files.AnnotatedVideo(str(tmp_path / "b.mp4"), 1, "mp4v", CLASSES, max_pause_s=2)
    for time_s in (0, 1, 36_000, 36_001, 36_002):
        copy.add(FrameFaces(Frame(0, time_s, GREY), [], [], np.empty([0, 0], np.float32)))
    copy.close()
    assert copy.omitted_s == 35_997
    with video.Reader(copy.path) as reader:
        assert [frame.time_s for frame in reader.frames()] == [0, 1, 2, 3, 4, 5]


def test_annotated_copy_takes_frames_of_odd_and_changing_sizes(tmp_path):
    copy = video_files.AnnotatedVideo(str(tmp_path / "copy.mp4"), FPS, "mp4v", CLASSES)
    for number, size in enumerate([(241, 321, 3), (241, 321, 3), (120, 160, 3)]):
        frame = Frame(number, number / FPS, np.full(size, 90, np.uint8))
        copy.add(FrameFaces(frame, [], [], np.empty([0, 0], np.float32)))
    copy.close()
    assert copy.is_complete()
    with video.Reader(copy.path) as reader:
        assert [frame.image.shape for frame in reader.frames()] == [(240, 320, 3)] * 3


def test_predict_reports_a_clip_without_faces(tmp_path):
    clip = clips.write_clip(tmp_path / "clip.avi", [np.zeros_like(GREY)] * 3)
    lines = predict(VideoRequest(clip, str(tmp_path / "a.csv")))
    assert lines[1].startswith("no face was found; --faces=whole")
    assert (tmp_path / "a.csv").read_text().count("\n") == 1
    assert names(tmp_path) == {"clip.avi", "a.csv", "a.png"}


def test_predict_keeps_rows_of_a_clip_that_is_cut_off_and_raises(tmp_path):
    rng = np.random.default_rng(0)
    clip = clips.write_clip(tmp_path / "clip.mkv", list(rng.integers(100, 200, [40, 60, 80, 3], np.uint8)))
    with open(clip, "r+b") as file:
        file.truncate(file.seek(0, 2) // 2)
    results = io.StringIO()
    with pytest.raises(UserError, match=r"clip\.mkv ends after \d+ of 40 frames"):
        video_files.predict(VideoRequest(clip, str(tmp_path / "a.csv")), extract, compute, CLASSES, results)
    assert (tmp_path / "a.csv").read_text().count("\n") > 20
    assert f"wrote {tmp_path / 'a.csv'}" in results.getvalue()


def test_predict_that_fails_leaves_old_files_and_no_others(clip, tmp_path):
    for name in ("a.csv", "a.png", "b.mp4"):
        (tmp_path / name).write_text("old")

    def fail(images: np.ndarray) -> np.ndarray:
        raise UserError("no memory")

    request = VideoRequest(clip, str(tmp_path / "a.csv"), str(tmp_path / "b.mp4"))
    with pytest.raises(UserError, match="no memory"):
        video_files.predict(request, extract, fail, CLASSES, io.StringIO())
    assert names(tmp_path) == {"clip.avi", "a.csv", "a.png", "b.mp4"}
    assert {(tmp_path / name).read_text() for name in ("a.csv", "a.png", "b.mp4")} == {"old"}


def test_annotated_copy_that_opencv_cannot_write_raises_user_error(clip, tmp_path, monkeypatch):
    monkeypatch.setitem(video_request.CODECS, ".mp4", "none")
    with pytest.raises(UserError, match=r"Cannot write .*b\.mp4: OpenCV stopped"):
        predict(VideoRequest(clip, annotate=str(tmp_path / "b.mp4")))
    assert names(tmp_path) == {"clip.avi"}


def test_interrupt_ends_the_analysis_of_a_camera_and_keeps_its_rows(clip, tmp_path, monkeypatch):
    """A clip stands for the camera, and the third batch for Ctrl-C."""
    capture, calls = cv2.VideoCapture(clip), []
    monkeypatch.setattr(cv2, "VideoCapture", lambda *_: capture)

    def interrupted(images: np.ndarray) -> np.ndarray:
        calls.append(len(images))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return compute(images)

    request = VideoRequest("camera:0", str(tmp_path / "a.csv"))
    results = io.StringIO()
    video_files.predict(request, extract, interrupted, CLASSES, results)
    assert results.getvalue().startswith("camera:0: 2 of 3 frames analysed")
    assert calls == [2, 2, 2]
    assert (tmp_path / "a.csv").read_text().count("\n") == 5


def test_predict_prints_rows_to_a_pipe(clip, tmp_path):
    reading, writing = os.pipe()
    lines = predict(VideoRequest(clip, f"/dev/fd/{writing}", every="0.2s"))
    os.close(writing)
    with open(reading, newline="") as file:
        assert len(list(csv.DictReader(file))) == 8
    assert not any("png" in line for line in lines)
    reading, writing = os.pipe()
    os.close(reading)
    predict(VideoRequest(clip, f"/dev/fd/{writing}"))  # a reader that leaves early is no error
    os.close(writing)


def test_csv_writer_escapes_class_names_of_spreadsheets():
    file = io.BytesIO()
    writer = video_files.CsvWriter(file.write, ("=happy", "sad"))
    writer.add(FrameFaces(Frame(7, 0.28, GREY), [Box(1, 2, 3, 4)], [5], np.array([[0.75, 0.25]], np.float32)))
    header, row = file.getvalue().decode().splitlines()
    assert header == "frame,time,track,label,name,'=happy,sad,left,top,width,height"
    assert row == "7,0.280,5,0,'=happy,0.750000,0.250000,1,2,3,4"


def add(statistics: TrackStatistics, time_s: float, *faces: tuple[int, int]) -> None:
    """Adds a frame whose faces are given as track number and label of two classes."""
    rows = np.array([[1 - label, label] for _, label in faces], np.float32).reshape(-1, 2)
    boxes = [Box(0, 0, 1, 1)] * len(faces)
    statistics.add(FrameFaces(Frame(0, time_s, GREY), boxes, [number for number, _ in faces], rows))


def test_track_statistics_describe_duration_and_shares():
    statistics = TrackStatistics(("calm", "tense"), 1.0)
    for number in range(8):
        add(statistics, 0.5 * number, *([(1, int(number >= 6))] if number < 7 else []), (2, 1))
    assert statistics.lines() == [
        "track 1: 3.0 s from 0.0 s, 7 frames: calm 86 %, tense 14 %",
        "track 2: 3.5 s from 0.0 s, 8 frames: tense 100 %",
    ]


def test_track_statistics_of_a_long_video_take_no_more_memory():
    statistics = TrackStatistics(("calm", "tense"), 1.0)
    for second in range(20_000):  # five and a half hours; a track each three seconds, and one for the whole time
        add(statistics, float(second), (1, second % 2), (2 + second // 3, 1))
    assert len(statistics._tracks) <= 2 * track_statistics.MAX_TRACKS + 1
    (track,) = statistics.tracks(1)
    assert (track.number, track.frames, track.last_s) == (1, 20_000, 19_999.0)
    times, means = track.timeline()
    assert track_statistics.BINS / 2 < len(times) <= track_statistics.BINS
    assert np.diff(times).min() > 0
    np.testing.assert_allclose(means, 0.5, atol=0.05)
    assert statistics.lines()[-1] == "6,648 shorter tracks"


def test_track_statistics_keep_a_short_track_that_has_not_ended():
    statistics = TrackStatistics(("calm", "tense"), 1.0)
    numbers = range(1, 2 * track_statistics.MAX_TRACKS + 1)
    for time_s in (0.0, 0.1):
        add(statistics, time_s, *((number, 0) for number in numbers))
    last = len(numbers) + 1
    add(statistics, 5.0, (last, 1))
    for step in range(1, 4):
        add(statistics, 5.0 + step, (last, 1))
    assert f"track {last}: 3.0 s from 5.0 s, 4 frames: tense 100 %" in statistics.lines()
