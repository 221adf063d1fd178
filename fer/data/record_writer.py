"""Encodes faces as TFRecords of `tf.train.Example` without TensorFlow. tfrecords/README.md specifies the format."""

from __future__ import annotations

import numpy as np

from fer.io import crc32c

_BYTES_LIST, _INT64_LIST = 1, 3  # numbers of the fields of a Feature


def encode_records(images: np.ndarray, labels: np.ndarray, rows: np.ndarray, votes: np.ndarray | None) -> bytes:
    """Encodes faces as records, byte for byte like protobuf's deterministic serialization and TensorFlow's writer.

    Faces with the same layout differ only in their values, which are written into copies of one template, all at once.

    Args:
      images: uint8 [n, 2304].
      labels: int64 [n], -1 or a class, 0 to 99.
      rows: int64 [n], 0 or more.
      votes: [n, 10], each 0 to 127; or None.

    Returns:
      The n records, one after the other.
    """
    row_bytes = np.maximum(1, -(-_bit_length(rows) // 7))
    layouts = 2 * row_bytes + (labels < 0)
    records: list[bytes] = [b""] * len(labels)
    for layout in np.unique(layouts):
        chosen = np.flatnonzero(layouts == layout)
        chosen_votes = None if votes is None else votes[chosen]
        messages = _encode_same_layout(images[chosen], labels[chosen], rows[chosen], int(layout) // 2, chosen_votes)
        table = frame_records(messages)
        if len(chosen) == len(labels):
            return table.tobytes()
        for position, record in zip(chosen, table):
            records[position] = record.tobytes()
    return b"".join(records)


def frame_records(messages: np.ndarray) -> np.ndarray:
    """Returns records, uint8 [n, L + 16]: the messages, uint8 [n, L], with their lengths and checksums."""
    count, length = messages.shape
    header = np.frombuffer(length.to_bytes(8, "little"), np.uint8)
    records = np.empty((count, 8 + 4 + length + 4), np.uint8)
    records[:, :8] = header
    records[:, 8:12] = _checksum_bytes(header[np.newaxis])
    records[:, 12:-4] = messages
    records[:, -4:] = _checksum_bytes(messages)
    return records


def _checksum_bytes(strings: np.ndarray) -> np.ndarray:
    """Returns the masked checksums of the rows, uint8 [n, 4]."""
    return crc32c.mask(crc32c.crc32c(strings)).astype("<u4").view(np.uint8).reshape(-1, 4)


def _bit_length(values: np.ndarray) -> np.ndarray:
    """Returns the number of bits of each integer, int64 [n]; exact below 2**53."""
    return np.frexp(values.astype(np.float64))[1]


def _encode_same_layout(
    images: np.ndarray, labels: np.ndarray, rows: np.ndarray, row_bytes: int, votes: np.ndarray | None
) -> np.ndarray:
    """Serializes faces whose labels and rows take the same number of bytes; returns uint8 [n, L]."""
    features = [  # in the order of their names
        ("image", _BYTES_LIST, images),
        ("label", _INT64_LIST, _varints(labels, 10 if labels[0] < 0 else 1)),
        ("row", _INT64_LIST, _varints(rows, row_bytes)),
        *([] if votes is None else [("votes", _INT64_LIST, votes.astype(np.uint8))]),
    ]
    parts = []
    for name, kind, values in features:
        parts += [_repeat(_entry_prefix(name, kind, values.shape[1]), len(images)), values]
    length = sum(part.shape[1] for part in parts)
    return np.concatenate([_repeat(_field_prefix(1, length), len(images)), *parts], axis=1)


def _repeat(content: bytes, count: int) -> np.ndarray:
    """Returns bytes as equal rows, uint8 [count, n]."""
    return np.broadcast_to(np.frombuffer(content, np.uint8), (count, len(content)))


def _entry_prefix(name: str, kind: int, size: int) -> bytes:
    """Returns the bytes of an entry of the map of features that precede its value.

    Args:
      name: of the feature.
      kind: number of the field of a Feature that holds the list.
      size: bytes of the value: the content of the list.
    """
    prefix = b""
    for number in (1, kind, 2):  # the value in its list, the list in its Feature, the Feature in its entry
        prefix = _field_prefix(number, len(prefix) + size) + prefix
    key = _field_prefix(1, len(name)) + name.encode()
    return _field_prefix(1, len(key) + len(prefix) + size) + key + prefix


def _field_prefix(number: int, length: int) -> bytes:
    """Returns the tag and the length of a length-delimited field."""
    size = max(1, -(-length.bit_length() // 7))
    return bytes([number << 3 | 2]) + _varints(np.array([length]), size).tobytes()


def _varints(values: np.ndarray, size: int) -> np.ndarray:
    """Returns integers, int64 [n], as base-128 varints of `size` bytes, uint8 [n, size]."""
    shifts = 7 * np.arange(size)
    groups = values.astype(np.uint64)[:, np.newaxis] >> shifts.astype(np.uint64) & np.uint64(127)
    groups[:, :-1] |= np.uint64(128)
    return groups.astype(np.uint8)
