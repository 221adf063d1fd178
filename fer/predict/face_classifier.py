"""Classifies faces in Python: `fer.load` opens a network for photos, cropped faces and features."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Union

import numpy as np
import tensorflow as tf
from PIL import Image

from fer import config
from fer.convert.readers import image_reader
from fer.errors import UserError
from fer.evaluation import eval_json, inference
from fer.io import files
from fer.labels import SIDE
from fer.models import loading
from fer.predict import classification, face_detection, tracking, video
from fer.predict.classification import Face, Source
from fer.predict.video_request import parse_duration
from fer.run_dir import CARD_FILE, EVAL_FILE

LAST_LAYER = "logits"

# A path, the bytes of a file, uint8 [H, W], [H, W, 1] (grey) or [H, W, 3] (RGB), or an image of Pillow.
Picture = Union[str, "os.PathLike[str]", bytes, np.ndarray, Image.Image]


@dataclasses.dataclass(frozen=True)
class VideoFace(Face):
    """A face in a frame of a video with its prediction."""

    frame: int  # number, from 0
    time_s: float  # since the first frame
    track: int  # number of the face that is followed, from 1


class FaceClassifier:
    """A network with its classes, for prediction. `fer.load` creates it.

    Calls may come from one thread at a time: OpenCV's detector is not thread-safe.
    """

    def __init__(self, workdir: str | os.PathLike[str] = loading.BUNDLED, run: loading.LoadedRun | None = None):
        """Opens a network.

        Args:
          workdir: a run directory, an export (folder or file) or "bundled".
          run: the opened workdir; by default it is opened here.

        Raises:
          UserError: as `fer.models.loading.open_run`.
        """
        self._workdir = os.fspath(workdir)
        if run is None and self._workdir != loading.BUNDLED:  # the bundled network predicts without building layers
            run = loading.open_run(self._workdir)
        self._run = run
        self._classes = loading.read_classes([self._workdir]) if run is None else run.classes
        self._network = loading.open_network(self._workdir) if run is None else run.model
        self._compiled: dict[tuple[str, int], Callable[..., np.ndarray]] = {}

    def __repr__(self) -> str:
        return f"fer.load({self._workdir!r})"

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in label order."""
        return self._classes

    @property
    def keras(self) -> tf.keras.Model:
        """The Keras model, from uint8 [B, 48, 48, 1] to logits float32 [B, C].

        Predictions use its current weights, also after `fit`.

        Raises:
          UserError: the network is an export, which has no layers.
        """
        run = self._open_run()
        if run.export:
            raise UserError(
                f"{self._workdir} is an export, which has no Keras layers: load the run that it was exported from for "
                "keras and embed."
            )
        if self._network is not run.model:
            self._network = run.model
            self._compiled.clear()
        return run.model

    @property
    def card(self) -> dict[str, Any]:
        """The record of the network.

        Its keys are those of an entry of `protocol.members` in eval.json, such as model, parameters, precision,
        checkpoint_step, weights_sha256 and trained_on; and `classes`; `evaluation`, the eval.json of these weights; and
        `text`, the model card in Markdown. The last two are None if the folder has none.
        """
        member = eval_json.describe_member(self._open_run())
        folder = loading.bundle_folder() if self._workdir == loading.BUNDLED else self._workdir
        evaluation, text = (os.path.join(folder, name) for name in (EVAL_FILE, CARD_FILE))
        found = eval_json.read_eval(evaluation) if files.exists(evaluation) else None
        if found and [each["weights_sha256"] for each in found["protocol"]["members"]] != [member["weights_sha256"]]:
            found = None  # of other weights: the run continued after its evaluation
        card = files.read_bytes(text, f"There is no {text}.").decode() if files.exists(text) else None
        return {**member, "classes": self.classes, "evaluation": found, "text": card}

    def predict(self, pictures: Picture | Sequence[Picture], faces: str = "auto") -> list[Any]:
        """Detects and classifies the faces in pictures.

        Args:
          pictures: one picture, or a list of them: a path, the bytes of a file (`image_reader.FORMAT_NAMES`), a NumPy
            array uint8 [H, W], [H, W, 1] (grey) or [H, W, 3] (RGB), or an image of Pillow. EXIF orientation is applied.
          faces: "find" detects the faces; "whole" takes a picture as one face; "auto" is "whole" for pictures of 48x48
            pixels and "find" for others.

        Returns:
          For one picture a list of `Face`, from left to right; it is empty if no face is found. For a list of pictures
          a list of such lists.

        Raises:
          UserError: a picture, which the message names, cannot be read or is no supported kind; or OpenCV is missing.
        """
        _check_faces(faces)
        several = isinstance(pictures, (list, tuple))
        given: Any = pictures if several else [pictures]
        names = (_name(each, f"picture {n}" if several else "the picture") for n, each in enumerate(given, start=1))
        sources = (Source(name, name, _read(each, name)) for name, each in zip(names, given))
        results = []
        for result in classification.classify(
            sources,
            lambda source: face_detection.extract_faces(source.picture, faces),
            self.predict_faces,
            self.classes,
        ):
            if result.error:
                raise UserError(f"{result.error}.")
            results.append(result.faces)
        return results if several else results[0]

    def predict_video(
        self,
        source: str | os.PathLike[str],
        every: float | str | None = None,
        smooth: str | None = None,
        faces: str = "auto",
    ) -> Iterator[VideoFace]:
        """Detects, follows and classifies the faces of a video.

        Args:
          source: path of a video, or a camera such as "camera:0".
          every: interval between two analysed frames in seconds; None for all frames.
          smooth: smoothing of the probabilities of a track, "exponential:SECONDS" or "window:SECONDS" (see
            `fer.predict.tracking.Smoother`); None for those of each frame alone.
          faces: as for `predict`, for each frame.

        Returns:
          An iterator over the faces, by frame and from left to right. Frames are read as the iteration advances. A
          video is open during the iteration; a camera from this call on, until the iterator ends or is deleted.

        Raises:
          UserError: the video cannot be read, an argument is invalid, or OpenCV is missing. The iterator raises it at
            its end if the video is shorter than the file states.
        """
        _check_faces(faces)
        every_s = None if every is None else parse_duration(str(every), "every")
        smoother = None if smooth is None else tracking.Smoother(smooth)
        reader = video.Reader(os.fspath(source))
        if not reader.is_camera:  # a caller may never start the iterator; opening a camera takes seconds
            reader.close()
        size = 1 if reader.is_camera else video.BATCH
        found = video.recognize(
            reader.frames(every_s),
            functools.partial(face_detection.extract_faces, faces=faces),
            functools.partial(
                self._compute, "probabilities", functools.partial(_make_probabilities, self._network), size=size
            ),
            video.max_gap(every_s),
            smoother,
            size,
        )
        return _video_faces(reader, found, self.classes)

    def predict_faces(self, images: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
        """Computes the probabilities of cropped faces.

        Args:
          images: uint8 [N, H, W], [N, H, W, 1] (grey) or [N, H, W, 3] (RGB), or a list of N such images of any sizes.
            Images of other sizes than 48x48 are resized, those in colour converted to grey.

        Returns:
          float32 [N, C]; each row sums to 1.

        Raises:
          UserError: the images have another dtype or shape.
        """
        return self._compute("probabilities", functools.partial(_make_probabilities, self._network), images)

    def embed(self, images: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
        """Computes the input of the last layer, a feature vector of each face.

        The layer `model.keras.get_layer("logits")` computes the logits from it. If this layer is a convolution (as in
        mini_xception), the features are averaged over the image.

        Args:
          images: as for `predict_faces`.

        Returns:
          float32 [N, D].

        Raises:
          UserError: the network is an export, or the images have another dtype or shape.
        """
        return self._compute("embedding", functools.partial(_make_embedding, self.keras), images)

    def _open_run(self) -> loading.LoadedRun:
        self._run = self._run or loading.open_run(self._workdir)
        return self._run

    def _compute(
        self, name: str, make: Callable[[], Callable[[tf.Tensor], tf.Tensor]], images: Any, size: int | None = None
    ) -> np.ndarray:
        """Computes the function of faces that `make` returns, in batches; each batch size is compiled once."""
        faces = _to_faces(images)
        size = size or inference.fitting_batch_size(len(faces))
        if (name, size) not in self._compiled:
            self._compiled[name, size] = inference.make_batch_fn(make(), size, warm_up=False)
        return self._compiled[name, size](faces, lambda _: None)


def load(workdir: str | os.PathLike[str] = loading.BUNDLED) -> FaceClassifier:
    """Opens a network.

    Args:
      workdir: a run directory, an export (folder or file) or "bundled", the network in the package.

    Raises:
      UserError: as `fer.models.loading.open_run`.
    """
    return FaceClassifier(workdir)


def _make_probabilities(network: Callable[..., tf.Tensor]) -> Callable[[tf.Tensor], tf.Tensor]:
    return lambda faces: tf.nn.softmax(tf.cast(network(faces, training=False), tf.float32))


def _make_embedding(model: tf.keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
    features = tf.keras.Model(model.inputs, model.get_layer(LAST_LAYER).input)

    def embedding(faces: tf.Tensor) -> tf.Tensor:
        values = tf.cast(features(faces, training=False), tf.float32)
        return tf.reduce_mean(values, [1, 2]) if len(values.shape) == 4 else values

    return embedding


def _check_faces(faces: str) -> None:
    if faces not in config.FACES:
        raise UserError(f"faces is {faces!r}; it must be one of {', '.join(config.FACES)}.")


def _video_faces(
    reader: video.Reader, found: Iterable[video.FrameFaces], classes: Sequence[str]
) -> Iterator[VideoFace]:
    with reader:
        for each in found:
            for box, track, row in zip(each.boxes, each.tracks, each.probabilities):
                face = classification.make_face(reader.source, box, row, classes)
                yield VideoFace(**vars(face), frame=each.frame.number, time_s=each.frame.time_s, track=track)
        reader.check_complete()


def _name(picture: Any, otherwise: str) -> str:
    return os.fspath(picture) if isinstance(picture, (str, os.PathLike)) else otherwise


def _read(picture: Any, name: str) -> bytes | Image.Image:
    """Returns the bytes of a picture's file, or the image of any other supported kind.

    Raises:
      UserError: as `FaceClassifier.predict`.
    """
    if isinstance(picture, (bytes, Image.Image)):
        return picture
    if not isinstance(picture, (str, os.PathLike)):
        return _to_image(picture, name)
    if files.isdir(name):
        raise UserError(f"{name} is a folder: pass a list of the paths of its pictures.")
    return files.read_bytes(name, f"There is no picture {name}.")


def _to_image(array: Any, name: str) -> Image.Image:
    """Converts an array to an image of Pillow.

    Raises:
      UserError: it is no array uint8 [H, W], [H, W, 1] or [H, W, 3].
    """
    shape, dtype = getattr(array, "shape", None), getattr(array, "dtype", type(array).__name__)
    fits = shape is not None and (len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3))) and 0 not in shape
    if not fits or dtype != np.uint8:
        raise UserError(
            f"{name} is {dtype}{'' if shape is None else f' {list(shape)}'}: pass a path, bytes, an image of Pillow or "
            "an array, uint8 [H, W], [H, W, 1] (grey) or [H, W, 3] (RGB)."
        )
    array = np.asarray(array)
    return Image.fromarray(array[..., 0] if array.shape[2:] == (1,) else array)


def _to_faces(images: Any) -> np.ndarray:
    """Returns faces uint8 [N, 48, 48, 1] for the argument of `FaceClassifier.predict_faces`.

    Raises:
      UserError: the images have another dtype or shape.
    """
    if isinstance(images, (list, tuple)):
        faces = [image_reader.read_face(_to_image(each, f"image {number}"))[0] for number, each in enumerate(images)]
        return np.array(faces, np.uint8).reshape(-1, SIDE, SIDE, 1)
    array = np.asarray(images)
    shape = array.shape
    single = len(shape) == 3 and shape[2] in (1, 3)
    if array.dtype != np.uint8 or single or not (len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3))):
        hint = " A single face needs a first axis: images[None]." if single or len(shape) == 2 else ""
        raise UserError(
            f"images is {array.dtype} {list(shape)}: pass uint8 [N, H, W], [N, H, W, 1] (grey) or [N, H, W, 3] (RGB), "
            f"with values from 0 to 255.{hint}"
        )
    if shape[1:] in ((SIDE, SIDE), (SIDE, SIDE, 1)):
        return array.reshape(-1, SIDE, SIDE, 1)
    return _to_faces(list(array))
