"""Benchmark of the input pipeline on the host, next to a typical tf.data pipeline and a PyTorch DataLoader.

Each candidate yields uint8 batches without end. A measurement takes whole passes over the data and counts the images.
Opening, compiling and filling buffers precede the first measurement. The batches buffered when a measurement begins are
a small part of it: at most one of 20 shuffle buffers for streaming.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

import fer
from fer import progress
from fer.benchmark.harness import Result, run_interleaved
from fer.benchmark.stream_process import TURN_BATCHES, StreamProcess
from fer.config import Data
from fer.data import manifest, pipeline, record_writer
from fer.data.sampling import BatchSchedule
from fer.errors import install_command
from fer.io import files, temp_files
from fer.labels import CLASSES
from fer.synthetic import synthetic

BATCH = 128
DIFFERENT_FACES = 4000  # synthetic faces, each of which is repeated five times
FACES = 20_000
SHUFFLE_BUFFER = 10_000  # of the tf.data pipeline and of streaming
PASSES = {"in_memory": 40, "streaming": 10}  # per measurement; the other candidates take one pass
SIZES = (10_000, 100_000, 1_000_000)
ROW_BYTES = 2400
SHARD_ROWS = 10_000

BASELINE = "parse_single_example, shuffle, batch"


def measure() -> list[Result]:
    """Measures in-memory and streaming input next to other pipelines, and streaming at several sizes, in images/s."""
    with temp_files.folder("benchmark") as folder:
        with progress.stage(f"input: drawing {DIFFERENT_FACES:,} synthetic faces"):
            images, labels = synthetic.generate_faces(DIFFERENT_FACES, seed=0)
        results = measure_pipelines(folder, images, labels, FACES)
        results += measure_sizes(folder, SIZES)
    return results


def measure_pipelines(folder: str, images: np.ndarray, labels: np.ndarray, rows: int) -> list[Result]:
    """Measures in-memory and streaming input, a typical tf.data pipeline and PyTorch's DataLoader if it is installed.

    Args:
      folder: an existing directory for the files.
      images: uint8 [n, 48, 48], repeated up to `rows`.
      labels: int [n].
      rows: the number of examples per pass.
    """
    flat = images.reshape(len(images), -1)
    with progress.stage(f"input: writing {rows:,} rows as shards and as plain TFRecords"):
        shards = write_shards(os.path.join(folder, "shards"), flat, labels, rows)
        plain = [write_tfrecords(os.path.join(folder, f"plain-{part}"), flat, labels, rows // 8) for part in range(8)]
    iterators: dict[str, tuple[Iterator[Any], int]] = {
        BASELINE: (iter(tutorial_batches(plain)), 1),
        "fer, in memory": (iter(fer_batches(shards, "in_memory")), PASSES["in_memory"]),
        "fer, streaming": (iter(fer_batches(shards, "streaming")), PASSES["streaming"]),
    }
    try:
        with progress.stage(f"input: writing {rows:,} PNG files"):
            loader = torch_batches(write_pngs(os.path.join(folder, "png"), images, labels, rows))
        iterators["PyTorch DataLoader, PNG files, 2 workers"] = (loader, 1)
    except ImportError:
        print(
            f"torch is not installed and PyTorch's DataLoader is not measured. Install it: {install_command('bench')}."
        )
    for name, (batches, _) in iterators.items():
        with progress.stage(f"input: opening {name}"):
            next(batches)
    candidates = {name: make_turn(batches, passes * (rows // BATCH)) for name, (batches, passes) in iterators.items()}
    return run_interleaved("input", "images/s", candidates, baseline=BASELINE)


def measure_sizes(folder: str, sizes: tuple[int, ...], batches: int = TURN_BATCHES) -> list[Result]:
    """Measures throughput and peak memory of streaming at several sizes, each in its own process.

    A size that the disk cannot hold is left out with a printed line.

    Args:
      folder: an existing directory for the shards.
      sizes: numbers of rows.
      batches: batches per measurement.
    """
    images = np.random.default_rng(0).integers(0, 256, (SHARD_ROWS, 48 * 48), dtype=np.uint8)
    labels = np.arange(len(images)) % 7
    streamers: dict[str, StreamProcess] = {}
    for rows in sizes:
        if shutil.disk_usage(folder).free < 1.2 * rows * ROW_BYTES:
            print(f"Streaming {rows:,} rows is left out: {folder} lacks {rows * ROW_BYTES / 1e9:.1f} GB of free space.")
            continue
        path = os.path.join(folder, f"rows-{rows}")
        with progress.stage(f"input: writing shards of {rows:,} rows and opening them"):
            write_shards(path, images, labels, rows)
            streamers[f"streaming {rows:,} rows"] = StreamProcess(path, batches)
    if not streamers:
        return []
    candidates = {name: streamer.turn for name, streamer in streamers.items()}
    smallest = next(iter(streamers))
    results = run_interleaved("input", "images/s, by size", candidates, baseline=smallest)
    for streamer in streamers.values():
        streamer.close()
    return results + [_memory_result(name, streamers, smallest) for name in streamers]


def _memory_result(name: str, streamers: dict[str, StreamProcess], smallest: str) -> Result:
    """Returns the peak memory of a closed process, with its ratio to that of the smallest split."""
    peak, least = streamers[name].peak_mib, streamers[smallest].peak_mib
    title, rounded = "peak memory, {}", round(peak, 1)
    result = Result("input", title.format(name), rounded, "MiB", rounded, rounded)
    if name == smallest:
        return result
    return dataclasses.replace(result, baseline=title.format(smallest), ratio=round(peak / least, 3))


def make_turn(batches: Iterator[Any], count: int) -> Callable[[], int]:
    """Returns the function that takes `count` batches and returns the number of their images."""
    return lambda: sum(len(batch[1]) for batch in itertools.islice(batches, count))


def fer_batches(data: manifest.Manifest, mode: str) -> tf.data.Dataset:
    """Returns the training batches of `fer.data.pipeline`, without end."""
    source = pipeline.open_split(data, "train", Data(mode=mode, shuffle_buffer_size=SHUFFLE_BUFFER))
    return pipeline.training_batches(source, BatchSchedule(0, BATCH, 0, 10**9, 1, [0]))


def tutorial_batches(paths: list[str]) -> tf.data.Dataset:
    """Returns the pipeline of most tutorials, with every AUTOTUNE option of tf.data, without end."""
    features = {"image": tf.io.FixedLenFeature([], tf.string), "label": tf.io.FixedLenFeature([], tf.int64)}

    def parse(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        example = tf.io.parse_single_example(serialized, features)
        return tf.reshape(tf.io.decode_raw(example["image"], tf.uint8), [48, 48, 1]), example["label"]

    records = tf.data.TFRecordDataset(paths, num_parallel_reads=tf.data.AUTOTUNE).repeat().shuffle(SHUFFLE_BUFFER)
    return records.map(parse, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH).prefetch(tf.data.AUTOTUNE)


def write_tfrecords(path: str, images: np.ndarray, labels: np.ndarray, rows: int) -> str:
    """Writes one tf.train.Example per face, as tutorials do. Returns the path."""
    with tf.io.TFRecordWriter(path) as writer:
        for row in np.arange(rows) % len(images):
            feature = {
                "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[images[row].tobytes()])),
                "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[labels[row]])),
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    return path


def write_pngs(folder: str, images: np.ndarray, labels: np.ndarray, rows: int) -> list[tuple[str, int]]:
    """Writes a PNG file per face. Returns paths and labels."""
    os.makedirs(folder)
    pictures = []
    for row in range(rows):
        face = row % len(images)
        path = os.path.join(folder, f"{row}.png")
        Image.fromarray(images[face]).save(path)
        pictures.append((path, int(labels[face])))
    return pictures


def torch_batches(pictures: list[tuple[str, int]]) -> Iterator[Any]:
    """Returns the shuffled batches of PyTorch's DataLoader with two persistent workers, without end.

    Raises:
      ImportError: torch is not installed.
    """
    from torch.utils.data import DataLoader

    loader = DataLoader(
        PngDataset(pictures), BATCH, shuffle=True, num_workers=2, drop_last=True, persistent_workers=True
    )
    return itertools.chain.from_iterable(itertools.repeat(loader))


class PngDataset:
    """Map-style dataset of PyTorch that reads PNG files."""

    def __init__(self, pictures: list[tuple[str, int]]):
        self._pictures = pictures

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        path, label = self._pictures[index]
        return np.array(Image.open(path))[..., np.newaxis], label  # writable, as torch requires


def write_shards(folder: str, images: np.ndarray, labels: np.ndarray, rows: int) -> manifest.Manifest:
    """Writes a train split of `rows` examples in the format of tfrecords/README.md; the images repeat in order.

    Args:
      folder: the output directory, created if missing.
      images: uint8 [n, 2304].
      labels: int [n], each 0 to 6.
      rows: the number of examples of the split.
    """
    os.makedirs(folder, exist_ok=True)
    count, shards = -(-rows // SHARD_ROWS), []
    for number, part in enumerate(np.array_split(np.arange(rows), count)):
        path = os.path.join(folder, f"train-{number:05d}-of-{count:05d}.tfrecord")
        chosen = part % len(images)
        with open(path, "wb") as file:
            file.write(record_writer.encode_records(images[chosen], labels[chosen], part, None))
        size = os.path.getsize(path)
        shards.append(
            {"file": os.path.basename(path), "examples": len(part), "bytes": size, "sha256": files.sha256(path)}
        )
    counts = np.bincount(labels[np.arange(rows) % len(images)], minlength=len(CLASSES)).tolist()
    split = {"examples": rows, "class_counts": dict(zip(CLASSES, counts)), "shards": shards}
    manifest.write_manifest(
        folder,
        {
            "format_version": manifest.FORMAT_VERSION,
            "name": "measuring",
            "classes": list(CLASSES),
            "image": manifest.IMAGE_FORMAT,
            "splits": {"train": split},
            "statistics": {"mean": None, "std": None},
            "source": {},
            "audit": {},
            "options": {},
            "created_by": f"fer {fer.__version__}",
        },
    )
    return manifest.read_manifest(folder)
