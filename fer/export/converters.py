"""Writes a classifier as SavedModel, TFLite or ONNX, all with the same signature.

Input: faces, uint8 [n, 48, 48, 1]. Outputs: probabilities and logits, float32 [n, C].
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from fer import log_suppression
from fer.errors import StorageError, UserError, install_command
from fer.export import tflite_metadata
from fer.io import files, temp_files
from fer.labels import SIDE
from fer.models.runtimes import FACES, LOGITS, PROBABILITIES, SIGNATURE
from fer.tf_workarounds import literal_path, quantize_except

CLASSES_FILE = "classes.txt"  # asset of the SavedModel: class names, one a line, in label order
OPSET = 17  # of ONNX: Resize with the coordinates of TensorFlow needs 11; every runtime since 2022 reads 17
# Metadata of an ONNX file, as JSON, beside its classes. The network itself normalizes the pixels.
PREPROCESSING = {"colour": "grey", "height": SIDE, "width": SIDE, "channels": 1, "layout": "NHWC", "range": [0, 255]}


def file_name(kind: str, precision: str) -> str:
    """Returns the file name of an export in its folder; a SavedModel is a folder of this name."""
    return {"saved_model": "saved_model", "tflite": f"{precision}.tflite", "onnx": "model.onnx"}[kind]


def write(
    model: tf.keras.Model, classes: Sequence[str], kind: str, precision: str, folder: str, calibration: np.ndarray
) -> str:
    """Writes one export into a local folder and returns its path.

    Args:
      model: a classifier that computes in float32.
      classes: the C names, in label order.
      kind: a key of `fer.config.FORMATS`.
      precision: a precision of this format. float16 stores weights in float16 and computes in float32. int8 stores
        and computes in 8-bit integers, except for the softmax.
      folder: local folder of the export.
      calibration: [n, 48, 48, 1] uint8, faces from which int8 quantization takes the ranges of activations.

    Raises:
      UserError: the format does not support an operation of the network, or its converter is not installed.
    """
    path = os.path.join(folder, file_name(kind, precision))
    if kind == "saved_model":
        with log_suppression.suppress_converter_output():
            _save(model, classes, path)
        return path
    with (
        temp_files.folder("export") as temp_folder,
        literal_path(temp_folder) as readable_folder,
        log_suppression.suppress_converter_output(),
    ):
        try:
            if kind == "tflite":
                content = _convert_to_tflite(model, precision, calibration, readable_folder)
                content = tflite_metadata.add_metadata(content, model.name, classes)
            else:
                content = _onnx(model, classes)
        except UserError:
            raise
        except Exception as error:  # converters raise RuntimeError, KeyError and types of their own
            raise UserError(
                f"{model.name} cannot be written as {kind} ({files.error_message(error)}); another --format may "
                "support its operations."
            ) from error
    files.write_bytes(path, content)
    return path


def _signature(model: tf.keras.Model) -> tf.types.experimental.GenericFunction:
    """Returns the function that every format exports."""

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None, SIDE, SIDE, 1], tf.uint8, name=FACES)])
    def serve(faces: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = model(faces, training=False)
        return {LOGITS: logits, PROBABILITIES: tf.nn.softmax(logits)}

    return serve


def _save(model: tf.keras.Model, classes: Sequence[str], path: str) -> None:
    @tf.function(autograph=False, input_signature=[])
    def get_classes() -> dict[str, tf.Tensor]:
        return {"classes": tf.constant(classes)}

    module = tf.Module()  # a Keras model would save each layer as a function of its own
    module.variables_of_the_model = model.variables
    module.serve, module.classes = _signature(model), get_classes
    with temp_files.folder("export") as temp_folder:
        names = os.path.join(temp_folder, CLASSES_FILE)
        files.write_text(names, "\n".join(classes) + "\n")
        module.class_names = tf.saved_model.Asset(names)
        _save_module(module, path, {SIGNATURE: module.serve, "classes": module.classes})


def _save_module(module: tf.Module, path: str, signatures: dict[str, Any]) -> None:
    """Writes a SavedModel.

    Raises:
      StorageError: it cannot be written.
    """
    try:
        tf.saved_model.save(module, path, signatures=signatures)
    except files.io_errors() as error:
        raise StorageError(f"Cannot write {path}: {files.error_message(error)}.") from error


def _convert_to_tflite(model: tf.keras.Model, precision: str, calibration: np.ndarray, temp_folder: str) -> bytes:
    """Converts to TFLite through a SavedModel in `temp_folder`."""
    module = tf.Module()
    module.variables_of_the_model, module.serve = model.variables, _signature(model)
    _save_module(module, temp_folder, {SIGNATURE: module.serve})
    converter = tf.lite.TFLiteConverter.from_saved_model(temp_folder, signature_keys=[SIGNATURE])
    if precision == "float32":
        return converter.convert()
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
        return converter.convert()
    # 8 bits cannot represent probabilities below 1/256.
    return quantize_except("SOFTMAX", converter, lambda: ({FACES: face[np.newaxis]} for face in calibration))


def _onnx(model: tf.keras.Model, classes: Sequence[str]) -> bytes:
    try:
        import tf2onnx
    except ImportError as error:
        raise UserError(f"tf2onnx is not installed: {install_command('export')}.") from error
    serve = _signature(model)
    proto, _ = tf2onnx.convert.from_function(serve, input_signature=serve.input_signature, opset=OPSET)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[
            0
        ].dim_param = "n"  # otherwise input and outputs have three unrelated unknown sizes
    _add_metadata(proto, classes=json.dumps(list(classes)), preprocessing=json.dumps(PREPROCESSING), network=model.name)
    return proto.SerializeToString()


def _add_metadata(proto: Any, **metadata: str) -> None:
    for key, value in metadata.items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value
