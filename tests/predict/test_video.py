"""Tests of `fer.predict.video`, on small clips and with a classifier that computes no network."""

import functools
import pathlib
import subprocess
import sys
import wave
import weakref
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from fer.errors import UserError
from fer.predict import face_detection, tracking, video
from fer.predict.face_detection import Box, FaceCrops
from fer.predict.tracking import Smoother
from fer.predict.video import Frame
from tests.demo.photo import make_photo
from tests.predict import clips

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed: the extra photos brings it")

FPS = 25


def coloured(count: int, side: int = 64) -> list[np.ndarray]:
    """Returns frames that differ in their colour."""
    return [np.full([side, side, 3], (5 * number, 100, 255 - 5 * number), np.uint8) for number in range(count)]


def read(path: str, every_s: float | None = None) -> list[Frame]:
    with video.Reader(path) as reader:
        return list(reader.frames(every_s))


def test_reader_returns_every_frame_of_a_lossless_clip_with_its_time(tmp_path):
    frames = coloured(10)
    found = read(clips.write_clip(tmp_path / "a.avi", frames, FPS))
    assert [frame.number for frame in found] == list(range(10))
    np.testing.assert_allclose([frame.time_s for frame in found], np.arange(10) / FPS)
    np.testing.assert_array_equal([frame.image for frame in found], frames)


@pytest.mark.parametrize(
    ("every_s", "numbers"), [(0.2, [0, 5, 10, 15, 20]), (0.1, [0, 3, 5, 8, 10, 13, 15, 18, 20, 23]), (0.001, range(25))]
)
def test_reader_returns_first_frame_of_each_interval(tmp_path, every_s, numbers):
    found = read(clips.write_clip(tmp_path / "a.avi", coloured(25), FPS), every_s)
    assert [frame.number for frame in found] == list(numbers)


def test_reader_returns_times_of_a_variable_frame_rate(tmp_path):
    times = [0, 40, 80, 500, 1500, 1510]
    path = clips.write_variable_rate(tmp_path / "a.mkv", coloured(6), times)
    np.testing.assert_allclose([frame.time_s for frame in read(path)], np.array(times) / 1000, atol=1e-3)
    assert [frame.number for frame in read(path, 0.4)] == [0, 3, 4]
    with video.Reader(path) as reader:
        assert len(list(reader.frames())) == 6
        reader.check_complete()


class FakeCapture:
    """A capture of blank frames with given timestamps, in milliseconds, and frame rate."""

    def __init__(self, stated_ms: list[float], fps: float, total: int = 0):
        self._stated, self._position = stated_ms, -1
        self._properties = {cv2.CAP_PROP_FPS: fps, cv2.CAP_PROP_FRAME_COUNT: total}

    def isOpened(self) -> bool:  # noqa: N802  OpenCV's name
        return True

    def get(self, prop: int) -> float:
        return self._stated[self._position] if prop == cv2.CAP_PROP_POS_MSEC else self._properties[prop]

    def grab(self) -> bool:
        self._position += 1
        return self._position < len(self._stated)

    def retrieve(self) -> tuple[bool, np.ndarray]:
        return True, np.zeros([4, 4, 3], np.uint8)

    def release(self) -> None:
        pass


@pytest.fixture
def fake(monkeypatch, tmp_path):
    """Returns a function that makes a file whose capture is a `FakeCapture`."""
    (tmp_path / "fake.mp4").write_bytes(b"x")

    def make(*arguments) -> str:
        monkeypatch.setattr(cv2, "VideoCapture", lambda *_: FakeCapture(*arguments))
        return str(tmp_path / "fake.mp4")

    return make


def test_reader_counts_frames_where_timestamps_are_missing_or_go_back(fake):
    assert [frame.time_s for frame in read(fake([0, 0, 0, 0], 20.0))] == pytest.approx([0, 0.05, 0.1, 0.15])
    assert [frame.time_s for frame in read(fake([40, 80, 20, 160], 25.0))] == pytest.approx([0, 0.04, 0.08, 0.12])


@pytest.mark.parametrize("fps", [0.0, -1.0, 90000.0, float("nan")])
def test_reader_needs_timestamps_where_the_frame_rate_is_invalid(fake, fps):
    assert [frame.time_s for frame in read(fake([0, 40, 100], fps))] == pytest.approx([0, 0.04, 0.1])
    path = fake([0, 0, 0], fps)
    with pytest.raises(UserError, match=r"fake\.mp4 states neither timestamps nor a frame rate"):
        read(path)


@pytest.mark.parametrize("name", ["empty.mp4", "junk.mp4", "audio.mp4", "cut.mp4", "absent.mp4", "folder.mp4"])
def test_reader_error_names_a_file_that_is_no_video(tmp_path, name, capfd):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "junk.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    (tmp_path / "folder.mp4").mkdir()
    with wave.open(str(tmp_path / "audio.mp4"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(8000))
    whole = clips.write_clip(tmp_path / "whole.mp4", coloured(10), codec="mp4v")
    with open(whole, "rb") as file:
        (tmp_path / "cut.mp4").write_bytes(file.read()[:-1000])
    reason = {
        "empty.mp4": "is empty: it holds no video",
        "absent.mp4": "There is no video file",
        "folder.mp4": "There is no video file",
    }.get(name, r"cannot be read as a video: .*audio only.*Convert it to MP4")
    with pytest.raises(UserError, match=reason) as raised:
        video.Reader(str(tmp_path / name))
    assert name in str(raised.value)
    assert capfd.readouterr().err == ""


def test_reader_rejects_a_video_in_a_store():
    with pytest.raises(UserError, match=r"s3://bucket/a\.mp4 is in an object store.*copy it to a local disk"):
        video.Reader("s3://bucket/a.mp4")


def test_reader_error_names_a_missing_camera(capfd):
    if cv2.VideoCapture(99).isOpened():
        pytest.skip("this machine has a camera 99")
    capfd.readouterr()
    with pytest.raises(UserError, match=r"Camera 99 is missing or in use: connect one"):
        video.Reader("camera:99")
    assert capfd.readouterr().err == ""


def test_check_complete_reports_a_video_that_is_cut_off(tmp_path):
    frames = list(np.random.default_rng(0).integers(0, 256, [40, 64, 64, 3], np.uint8))
    whole = clips.write_clip(tmp_path / "whole.mkv", frames)
    with open(whole, "rb") as file:
        content = file.read()
    (tmp_path / "cut.mkv").write_bytes(content[: len(content) // 2])
    with video.Reader(whole) as reader:
        assert len(list(reader.frames())) == 40
        reader.check_complete()
    with video.Reader(str(tmp_path / "cut.mkv")) as reader:
        assert 10 < len(list(reader.frames())) < 30
        with pytest.raises(UserError, match=r"cut\.mkv ends after \d\d of 40 frames, at 0\.\d s: it is damaged or cut"):
            reader.check_complete()


def test_reader_hides_messages_of_ffmpeg_about_damage(tmp_path):
    clip = clips.write_clip(tmp_path / "whole.mkv", coloured(40))
    with open(clip, "r+b") as file:
        file.truncate(file.seek(0, 2) // 2)
    code = "import sys; from fer.predict import video; print(len(list(video.Reader(sys.argv[1]).frames())))"
    root = pathlib.Path(video.__file__).parents[2]  # OpenCV reads the level of messages once in a process
    done = subprocess.run([sys.executable, "-c", code, clip], cwd=root, capture_output=True, text=True, check=True)
    assert 1 < int(done.stdout) < 40
    assert done.stderr == ""


def test_check_complete_accepts_an_estimated_count_of_frames(fake):
    # 3 frames in 10 s, from a file that states 25 frames a second and therefore 250 frames.
    with video.Reader(fake([0, 5000, 9960], 25.0, 250)) as reader:
        assert len(list(reader.frames())) == 3
        reader.check_complete()


def crops(count: int, value: int = 0) -> FaceCrops:
    boxes = [Box(20 * number, 0, 16, 16) for number in range(count)]
    return FaceCrops(np.full([count, 48, 48, 1], value, np.uint8), boxes, (64, 64), ())


def predict(images: np.ndarray) -> np.ndarray:
    """Returns probabilities [n, 2]: the value of the pixels, and the rest."""
    share = images[:, 0, 0].astype(np.float32) / 255
    return np.concatenate([share, 1 - share], axis=1)


def fake_frames(count: int) -> Iterator[Frame]:
    for number in range(count):
        yield Frame(number, number / FPS, np.full([8, 8, 3], number, np.uint8))


def test_recognize_batches_faces_over_frames_and_keeps_their_order():
    sizes = []

    def counted(images: np.ndarray) -> np.ndarray:
        sizes.append(len(images))
        return predict(images)

    def extract(image, detector) -> FaceCrops:
        value = image.getpixel((0, 0))[0]
        return crops(value % 4, value)  # 0, 1, 2, 3, 0, ... faces

    found = list(video.recognize(fake_frames(40), extract, counted))
    assert [each.frame.number for each in found] == list(range(40))
    assert [len(each.boxes) for each in found] == [number % 4 for number in range(40)]
    for each in found:
        np.testing.assert_allclose(each.probabilities[:, :1], each.frame.number / 255, atol=1e-6)
    assert sum(sizes) == 60
    assert max(sizes) <= video.BATCH
    assert len(sizes) == 2
    assert {number for each in found for number in each.tracks} == {1, 2, 3}


def test_recognize_holds_a_bounded_number_of_frames():
    references = []

    def frames():
        for frame in fake_frames(250):
            references.append(weakref.ref(frame.image))
            yield frame

    for _ in video.recognize(frames(), lambda *_, **__: crops(0), predict):
        assert sum(reference() is not None for reference in references) <= 2 * video.MAX_FRAMES + 2
    assert len(references) == 250


def record(frames, taken: list[int]):
    """Yields frames, and adds the number of each one to `taken` when it is taken."""
    for frame in frames:
        taken.append(frame.number)
        yield frame


def test_recognize_splits_batches_of_large_frames(monkeypatch):
    monkeypatch.setattr(video, "MAX_BYTES", 3 * 8 * 8 * 3)
    taken: list[int] = []
    found = video.recognize(record(fake_frames(20), taken), lambda *_, **__: crops(1), predict)
    for number, _ in enumerate(found, start=1):
        assert len(taken) - number <= 7


def test_recognize_gives_frames_of_a_camera_without_waiting():
    taken: list[int] = []
    found = video.recognize(record(fake_frames(5), taken), lambda *_, **__: crops(1), predict, batch_size=1)
    for number, _ in enumerate(found, start=1):
        assert len(taken) == number


def test_recognize_takes_a_whole_frame_as_one_box():
    whole = FaceCrops(np.zeros([1, 48, 48, 1], np.uint8), None, (48, 48), ())
    (found,) = video.recognize(fake_frames(1), lambda *_, **__: whole, predict)
    assert found.boxes == [Box(0, 0, 8, 8)]


def test_recognize_smooths_each_track():
    values = [0, 255, 255]
    found = video.recognize(
        fake_frames(3),
        lambda image, detector: crops(1, values[image.getpixel((0, 0))[0]]),
        predict,
        smoother=Smoother("window:10s"),
    )
    np.testing.assert_allclose([each.probabilities[0, 0] for each in found], [0, 0.5, 2 / 3], atol=1e-6)


def test_max_gap_is_two_intervals_of_rare_frames():
    assert video.max_gap(None) == video.max_gap(0.2) == video.MAX_GAP_S
    assert video.max_gap(3.0) == pytest.approx(6.0, abs=1e-3)


def test_recognize_searches_a_frame_each_second_as_a_picture():
    searched = []

    def extract(image, detector) -> FaceCrops:
        if detector is None:
            searched.append(image.getpixel((0, 0))[0])
        return crops(2)

    found = list(video.recognize(fake_frames(60), extract, predict))
    assert searched == [0, 25, 50]
    assert [len(each.boxes) for each in found] == [2] * 60


def test_recognize_searches_a_frame_as_a_picture_when_a_face_is_lost():
    searched = []

    def extract(image, detector) -> FaceCrops:
        number = image.getpixel((0, 0))[0]
        if detector is None:
            searched.append(number)
        return crops(2 if number < 10 else 1)

    found = list(video.recognize(fake_frames(30), extract, predict))
    assert searched == [0, 10]
    assert [len(each.boxes) for each in found] == [2] * 10 + [1] * 20


def test_recognize_finds_no_face_between_pictures_without_a_search():
    def extract(image, detector) -> FaceCrops:
        boxes = [] if detector is None else detector(image)
        return FaceCrops(np.zeros([len(boxes), 48, 48, 1], np.uint8), boxes, image.size, ())

    assert [each.boxes for each in video.recognize(fake_frames(30), extract, predict)] == [[]] * 30


@pytest.mark.parametrize(("fps", "least"), [(1, 1.0), (25, 0.7)])
def test_recognize_finds_faces_of_a_lossless_clip_like_those_of_its_pictures(tmp_path, fps, least):
    """Frames that are a second apart are searched as pictures, others near the last boxes."""
    photo = make_photo()
    frames = [np.roll(photo, 5 * step, axis=1) for step in range(4)]
    path = clips.write_clip(tmp_path / "a.avi", frames, fps)
    extract = functools.partial(face_detection.extract_faces, faces="find")
    for frame, found in zip(frames, video.recognize(read(path), extract, predict)):
        expected = extract(Image.fromarray(frame))
        assert found.tracks == [1, 2]
        overlaps = [tracking.iou(*boxes) for boxes in zip(found.boxes, expected.boxes)]
        assert min(overlaps) >= least
        if least == 1:
            np.testing.assert_array_equal(found.probabilities, predict(expected.images))


def test_recognize_passes_errors_of_the_classifier():
    def fail(images: np.ndarray) -> np.ndarray:
        raise UserError("no memory")

    with pytest.raises(UserError, match="no memory"):
        list(video.recognize(fake_frames(3), lambda *_, **__: crops(1), fail))
