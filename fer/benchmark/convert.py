"""Conversion against the usual script, and how its memory grows with the input."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import tempfile
import warnings

import numpy as np
import pandas as pd
import tensorflow as tf

from fer.benchmark.results import Result, race
from fer.data import convert, synthetic

ROWS = 30_000  # about FER-2013
TENFOLD = 300_000

MEASURE = """
import contextlib, io, resource, sys
from fer.data import convert
with contextlib.redirect_stdout(io.StringIO()):
    convert.convert(convert.Options(input=sys.argv[1], output=sys.argv[2]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def measure() -> list[Result]:
    """Rows a second on synthetic faces in FER-2013's form, and peak memory at ten times the rows."""
    with tempfile.TemporaryDirectory() as folder:
        csv, tenfold = os.path.join(folder, "faces.csv"), os.path.join(folder, "tenfold.csv")
        synthetic.write_csv(csv, ROWS, seed=0)
        synthetic.write_csv(tenfold, TENFOLD, seed=0)
        contestants = {
            "pandas, np.fromstring, one Example a row": lambda: usual(csv, os.path.join(folder, "usual")),
            "fer, audit included": lambda: ours(csv, os.path.join(folder, "ours")),
        }
        results = race("convert", "rows/s", contestants, baseline="pandas, np.fromstring, one Example a row")
        for name, path, rows in (("peak memory", csv, ROWS), ("peak memory", tenfold, TENFOLD)):
            peak = _peak_mib(path, os.path.join(folder, f"memory-{rows}"))
            results.append(Result("convert", f"{name}, {rows:,} rows", peak, "MiB", peak, peak))
    return results


def ours(csv: str, output: str) -> int:
    """Converts with all that a conversion does: checks, audit, hashes, manifest. Returns the rows."""
    with contextlib.redirect_stdout(io.StringIO()):
        manifest = convert.convert(convert.Options(input=csv, output=output, overwrite=True))
    return sum(split.examples for split in manifest.splits.values())


def usual(csv: str, output: str) -> int:
    """What most public conversion scripts do, row by row. Returns the rows."""
    os.makedirs(output, exist_ok=True)
    frame = pd.read_csv(csv)
    writers = {usage: tf.io.TFRecordWriter(os.path.join(output, f"{usage}.tfrecord")) for usage in frame.Usage.unique()}
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # NumPy would have it done otherwise; the usual script does not
        for row in frame.itertuples(index=False):
            image = np.fromstring(row.pixels, dtype=np.uint8, sep=" ")
            features = {
                "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image.tobytes()])),
                "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[row.emotion])),
            }
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writers[row.Usage].write(example.SerializeToString())
    for writer in writers.values():
        writer.close()
    return len(frame)


def _peak_mib(csv: str, output: str) -> float:
    """Peak memory of a conversion in a process of its own, in MiB."""
    done = subprocess.run([sys.executable, "-c", MEASURE, csv, output], capture_output=True, text=True, check=True)
    return round(float(done.stdout.split()[-1]), 1)
