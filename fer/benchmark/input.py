"""Input: batches of uint8 on the host, against the usual pipeline and a PyTorch DataLoader, and at growing sizes.

Each contestant hands out batches without end; a turn takes whole passes of them, and images are counted in what was
handed out. Opening, compiling and filling buffers come before the first turn. What then lies ready when a turn begins
is a small part of it: at most one window of 20 for streaming.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import shutil
from collections.abc import Iterator
from typing import Any, Callable

import numpy as np
import tensorflow as tf
from PIL import Image

from fer.benchmark import fake_shards
from fer.benchmark.harness import Result, run_interleaved
from fer.benchmark.stream_process import TURN, Streamer
from fer.config import Data
from fer.data import manifest, pipeline
from fer.errors import install_command
from fer.io import temp_files
from fer.synthetic import synthetic

BATCH = 128
DRAWN = 4000  # different synthetic faces, each of which comes five times
FACES = 20_000
SHUFFLED = 10_000  # the usual pipeline's buffer, and streaming's window
PASSES = {"resident": 40, "streaming": 10}  # of a turn; a turn of the slower ones is one
SIZES = (10_000, 100_000, 1_000_000)
ROW_BYTES = 2400

USUAL = "parse_single_example, shuffle, batch"


def measure() -> list[Result]:
    """Images a second of resident and streaming input beside their rivals, and of streaming at growing sizes."""
    with temp_files.folder("benchmark") as folder:
        images, labels = synthetic.generate_faces(DRAWN, seed=0)
        results = rivals(folder, images, labels, FACES)
        results += sizes(folder, SIZES)
    return results


def rivals(folder: str, images: np.ndarray, labels: np.ndarray, rows: int) -> list[Result]:
    """Resident, streaming, the usual pipeline, and PyTorch's DataLoader where torch is installed.

    Args:
      folder: for the files.
      images, labels: uint8 [n, 48, 48] and int [n]; they are repeated up to `rows`.
      rows: of a pass.
    """
    flat = images.reshape(len(images), -1)
    ours = fake_shards.write(os.path.join(folder, "rivals"), flat, labels, rows)
    plain = [write_plain(os.path.join(folder, f"plain-{part}"), flat, labels, rows // 8) for part in range(8)]
    iterators: dict[str, tuple[Iterator[Any], int]] = {
        USUAL: (iter(usual(plain)), 1),
        "fer, resident": (iter(fer_batches(ours, "resident")), PASSES["resident"]),
        "fer, streaming": (iter(fer_batches(ours, "streaming")), PASSES["streaming"]),
    }
    try:
        loader = torch_batches(write_pngs(os.path.join(folder, "png"), images, labels, rows))
        iterators["PyTorch DataLoader, PNG files, 2 workers"] = (loader, 1)
    except ImportError:
        print(f"torch is not installed, so PyTorch's DataLoader is left out: {install_command('bench')}.")
    for batches, _ in iterators.values():
        next(batches)
    contestants = {name: turn(batches, passes * (rows // BATCH)) for name, (batches, passes) in iterators.items()}
    return run_interleaved("input", "images/s", contestants, baseline=USUAL)


def sizes(folder: str, rows_of: tuple[int, ...], batches: int = TURN) -> list[Result]:
    """Measures streaming at several sizes in turn, in a process each: images a second, and each one's peak memory.

    Args:
      folder: for the shards.
      rows_of: the sizes.
      batches: of a turn.
    """
    images = np.random.default_rng(0).integers(0, 256, (fake_shards.SHARD_ROWS, 48 * 48), dtype=np.uint8)
    labels = np.arange(len(images)) % 7
    streamers: dict[str, Streamer] = {}
    for rows in rows_of:
        if shutil.disk_usage(folder).free < 1.2 * rows * ROW_BYTES:
            print(f"Streaming {rows:,} rows is left out: {folder} has no room for {rows * ROW_BYTES / 1e9:.1f} GB.")
            continue
        place = os.path.join(folder, f"rows-{rows}")
        fake_shards.write(place, images, labels, rows)
        streamers[f"streaming {rows:,} rows"] = Streamer(place, batches)
    if not streamers:
        return []
    contestants = {name: streamer.turn for name, streamer in streamers.items()}
    smallest = next(iter(streamers))
    results = run_interleaved("input", "images/s, by size", contestants, baseline=smallest)
    for streamer in streamers.values():
        streamer.close()
    return results + [_peak(name, streamers, smallest) for name in streamers]


def _peak(name: str, streamers: dict[str, Streamer], smallest: str) -> Result:
    """A closed streamer's peak memory, and how many times that of the smallest split it is."""
    peak, least = streamers[name].peak_mib, streamers[smallest].peak_mib
    title, rounded = "peak memory, {}", round(peak, 1)
    result = Result("input", title.format(name), rounded, "MiB", rounded, rounded)
    if name == smallest:
        return result
    return dataclasses.replace(result, baseline=title.format(smallest), ratio=round(peak / least, 3))


def turn(batches: Iterator[Any], count: int) -> Callable[[], int]:
    """The function that takes `count` batches and returns the number of images in them."""
    return lambda: sum(len(batch[1]) for batch in itertools.islice(batches, count))


def fer_batches(data: manifest.Manifest, mode: str) -> tf.data.Dataset:
    """Our training batches, without end."""
    source = pipeline.open_split(data, "train", Data(mode=mode, shuffle_window=SHUFFLED))
    return pipeline.training_batches(source, 0, BATCH, 0, 10**9, 1, [0])


def usual(paths: list[str]) -> tf.data.Dataset:
    """What most tutorials do, with all that tf.data tunes by itself."""
    features = {"image": tf.io.FixedLenFeature([], tf.string), "label": tf.io.FixedLenFeature([], tf.int64)}

    def parse(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        example = tf.io.parse_single_example(serialized, features)
        return tf.reshape(tf.io.decode_raw(example["image"], tf.uint8), [48, 48, 1]), example["label"]

    records = tf.data.TFRecordDataset(paths, num_parallel_reads=tf.data.AUTOTUNE).repeat().shuffle(SHUFFLED)
    return records.map(parse, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH).prefetch(tf.data.AUTOTUNE)


def write_plain(path: str, images: np.ndarray, labels: np.ndarray, rows: int) -> str:
    """TFRecords as tutorials write them, one Example after another. Returns the path."""
    with tf.io.TFRecordWriter(path) as writer:
        for row in np.arange(rows) % len(images):
            feature = {
                "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[images[row].tobytes()])),
                "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[labels[row]])),
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    return path


def write_pngs(folder: str, images: np.ndarray, labels: np.ndarray, rows: int) -> list[tuple[str, int]]:
    """Each face as a picture of its own. Returns paths and labels."""
    os.makedirs(folder)
    pictures = []
    for row in range(rows):
        face = row % len(images)
        path = os.path.join(folder, f"{row}.png")
        Image.fromarray(images[face]).save(path)
        pictures.append((path, int(labels[face])))
    return pictures


def torch_batches(pictures: list[tuple[str, int]]) -> Iterator[Any]:
    """PyTorch's DataLoader over pictures, shuffled, in two processes that stay from pass to pass; without end.

    Raises:
      ImportError: torch is not installed.
    """
    from torch.utils.data import DataLoader

    loader = DataLoader(Pictures(pictures), BATCH, shuffle=True, num_workers=2, drop_last=True, persistent_workers=True)
    return itertools.chain.from_iterable(itertools.repeat(loader))


class Pictures:
    """Pictures as a PyTorch data set, one at a time."""

    def __init__(self, pictures: list[tuple[str, int]]):
        self._pictures = pictures

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        path, label = self._pictures[index]
        return np.array(Image.open(path))[..., np.newaxis], label  # writable, as torch wants it
