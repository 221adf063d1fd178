"""Converts a CSV row by row, as most public conversion scripts do: python pandas_records.py CSV OUTPUT."""

import contextlib
import os
import sys
import warnings

import numpy as np
import pandas as pd
import tensorflow as tf


def main(csv: str, output: str) -> None:
    """Writes a TFRecord file for each value of the column Usage."""
    os.makedirs(output, exist_ok=True)
    frame = pd.read_csv(csv)
    with contextlib.ExitStack() as stack:
        writers = {
            usage: stack.enter_context(tf.io.TFRecordWriter(os.path.join(output, f"{usage}.tfrecord")))
            for usage in frame.Usage.unique()
        }
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore", DeprecationWarning)  # some versions of NumPy warn of np.fromstring
        for row in frame.itertuples(index=False):
            image = np.fromstring(row.pixels, dtype=np.uint8, sep=" ")
            features = {
                "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image.tobytes()])),
                "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[row.emotion])),
            }
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writers[row.Usage].write(example.SerializeToString())


if __name__ == "__main__":
    main(*sys.argv[1:])
