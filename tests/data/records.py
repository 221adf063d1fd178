"""Faces of every layout, and their records as protobuf serializes them."""

import numpy as np
import tensorflow as tf

from tests.convert import input_factories

ROWS = np.array([0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 2**31, 2**40])
IMAGES = input_factories.noise(len(ROWS))
LABELS = np.array([0, 6, -1, -1, 3, 3, -1, 2, 1, -1])
VOTES = np.random.default_rng(0).integers(0, 128, (len(ROWS), 10))


def serialize(image, label, row, votes) -> bytes:
    """Returns the message of a face as protobuf serializes it."""
    integers = {"label": [label], "row": [row], **({} if votes is None else {"votes": votes})}
    features = {name: tf.train.Feature(int64_list={"value": value}) for name, value in integers.items()}
    features["image"] = tf.train.Feature(bytes_list={"value": [image.tobytes()]})
    return tf.train.Example(features={"feature": features}).SerializeToString(deterministic=True)


def serialize_all(images, labels, rows, votes) -> list[bytes]:
    """Returns the messages of several faces."""
    return [serialize(*face) for face in zip(images, labels, rows, [None] * len(labels) if votes is None else votes)]
