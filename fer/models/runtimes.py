"""Networks by their own runtimes: a SavedModel by TensorFlow, a TFLite file by its interpreter, ONNX by ONNX Runtime.

Whatever computes it, a network is one thing here: uint8 faces in, float32 logits out, both from NumPy and within a
TensorFlow graph. So evaluation and prediction treat exports as they treat the networks that training wrote.
"""

from __future__ import annotations

import os
from typing import Callable

import numpy as np
import tensorflow as tf

from fer import log_suppression
from fer.errors import UserError, install_command
from fer.io import files
from fer.io.literal_path import literal
from fer.labels import CLASSES, SIDE

SIGNATURE = "serving_default"
FACES, LOGITS, PROBABILITIES = "faces", "logits", "probabilities"  # the names in every export's signature


class Network:
    """A network that some runtime computes.

    `compute` takes faces [n, 48, 48, 1] uint8 to logits [n, 7] float32, NumPy to NumPy. The object itself can be called
    as a Keras model is, with a tensor of faces, in a graph too.
    """

    def __init__(self, compute: Callable[[np.ndarray], np.ndarray]):
        self.compute = compute

    def __call__(self, faces: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Logits float32 [B, 7] from uint8 [B, 48, 48, 1].

        Raises:
          ValueError: in training, which exports are not made for.
        """
        if training:
            raise ValueError("An exported network cannot be trained.")
        logits = tf.numpy_function(self.compute, [faces], tf.float32, stateful=False)
        return tf.ensure_shape(logits, [faces.shape[0], len(CLASSES)])


class GraphNetwork(Network):
    """A network that TensorFlow computes: no way through NumPy is needed within a graph."""

    def __init__(self, logits: Callable[[tf.Tensor], tf.Tensor], loaded: object = None):
        # Each number of faces gets a program of its own, as in `fer.evaluation.inference`.
        self._compiled = tf.function(logits, autograph=False)
        self._logits, self._loaded = logits, loaded
        super().__init__(self._compute)  # a method, so that it holds the network with its variables

    def __call__(self, faces: tf.Tensor, training: bool = False) -> tf.Tensor:
        """As for `Network`."""
        if training:
            raise ValueError("An exported network cannot be trained.")
        return self._logits(faces)

    def _compute(self, faces: np.ndarray) -> np.ndarray:
        return self._compiled(tf.constant(faces)).numpy()


def of_model(model: tf.keras.Model) -> Network:
    """A Keras classifier, as it computes at inference."""
    return GraphNetwork(lambda faces: tf.cast(model(faces, training=False), tf.float32))


def load(path: str, kind: str) -> Network:
    """Loads an export by its own runtime.

    Args:
      path: of the folder of a SavedModel, or of the file.
      kind: one of `fer.config.FORMATS`.

    Raises:
      UserError: it cannot be read, its runtime is not installed, or its inputs and outputs are others than ours.
    """
    load_it = {"saved_model": _saved_model, "tflite": _tflite, "onnx": _onnx}[kind]
    try:
        with log_suppression.suppress_converter_output():
            network = load_it(path)
            if not isinstance(
                network, GraphNetwork
            ):  # whose signature TensorFlow has checked, and which would be traced
                _check_computes(network)
            return network
    except UserError:
        raise
    except Exception as error:  # each runtime has exceptions of its own for a damaged file, not all of them public
        raise UserError(
            f"{path} cannot be loaded ({files.error_message(error)}): it is damaged; export again."
        ) from error


def _check_computes(network: Network) -> None:
    """Computes one face: an interpreter notices much of a damaged file no earlier.

    Raises:
      ValueError: the logits have another shape or type than ours.
      Exception: as the network's runtime raises.
    """
    logits = network.compute(np.zeros([1, SIDE, SIDE, 1], np.uint8))
    if logits.shape != (1, len(CLASSES)) or logits.dtype != np.float32:
        raise ValueError(f"its logits of a face are {list(logits.shape)} {logits.dtype}")


def _saved_model(path: str) -> Network:
    with literal(path) as folder:
        loaded = tf.saved_model.load(folder)
    serve = loaded.signatures[SIGNATURE]

    def logits(faces: tf.Tensor) -> tf.Tensor:
        return serve(**{FACES: faces})[LOGITS]

    # `loaded` holds the variables, which the signature alone does not keep.
    return GraphNetwork(logits, loaded)


def _tflite(path: str) -> Network:
    content = _content(path)
    interpreters: dict[int, tuple[tf.lite.Interpreter, int, int]] = {}  # by number of faces: each prepared once

    def prepared(count: int) -> tuple[tf.lite.Interpreter, int, int]:
        if count not in interpreters:
            interpreter = tf.lite.Interpreter(model_content=content, num_threads=os.cpu_count())
            place, logits = _places(interpreter)
            interpreter.resize_tensor_input(place, [count, SIDE, SIDE, 1])
            interpreter.allocate_tensors()
            interpreters[count] = interpreter, place, logits
        return interpreters[count]

    def compute(faces: np.ndarray) -> np.ndarray:
        interpreter, place, logits = prepared(len(faces))
        interpreter.set_tensor(place, faces)
        interpreter.invoke()
        return interpreter.get_tensor(logits)

    prepared(1)  # a file that is none is noticed here
    return Network(compute)


def _places(interpreter: tf.lite.Interpreter) -> tuple[int, int]:
    """The numbers of the tensors faces and logits. The runner must be gone before memory is allocated."""
    runner = interpreter.get_signature_runner(SIGNATURE)
    return runner.get_input_details()[FACES]["index"], runner.get_output_details()[LOGITS]["index"]


def _onnx(path: str) -> Network:
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(f"ONNX Runtime is not installed: {install_command('export')}.") from error
    session = onnxruntime.InferenceSession(_content(path), providers=["CPUExecutionProvider"])
    return Network(lambda faces: session.run([LOGITS], {FACES: faces})[0])


def _content(path: str) -> bytes:
    with tf.io.gfile.GFile(path, "rb") as file:
        return file.read()
