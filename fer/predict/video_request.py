"""Options of the prediction of a video, checked without TensorFlow, NumPy and OpenCV."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence
from typing import Any

from fer.errors import UserError
from fer.io import files, local_write
from fer.predict import output_mark
from fer.storage import is_remote

CAMERA = re.compile(r"camera:(\d{1,3})")
ENDINGS = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv"),
    *(".3gp", ".ogv", ".mjpg", ".mjpeg"),
)
CODECS = {".mp4": "mp4v", ".m4v": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "XVID", ".webm": "VP80"}
SMOOTHINGS = ("exponential", "window")


@dataclasses.dataclass(frozen=True)
class VideoRequest:
    """Input, outputs and options of the prediction of a video."""

    source: str  # path of a video, or "camera:N"
    output: str | None = None  # path of a CSV file
    annotate: str | None = None  # path of a video
    every: str | None = None  # interval between two analysed frames, such as "0.2s"; None for all frames
    smooth: str | None = None  # as for `parse_smoothing`

    def check(self) -> None:
        """Checks options and paths.

        Raises:
          UserError: an option is invalid, or a file cannot be written or would replace another one. Files of --output
            and --annotate are replaced; a plot only if an earlier prediction wrote it.
        """
        self.every_s()
        if self.smooth is not None:
            parse_smoothing(self.smooth)
        if self.annotate is not None and os.path.splitext(self.annotate)[1].lower() not in CODECS:
            raise UserError(f"--annotate={self.annotate} is no video: its name must end with {', '.join(CODECS)}.")
        if self.annotate is not None and (is_remote(self.annotate) or local_write.is_special(self.annotate)):
            raise UserError(f"--annotate={self.annotate} is not a file on a local disk: name one.")
        written = [path for path in (self.annotate, self.output, self.plot()) if path is not None]
        for position, path in enumerate(written):
            others = [self.source, *written[:position]]
            if os.path.realpath(path) in map(os.path.realpath, others):
                raise UserError(f"{path} would replace the input or another output. Name another --output.")
            files.check_writable(path)
        plot = self.plot()
        if self.output is not None and plot is not None:
            output_mark.check_plot(self.output, plot)

    def every_s(self) -> float | None:
        """Returns the interval between two analysed frames in seconds."""
        return None if self.every is None else parse_duration(self.every, "every")

    def plot(self) -> str | None:
        """Returns the path of the plot, beside the CSV file; None if that is printed."""
        if self.output is None or local_write.is_special(self.output):
            return None
        return f"{os.path.splitext(self.output)[0]}.png"


def is_video(source: str) -> bool:
    """Returns whether a path is that of a video, by its extension, or a camera such as "camera:0"."""
    return bool(CAMERA.fullmatch(source)) or source.lower().endswith(ENDINGS)


def make_request(paths: Sequence[str], output: str | None, options: dict[str, Any]) -> VideoRequest | None:
    """Returns the checked request of the video among the inputs of a prediction, or None.

    Args:
      paths: of the inputs.
      output: path of a CSV file.
      options: values of flags by name: the other fields of `VideoRequest`, which only videos have, and flags that
        videos do not have.

    Raises:
      UserError: there are other inputs beside a video, the input does not have one of the options, or as
        `VideoRequest.check`.
    """
    video = next((path for path in paths if is_video(path) and not os.path.isdir(path)), None)
    if video is not None and len(paths) > 1:
        raise UserError(f"{video} is a video, which must be the only input: start the program once for each video.")
    own = {field.name for field in dataclasses.fields(VideoRequest)} & options.keys()
    for name, value in options.items():
        if value and (name in own) == (video is None):
            kind = "a video" if name in own else "pictures and tables"
            raise UserError(f"--{name} is for {kind}, and the input is {paths[0]}. Omit --{name}.")
    if video is None:
        return None
    request = VideoRequest(video, output, **{name: options[name] for name in own})
    request.check()
    return request


def parse_duration(text: str, name: str) -> float:
    """Returns the seconds of a text such as "0.2s" or "0.2".

    Args:
      text: the text.
      name: of the option, for the message.

    Raises:
      UserError: it is no duration above 0.
    """
    found = re.fullmatch(r"(\d+\.?\d*|\.\d+) ?s?", text.strip())
    if not found or not float(found[1]):
        raise UserError(f"{name} is {text!r}; it must be a duration above 0 in seconds, such as 0.2s.")
    return float(found[1])


def parse_smoothing(text: str) -> tuple[str, float]:
    """Returns the kind and the duration in seconds of a smoothing, such as "window:0.5s".

    Args:
      text: one of `SMOOTHINGS`, a colon and a duration.

    Raises:
      UserError: it has another form.
    """
    kind, _, duration = text.partition(":")
    if kind not in SMOOTHINGS:
        forms = " or ".join(f"{each}:SECONDS" for each in SMOOTHINGS)
        raise UserError(f"smooth is {text!r}; it must be {forms}, such as exponential:0.5s.")
    return kind, parse_duration(duration, f"the duration of smooth={kind}")
