"""Metadata of TFLite files in the form of the TFLite Metadata standard: labels, signature and input range.

The metadata is a flatbuffer in the model's buffer TFLITE_METADATA. The labels are a text file in a ZIP archive that is
appended to the model, so that `unzip` and Android Studio can read them. The standard's own package, tflite-support, has
no wheel for Python 3.12, so the flatbuffer is built here.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from typing import Any, NamedTuple

import flatbuffers
import numpy as np
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

from fer.labels import SIDE
from fer.models.runtimes import FACES, LOGITS, PROBABILITIES

LABELS_FILE = "labels.txt"  # class names, one a line, in label order
METADATA_BUFFER = "TFLITE_METADATA"
IDENTIFIER = b"M001"
TENSOR_AXIS_LABELS, IMAGE_PROPERTIES, GREYSCALE = np.uint8(2), np.uint8(2), np.uint8(2)  # of the standard's enums
# The first fields of each table of metadata_schema.fbs, up to the last one that is written, in order of their slots.
TABLES = {
    "ModelMetadata": ("name", "description", "version", "subgraph_metadata"),
    "SubGraphMetadata": ("name", "description", "input_tensor_metadata", "output_tensor_metadata"),
    "TensorMetadata": (
        *("name", "description", "dimension_names", "content"),
        *("process_units", "stats", "associated_files"),
    ),
    "AssociatedFile": ("name", "description", "type"),
    "Content": ("content_properties_type", "content_properties"),
    "ImageProperties": ("color_space", "default_size"),
    "ImageSize": ("width", "height"),
    "Stats": ("max", "min"),
}
DESCRIPTIONS = {
    FACES: f"Grey faces, uint8 [n, {SIDE}, {SIDE}, 1], 0 (black) to 255 (white); the network normalizes them.",
    PROBABILITIES: f"Probability of each class, in the order of {LABELS_FILE}.",
    LOGITS: f"Logit of each class, in the order of {LABELS_FILE}.",
}


class _Table(NamedTuple):
    """A table of the standard: its name in `TABLES` and the values of its fields."""

    name: str
    fields: dict[str, Any]


def add_metadata(content: bytes, name: str, classes: Sequence[str]) -> bytes:
    """Adds the metadata and the labels to a TFLite model with our signature.

    Args:
      content: of the TFLite file.
      name: of the network.
      classes: class names in label order.
    """
    model = flatbuffer_utils.convert_bytearray_to_object(content)
    outputs = {output.tensorIndex: output.name.decode() for output in model.signatureDefs[0].outputs}
    names = [outputs[tensor] for tensor in model.subgraphs[0].outputs]
    builder = flatbuffers.Builder()
    builder.Finish(_build(builder, _describe(name, names)), IDENTIFIER)
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(builder.Output(), np.uint8)
    entry = schema.MetadataT()
    entry.name, entry.buffer = METADATA_BUFFER, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    return _append_labels(flatbuffer_utils.convert_object_to_bytearray(model), classes)


def _describe(name: str, outputs: Sequence[str]) -> _Table:
    """Returns the metadata of a network with the named outputs."""
    labels = _Table("AssociatedFile", {"name": LABELS_FILE, "description": "Classes.", "type": TENSOR_AXIS_LABELS})
    size = _Table("ImageSize", {"width": np.uint32(SIDE), "height": np.uint32(SIDE)})
    image = _Table("ImageProperties", {"color_space": GREYSCALE, "default_size": size})
    faces: dict[str, Any] = {
        "content": _Table("Content", {"content_properties_type": IMAGE_PROPERTIES, "content_properties": image}),
        "stats": _Table("Stats", {"max": np.array([255], np.float32), "min": np.array([0], np.float32)}),
    }
    tensors = {FACES: faces, **{output: {"associated_files": [labels]} for output in outputs}}
    tables = [
        _Table("TensorMetadata", {"name": tensor, "description": DESCRIPTIONS[tensor], **fields})
        for tensor, fields in tensors.items()
    ]
    subgraph = {"input_tensor_metadata": tables[:1], "output_tensor_metadata": tables[1:]}
    description = "Facial expressions of a face."
    return _Table(
        "ModelMetadata",
        {"name": name, "description": description, "subgraph_metadata": [_Table("SubGraphMetadata", subgraph)]},
    )


def _build(builder: flatbuffers.Builder, value: str | list | np.ndarray | _Table) -> int:
    """Writes a string, a list of tables, an array or a table into the buffer; returns its offset."""
    if isinstance(value, str):
        return builder.CreateString(value)
    if isinstance(value, np.ndarray):
        return builder.CreateNumpyVector(value)
    if isinstance(value, list):
        offsets = [_build(builder, each) for each in value]
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return builder.EndVector()
    slots = TABLES[value.name]
    built = {
        slots.index(field): each if isinstance(each, np.integer) else _build(builder, each)
        for field, each in value.fields.items()
    }
    builder.StartObject(len(slots))
    for slot, number in built.items():
        if isinstance(number, np.uint8):
            builder.PrependUint8Slot(slot, int(number), 0)
        elif isinstance(number, np.uint32):
            builder.PrependUint32Slot(slot, int(number), 0)
        else:
            builder.PrependUOffsetTRelativeSlot(slot, number, 0)
    return builder.EndObject()


def _append_labels(content: bytes, classes: Sequence[str]) -> bytes:
    """Appends a ZIP archive with the labels; its time is fixed, so that equal models are equal files."""
    file = io.BytesIO(content)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(zipfile.ZipInfo(LABELS_FILE), "".join(f"{name}\n" for name in classes))
    return file.getvalue()
