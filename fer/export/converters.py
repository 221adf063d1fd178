"""A classifier written as SavedModel, TFLite or ONNX, each with the same signature.

uint8 faces [n, 48, 48, 1] go in under the name faces; float32 probabilities and logits [n, 7] come out under theirs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any, Callable

import numpy as np
import tensorflow as tf

from fer import log_suppression
from fer.errors import UserError, install_command
from fer.io import files, temp_files
from fer.io.literal_path import literal
from fer.labels import CLASSES, SIDE
from fer.models.runtimes import FACES, LOGITS, PROBABILITIES, SIGNATURE

CLASSES_FILE = "classes.txt"  # an asset of the SavedModel: the names of the classes, one a line, in label order
OPSET = 17  # of ONNX: Resize as TensorFlow resizes needs 11; every runtime since 2022 reads it


def file_name(kind: str, precision: str) -> str:
    """What an export is called within its folder."""
    return {"saved_model": "saved_model", "tflite": f"{precision}.tflite", "onnx": "model.onnx"}[kind]


def write(model: tf.keras.Model, kind: str, precision: str, folder: str, calibration: np.ndarray) -> str:
    """Writes one export into a local folder; returns its path.

    Args:
      model: a classifier that computes in float32.
      kind: a key of `fer.config.FORMATS`.
      precision: one of its values. float16 stores the weights so and computes in float32; int8 stores and computes
        in 8-bit integers, but for the softmax.
      folder: where it goes.
      calibration: [n, 48, 48, 1] uint8, faces that show int8 the ranges of what is computed.

    Raises:
      UserError: the format does not know the network's operations, or its converter is not installed.
    """
    path = os.path.join(folder, file_name(kind, precision))
    if kind == "saved_model":
        with log_suppression.suppress_converter_output():
            _save(model, path)
        return path
    with (
        temp_files.folder("export") as beside,
        literal(beside) as folder_read,
        log_suppression.suppress_converter_output(),
    ):
        try:
            content = _tflite(model, precision, calibration, folder_read) if kind == "tflite" else _onnx(model)
        except UserError:
            raise
        except Exception as error:  # converters raise what they please: RuntimeError, KeyError, exceptions of their own
            raise UserError(
                f"{model.name} cannot be written as {kind} ({files.error_message(error)}); another --format may know "
                "its operations."
            ) from error
    files.write_bytes(path, content)
    return path


def _signature(model: tf.keras.Model) -> tf.types.experimental.GenericFunction:
    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None, SIDE, SIDE, 1], tf.uint8, name=FACES)])
    def serve(faces: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = model(faces, training=False)
        return {LOGITS: logits, PROBABILITIES: tf.nn.softmax(logits)}

    return serve


def _save(model: tf.keras.Model, path: str) -> None:
    @tf.function(autograph=False, input_signature=[])
    def classes() -> dict[str, tf.Tensor]:
        return {"classes": tf.constant(CLASSES)}

    module = tf.Module()  # rather than the Keras model, whose layers would each be saved as programs of their own
    module.variables_of_the_model = model.variables
    module.serve, module.classes = _signature(model), classes
    with temp_files.folder("export") as beside:
        names = os.path.join(beside, CLASSES_FILE)
        files.write_text(names, "\n".join(CLASSES) + "\n")
        module.class_names = tf.saved_model.Asset(names)
        tf.saved_model.save(module, path, signatures={SIGNATURE: module.serve, "classes": module.classes})


def _tflite(model: tf.keras.Model, precision: str, calibration: np.ndarray, beside: str) -> bytes:
    module = tf.Module()
    module.variables_of_the_model, module.serve = model.variables, _signature(model)
    tf.saved_model.save(module, beside, signatures={SIGNATURE: module.serve})
    converter = tf.lite.TFLiteConverter.from_saved_model(beside, signature_keys=[SIGNATURE])
    if precision == "float32":
        return converter.convert()
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
        return converter.convert()
    return _int8(converter, lambda: ({FACES: face[np.newaxis]} for face in calibration))


def _int8(converter: tf.lite.TFLiteConverter, calibration: Callable[[], Iterator[dict[str, np.ndarray]]]) -> bytes:
    """Quantised after training; the softmax stays float32, since eight bits know no probability below 1/256."""
    converter.representative_dataset = calibration
    options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=["SOFTMAX"])
    # The debugger is the public way to leave an operation out.
    debugger = tf.lite.experimental.QuantizationDebugger(
        converter=converter, debug_dataset=calibration, debug_options=options
    )
    return debugger.get_nondebug_quantized_model()


def _onnx(model: tf.keras.Model) -> bytes:
    try:
        import tf2onnx
    except ImportError as error:
        raise UserError(f"tf2onnx is not installed: {install_command('export')}.") from error
    serve = _signature(model)
    proto, _ = tf2onnx.convert.from_function(serve, input_signature=serve.input_signature, opset=OPSET)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "n"  # one name for what else is three unknown numbers
    _describe(proto, classes=json.dumps(CLASSES), network=model.name)
    return proto.SerializeToString()


def _describe(proto: Any, **metadata: str) -> None:
    for key, value in metadata.items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value
