"""Benchmark of the conversion: throughput next to a typical script, and peak memory at two input sizes."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import warnings

import numpy as np
import pandas as pd
import tensorflow as tf

from fer import progress
from fer.benchmark import process_usage
from fer.benchmark.harness import Result, run_interleaved
from fer.convert import convert, ingest, shard_writer
from fer.convert.readers.interpretation import Rules
from fer.convert.rejected_rows import RejectedRows
from fer.convert.worker_pool import ParserPool
from fer.io import temp_files
from fer.io.temp_store import TempStore
from fer.labels import CLASSES, SIDE
from fer.progress import ReadProgress

FER2013_ROWS = 30_000  # about the size of FER-2013
LARGE_ROWS = 300_000
BASELINE = "pandas, np.fromstring, one Example a row"

_BATCH = 2000  # rows generated at a time
_WAVES = 8  # cosines per image in each direction
_USAGES = ("Training",) * 8 + ("PublicTest", "PrivateTest")
_CONVERT = "import sys; from fer.convert.convert import *; convert(Options(input=sys.argv[1], output=sys.argv[2]))"


def measure() -> list[Result]:
    """Measures throughput in rows/s on a CSV like fer2013.csv, and peak memory at its size and ten times that size."""
    with temp_files.folder("benchmark") as folder:
        csv, large = os.path.join(folder, "faces.csv"), os.path.join(folder, "large.csv")
        _write(csv, FER2013_ROWS)
        candidates = {
            BASELINE: lambda: convert_with_pandas(csv, os.path.join(folder, "usual")),
            "fer, audit and its pages included": lambda: convert_with_fer(csv, os.path.join(folder, "ours")),
            "fer without them": lambda: convert_without_audit(csv, os.path.join(folder, "unaudited")),
        }
        results = run_interleaved("convert", "rows/s", candidates, baseline=BASELINE)
        _write(large, LARGE_ROWS)
        for path, rows in ((csv, FER2013_ROWS), (large, LARGE_ROWS)):
            command = [sys.executable, "-c", _CONVERT, path, os.path.join(folder, f"memory-{rows}")]
            with progress.stage(f"convert: peak memory of converting {rows:,} rows"):
                peak = process_usage.run(command).peak_mib
            results.append(Result("convert", f"peak memory of all processes, {rows:,} rows", peak, "MiB", peak, peak))
    return results


def _write(path: str, rows: int) -> None:
    with progress.stage(f"convert: writing a CSV file of {rows:,} rows"):
        write_rows(path, rows)


def write_rows(path: str, rows: int, seed: int = 0) -> None:
    """Writes different smooth random images in the format of fer2013.csv; drawing synthetic faces would be too slow."""
    random = np.random.default_rng(seed)
    angles = np.pi * np.arange(_WAVES)[:, None] * (np.arange(SIDE) + 0.5) / SIDE
    waves = np.cos(angles).astype(np.float32)
    digits = np.frombuffer(b"".join(b"%3d " % value for value in range(256)), np.uint8).reshape(256, 4)
    used = digits != ord(" ")
    used[:, 3] = True
    with open(path, "wb") as file:
        file.write(b"emotion,pixels,Usage\n")
        for start in range(0, rows, _BATCH):
            count = min(_BATCH, rows - start)
            heights = random.normal(0, 25, (count, _WAVES, _WAVES)).astype(np.float32)
            images = np.clip(128 + waves.T @ heights @ waves, 0, 255).astype(np.uint8).reshape(count, -1)
            for row, image in enumerate(images, start):
                text = digits[image][used[image]].tobytes()[:-1]
                file.write(b"%d,%s,%s\n" % (row % len(CLASSES), text, _USAGES[row % len(_USAGES)].encode()))


def convert_with_fer(csv: str, output: str) -> int:
    """Converts a CSV file completely: checks, audit, hashes and manifest. Returns the number of rows."""
    with contextlib.redirect_stdout(io.StringIO()):
        manifest = convert.convert(convert.Options(input=csv, output=output, overwrite=True))
    return sum(split.examples for split in manifest.splits.values())


def convert_without_audit(csv: str, output: str) -> int:
    """Reads, checks, hashes and writes a CSV file without the audit. Returns the number of rows."""
    os.makedirs(output, exist_ok=True)
    workers, size = os.cpu_count() or 1, os.path.getsize(csv)
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        store = stack.enter_context(contextlib.closing(TempStore(output)))
        parsers = stack.enter_context(contextlib.closing(ParserPool(workers, size)))
        display = stack.enter_context(ReadProgress("Reading", size))
        dataset = ingest.ingest_sources([(csv, "faces")], parsers, store, RejectedRows(None), display, Rules())
        written = shard_writer.write_shards(output, dataset, dataset.splits, None, 0, parsers)
    return sum(split.examples for split in written.values())


def convert_with_pandas(csv: str, output: str) -> int:
    """Converts row by row, as most public conversion scripts do. Returns the number of rows."""
    os.makedirs(output, exist_ok=True)
    frame = pd.read_csv(csv)
    with contextlib.ExitStack() as stack:
        writers = {
            usage: stack.enter_context(tf.io.TFRecordWriter(os.path.join(output, f"{usage}.tfrecord")))
            for usage in frame.Usage.unique()
        }
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore", DeprecationWarning)  # typical scripts use np.fromstring, which NumPy deprecates
        for row in frame.itertuples(index=False):
            image = np.fromstring(row.pixels, dtype=np.uint8, sep=" ")
            features = {
                "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image.tobytes()])),
                "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[row.emotion])),
            }
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writers[row.Usage].write(example.SerializeToString())
    return len(frame)
