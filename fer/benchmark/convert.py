"""Conversion against the usual script, and how its memory grows with the input."""

from __future__ import annotations

import concurrent.futures
import contextlib
import io
import os
import sys
import warnings

import numpy as np
import pandas as pd
import tensorflow as tf

from fer.benchmark.harness import Result, run_interleaved
from fer.benchmark.peak_memory import peak_mib
from fer.convert import convert, ingest, shard_writer
from fer.convert.readers.interpretation import Rules
from fer.convert.rejected_rows import RejectedRows
from fer.convert.worker_pool import ParserPool
from fer.io import temp_files
from fer.io.temp_store import TempStore
from fer.labels import CLASSES, SIDE
from fer.progress import ReadProgress

ROWS = 30_000  # about FER-2013
TENFOLD = 300_000
USUAL = "pandas, np.fromstring, one Example a row"

_BATCH = 2000  # rows written at once
_WAVES = 8  # of an image, in each direction
_USAGES = ("Training",) * 8 + ("PublicTest", "PrivateTest")
_CONVERT = "import sys; from fer.convert.convert import *; convert(Options(input=sys.argv[1], output=sys.argv[2]))"


def measure() -> list[Result]:
    """Rows a second on images in FER-2013's form, and peak memory at ten times the rows."""
    with temp_files.folder("benchmark") as folder:
        csv, tenfold = os.path.join(folder, "faces.csv"), os.path.join(folder, "tenfold.csv")
        write_rows(csv, ROWS)
        contestants = {
            USUAL: lambda: usual(csv, os.path.join(folder, "usual")),
            "fer, audit and its pages included": lambda: ours(csv, os.path.join(folder, "ours")),
            "fer without them": lambda: unaudited(csv, os.path.join(folder, "unaudited")),
        }
        results = run_interleaved("convert", "rows/s", contestants, baseline=USUAL)
        write_rows(tenfold, TENFOLD)
        for path, rows in ((csv, ROWS), (tenfold, TENFOLD)):
            command = [sys.executable, "-c", _CONVERT, path, os.path.join(folder, f"memory-{rows}")]
            peak = peak_mib(command)
            results.append(Result("convert", f"peak memory of all processes, {rows:,} rows", peak, "MiB", peak, peak))
    return results


def write_rows(path: str, rows: int, seed: int = 0) -> None:
    """Writes smooth random images, no two alike, as fer2013.csv. Synthetic faces are drawn too slowly for so many."""
    random = np.random.default_rng(seed)
    angles = np.pi * np.arange(_WAVES)[:, None] * (np.arange(SIDE) + 0.5) / SIDE
    waves = np.cos(angles).astype(np.float32)
    digits = np.frombuffer(b"".join(b"%3d " % value for value in range(256)), np.uint8).reshape(256, 4)
    kept = digits != ord(" ")
    kept[:, 3] = True
    with open(path, "wb") as file:
        file.write(b"emotion,pixels,Usage\n")
        for start in range(0, rows, _BATCH):
            count = min(_BATCH, rows - start)
            heights = random.normal(0, 25, (count, _WAVES, _WAVES)).astype(np.float32)
            images = np.clip(128 + waves.T @ heights @ waves, 0, 255).astype(np.uint8).reshape(count, -1)
            for row, image in enumerate(images, start):
                text = digits[image][kept[image]].tobytes()[:-1]
                file.write(b"%d,%s,%s\n" % (row % len(CLASSES), text, _USAGES[row % len(_USAGES)].encode()))


def ours(csv: str, output: str) -> int:
    """Converts with all that a conversion does: checks, audit, hashes, manifest. Returns the rows."""
    with contextlib.redirect_stdout(io.StringIO()):
        manifest = convert.convert(convert.Options(input=csv, output=output, overwrite=True))
    return sum(split.examples for split in manifest.splits.values())


def unaudited(csv: str, output: str) -> int:
    """The same reading, checking, hashing and writing, without what is made of the fingerprints. Returns the rows."""
    os.makedirs(output, exist_ok=True)
    workers, size = os.cpu_count() or 1, os.path.getsize(csv)
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        store = stack.enter_context(contextlib.closing(TempStore(output)))
        pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor(workers))
        crew = stack.enter_context(contextlib.closing(ParserPool(workers, size)))
        progress = stack.enter_context(ReadProgress("Reading", size))
        survey = ingest.ingest_sources(
            [csv], ["faces"], crew, pool, workers, store, RejectedRows(None), progress, Rules()
        )
        written = shard_writer.write_shards(output, survey, survey.splits, None, store, 0, pool, workers)
    return sum(split.examples for split in written.values())


def usual(csv: str, output: str) -> int:
    """What most public conversion scripts do, row by row. Returns the rows."""
    os.makedirs(output, exist_ok=True)
    frame = pd.read_csv(csv)
    with contextlib.ExitStack() as stack:
        writers = {
            usage: stack.enter_context(tf.io.TFRecordWriter(os.path.join(output, f"{usage}.tfrecord")))
            for usage in frame.Usage.unique()
        }
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore", DeprecationWarning)  # the usual script does it in the way that NumPy deprecates
        for row in frame.itertuples(index=False):
            image = np.fromstring(row.pixels, dtype=np.uint8, sep=" ")
            features = {
                "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image.tobytes()])),
                "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[row.emotion])),
            }
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writers[row.Usage].write(example.SerializeToString())
    return len(frame)
