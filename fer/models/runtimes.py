"""Exported networks in their runtimes: SavedModel in TensorFlow, TFLite in its interpreter, ONNX in ONNX Runtime.

All have one interface: uint8 faces in, float32 logits out, from NumPy and in a TensorFlow graph. So evaluation and
prediction treat exports like networks in Keras.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from fer import log_suppression, tf_workarounds
from fer.errors import UserError, install_command
from fer.io import files
from fer.labels import SIDE

SIGNATURE = "serving_default"
FACES, LOGITS, PROBABILITIES = "faces", "logits", "probabilities"  # names in the signature of every export


class Network:
    """Network that is computed by any runtime.

    `compute` maps faces [n, 48, 48, 1] uint8 to logits [n, C] float32, both NumPy arrays. The object can be called like
    a Keras model with a tensor of faces, in a graph too.
    """

    def __init__(self, compute: Callable[[np.ndarray], np.ndarray]):
        self.compute = compute

    def __call__(self, faces: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns logits float32 [B, C] for faces uint8 [B, 48, 48, 1].

        Raises:
          ValueError: `training` is True, which exports do not support.
        """
        if training:
            raise ValueError("An exported network cannot be trained.")
        logits = tf.numpy_function(self.compute, [faces], tf.float32, stateful=False)
        return tf.ensure_shape(logits, [faces.shape[0], None])


class GraphNetwork(Network):
    """Network that TensorFlow computes, in a graph without a detour through NumPy."""

    def __init__(self, logits: Callable[[tf.Tensor], tf.Tensor], loaded: object = None):
        # Traced once for each number of faces, as in `fer.evaluation.inference`.
        self._compiled = tf.function(logits, autograph=False)
        self._logits, self._loaded = logits, loaded
        super().__init__(self._compute)  # a method, which keeps a reference to the network with its variables

    def __call__(self, faces: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns logits, as `Network.__call__`."""
        if training:
            raise ValueError("An exported network cannot be trained.")
        return self._logits(faces)

    def _compute(self, faces: np.ndarray) -> np.ndarray:
        return self._compiled(tf.constant(faces)).numpy()


def wrap_model(model: tf.keras.Model) -> Network:
    """Wraps a Keras classifier for inference."""
    return GraphNetwork(lambda faces: tf.cast(model(faces, training=False), tf.float32))


def load(path: str, kind: str, classes: int) -> Network:
    """Loads an export into its runtime.

    Args:
      path: folder of a SavedModel, or file.
      kind: one of `fer.config.FORMATS`.
      classes: number of logits.

    Raises:
      UserError: it cannot be read, its runtime is not installed, or its inputs or outputs differ from ours.
    """
    load_it = {"saved_model": _load_saved_model, "tflite": _load_tflite, "onnx": _load_onnx}[kind]
    try:
        with log_suppression.suppress_converter_output():
            network = load_it(path)
            if not isinstance(
                network, GraphNetwork
            ):  # whose signature TensorFlow has checked, and which would be traced
                _check_computes(network, classes)
            return network
    except UserError:
        raise
    except Exception as error:  # each runtime has exceptions of its own for a damaged file, not all of them public
        raise UserError(
            f"{path} cannot be loaded ({files.error_message(error)}): it is damaged; export again."
        ) from error


def _check_computes(network: Network, classes: int) -> None:
    """Computes one face, because interpreters detect damaged files often only then.

    Raises:
      ValueError: the logits have another shape or dtype than ours.
      Exception: as the network's runtime raises.
    """
    logits = network.compute(np.zeros([1, SIDE, SIDE, 1], np.uint8))
    if logits.shape != (1, classes) or logits.dtype != np.float32:
        raise ValueError(f"its logits of a face are {list(logits.shape)} {logits.dtype}")


def _load_saved_model(path: str) -> Network:
    with files.local_folder(path) as copy, tf_workarounds.literal_path(copy) as folder:
        loaded = tf.saved_model.load(folder)
    serve = loaded.signatures[SIGNATURE]

    def logits(faces: tf.Tensor) -> tf.Tensor:
        return serve(**{FACES: faces})[LOGITS]

    # `loaded` keeps the variables alive; the signature does not.
    return GraphNetwork(logits, loaded)


def _load_tflite(path: str) -> Network:
    content = _read_content(path)
    interpreters: dict[
        int, tuple[tf.lite.Interpreter, int, int]
    ] = {}  # number of faces -> (interpreter, index of faces, index of logits)

    def prepare(count: int) -> tuple[tf.lite.Interpreter, int, int]:
        if count not in interpreters:
            interpreter = tf.lite.Interpreter(model_content=content, num_threads=os.cpu_count())
            place, logits = _tensor_indices(interpreter)
            interpreter.resize_tensor_input(place, [count, SIDE, SIDE, 1])
            interpreter.allocate_tensors()
            interpreters[count] = interpreter, place, logits
        return interpreters[count]

    def compute(faces: np.ndarray) -> np.ndarray:
        interpreter, place, logits = prepare(len(faces))
        interpreter.set_tensor(place, faces)
        interpreter.invoke()
        return interpreter.get_tensor(logits)

    prepare(1)  # an invalid file raises here
    return Network(compute)


def _tensor_indices(interpreter: tf.lite.Interpreter) -> tuple[int, int]:
    """Returns the indices of the tensors faces and logits. The runner must be released before memory is allocated."""
    runner = interpreter.get_signature_runner(SIGNATURE)
    return runner.get_input_details()[FACES]["index"], runner.get_output_details()[LOGITS]["index"]


def _load_onnx(path: str) -> Network:
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(f"ONNX Runtime is not installed: {install_command('export')}.") from error
    session = onnxruntime.InferenceSession(_read_content(path), providers=["CPUExecutionProvider"])
    return Network(lambda faces: session.run([LOGITS], {FACES: faces})[0])


def _read_content(path: str) -> bytes:
    with files.open_file(path) as file:
        return file.read()
