"""Shards are readable by the specification in tfrecords/README.md alone, without our code and TensorFlow's readers."""

import hashlib
import json
import pathlib
import struct

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from fer.data import example_codec


def crc32c(content: bytes) -> int:
    """Computes the CRC-32C (Castagnoli) bit by bit, as RFC 3720 defines it."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
    return crc ^ 0xFFFFFFFF


def mask(crc: int) -> int:
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def read_records(content: bytes) -> list[bytes]:
    """Returns the data of each record of a TFRecord file, and checks the checksums."""
    data, at = [], 0
    while at < len(content):
        length, length_sum = struct.unpack_from("<QI", content, at)
        assert length_sum == mask(crc32c(content[at : at + 8]))
        record = content[at + 12 : at + 12 + length]
        [record_sum] = struct.unpack_from("<I", content, at + 12 + length)
        assert record_sum == mask(crc32c(record))
        data.append(record)
        at += length + 16
    return data


@pytest.fixture(scope="module")
def example():
    """Builds the message class `Example` from the schema in the specification."""
    text = {"optional": 1, "repeated": 3, "bytes": 12, "int64": 3, "string": 9, "message": 11}
    file = descriptor_pb2.FileDescriptorProto(name="example_of_the_test.proto", package="spec", syntax="proto3")

    def add_message(name, *fields, into=None):
        made = (into or file).add() if into is not None else file.message_type.add()
        made.name = name
        for number, label, kind, field, type_name in fields:
            made.field.add(name=field, number=number, label=text[label], type=text[kind], type_name=type_name)
        return made

    add_message("BytesList", (1, "repeated", "bytes", "value", None))
    add_message("Int64List", (1, "repeated", "int64", "value", None))
    add_message(
        "Feature",
        (1, "optional", "message", "bytes_list", ".spec.BytesList"),
        (3, "optional", "message", "int64_list", ".spec.Int64List"),
    )
    add_message(
        "Entry",
        (1, "optional", "string", "key", None),
        (2, "optional", "message", "value", ".spec.Feature"),
    )
    add_message("Features", (1, "repeated", "message", "feature", ".spec.Entry"))
    add_message("Example", (1, "optional", "message", "features", ".spec.Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("spec.Example"))


def test_shard_is_readable_by_specification_alone(synthetic_shards, example):
    folder = pathlib.Path(synthetic_shards.folder)
    stated = json.loads((folder / "manifest.json").read_text())["splits"]["test"]
    ours = example_codec.read_split(synthetic_shards, "test")
    at = 0
    for shard in stated["shards"]:
        content = (folder / shard["file"]).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (shard["bytes"], shard["sha256"])
        data = read_records(content)
        assert len(data) == shard["examples"]
        for record in data:
            features = {entry.key: entry.value for entry in example.FromString(record).features.feature}
            assert list(features) == ["image", "label", "row"]
            [image] = features["image"].bytes_list.value
            np.testing.assert_array_equal(np.frombuffer(image, np.uint8).reshape(48, 48), ours.images[at, :, :, 0])
            assert list(features["label"].int64_list.value) == [ours.labels[at]]
            assert list(features["row"].int64_list.value) == [ours.rows[at]]
            at += 1
    assert at == stated["examples"]


def test_tfrecord_checksum_equals_published_check_value():
    assert crc32c(b"123456789") == 0xE3069283
