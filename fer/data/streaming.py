"""Batches from shards that need not fit into memory: windows of random chunks, each window shuffled.

An epoch is a permutation of the split's chunks (`fer.data.record_index`: up to 256 consecutive records), treated as
one sequence of examples. The sequence is cut into `INTERLEAVE` equal lanes, and each step takes an equal number of
examples from every lane: lane i fills the i-th part of the global batch. For each lane, a window of the next examples
is read, shuffled and distributed over the steps. Hence:

- The examples of a step are a function of (seed, epoch, step): its window is computed, and nothing before it is read.
- Every example occurs at most once per epoch; all occur but those of the last partial batch.
- A worker reads only the lanes of its part of the global batch, which is its share of the data if the number of
  workers divides the number of lanes. The global batch is the same for any number of workers.
- Memory holds the current window, the next one, and the chunks from which the latter is assembled.

Quality of the shuffling: the examples of a step come from as many chunks as the window has, drawn from the whole split.
The examples of one chunk are in the same window in every epoch.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from fer.data import example_codec, record_index, shard_cache
from fer.data.manifest import Manifest
from fer.data.record_index import Chunks
from fer.data.sampling import PREFETCH, Batch, BatchSchedule, EvalBatch
from fer.rng import ALGORITHM

INTERLEAVE = 16  # lanes of a global batch; their greatest common divisor with its size is used
NUM_READERS = 4  # chunks read and parsed in parallel


@dataclasses.dataclass(frozen=True)
class Stream:
    """A split on disk or in an object store, with checked shards and the positions of its records."""

    paths: tuple[str, ...]
    chunks: Chunks
    window: int  # examples shuffled together

    @property
    def examples(self) -> int:
        """Number of examples of the split."""
        return int(self.chunks.count.sum())


def open_stream(manifest: Manifest, split: str, window: int) -> Stream:
    """Checks the shards of a split and finds their records.

    Raises:
      UserError: see `fer.data.record_index.find_chunks`.
    """
    paths = tuple(shard_cache.local_paths(manifest, split))
    return Stream(paths, record_index.find_chunks(manifest, split), window)


def training_batches(stream: Stream, schedule: BatchSchedule, steps: int, votes: bool) -> tf.data.Dataset:
    """Builds the batches of training: see `fer.data.pipeline.training_batches`; `steps` are those of an epoch."""
    seed, global_batch, start, stop, replicas, local, _ = schedule
    share = global_batch // replicas
    positions = np.concatenate([np.arange(number * share, (number + 1) * share) for number in local]).astype(np.int32)
    width = global_batch // math.gcd(global_batch, INTERLEAVE)  # examples of a lane in a step
    lanes = np.unique(positions // width)
    columns = np.searchsorted(lanes, positions // width) * width + positions % width
    window_steps = max(1, stream.window // global_batch)

    @tf.autograph.experimental.do_not_convert
    def windows(epoch: tf.Tensor) -> tf.data.Dataset:
        """Returns images, labels and votes of each window of an epoch, and the rows of its steps within the window."""
        pieces_of = _make_epoch_index(stream, seed, epoch)
        first_step = tf.maximum(tf.constant(start, tf.int64) - epoch * steps, 0)

        def load(window: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
            """Reads a window."""
            before = window * window_steps
            window_size = tf.minimum(steps - before, window_steps)

            def lane_pieces(lane: tf.Tensor) -> tf.data.Dataset:
                """Returns the parts of chunks that hold the examples of a lane."""
                return pieces_of((lane * steps + before) * width, window_size * width)

            pieces = tf.data.Dataset.from_tensor_slices(lanes.astype(np.int64)).flat_map(lane_pieces)
            read = pieces.map(_make_reader(stream, votes), num_parallel_calls=NUM_READERS)
            images, labels, counts = read.rebatch(len(lanes) * window_size * width).get_single_element()
            rows = tf.gather(_shuffled_rows(seed, epoch, window, lanes, window_size, width), columns, axis=1)
            return images, labels, counts, rows[tf.maximum(first_step - before, 0) :]

        return tf.data.Dataset.range(first_step // window_steps, -(-steps // window_steps)).map(load)

    splitter = _make_window_splitter(positions, share)
    batches = schedule.epoch_numbers(steps).flat_map(windows).prefetch(1).flat_map(splitter)
    return batches.take((stop - start) * len(local)).prefetch(PREFETCH * len(local))


def _make_window_splitter(positions: np.ndarray, share: int) -> Callable[..., tf.data.Dataset]:
    """Returns the function that splits a window into the batches of its steps.

    Args:
      positions: int32 [n], positions in the global batch of a step's examples on this worker.
      share: examples per replica and step.
    """

    @tf.autograph.experimental.do_not_convert
    def split_window(images: tf.Tensor, labels: tf.Tensor, counts: tf.Tensor, rows: tf.Tensor) -> tf.data.Dataset:
        """Returns a dataset of `Batch`; `rows` are those of each step, [steps, n]."""

        def gather(chosen: tf.Tensor, local_positions: tf.Tensor) -> Batch:
            """Gathers the examples of a replica."""
            return Batch(
                tf.gather(images, chosen), tf.gather(labels, chosen), local_positions, tf.gather(counts, chosen)
            )

        local_positions = tf.tile(tf.reshape(positions, [-1, share]), [tf.shape(rows)[0], 1])
        return tf.data.Dataset.from_tensor_slices((tf.reshape(rows, [-1, share]), local_positions)).map(gather)

    return split_window


def evaluation_batches(stream: Stream, batch: int) -> tf.data.Dataset:
    """Builds the batches of an evaluation: see `fer.data.pipeline.evaluation_batches`."""

    @tf.autograph.experimental.do_not_convert
    def fill(images: tf.Tensor, labels: tf.Tensor, _: tf.Tensor) -> EvalBatch:
        """Pads the last batch with examples of weight 0."""
        missing = batch - tf.shape(labels)[0]
        weights = tf.pad(tf.ones_like(labels, tf.float32), [[0, missing]])
        images = tf.pad(images, [[0, missing], [0, 0], [0, 0], [0, 0]])
        return EvalBatch(
            tf.ensure_shape(images, [batch, *images.shape[1:]]),
            tf.ensure_shape(tf.pad(labels, [[0, missing]]), [batch]),
            tf.ensure_shape(weights, [batch]),
        )

    pieces = tf.data.Dataset.from_tensor_slices(tuple(stream.chunks))
    read = pieces.map(_make_reader(stream, votes=False), num_parallel_calls=NUM_READERS)
    return read.rebatch(batch).map(fill).prefetch(PREFETCH)


def _make_epoch_index(stream: Stream, seed: int, epoch: tf.Tensor) -> Callable[[tf.Tensor, tf.Tensor], tf.data.Dataset]:
    """Returns the function that finds examples `begin` to `begin + count` of an epoch: a dataset of parts of chunks."""
    shard, offset, length, count = (tf.constant(column) for column in stream.chunks)
    order = tf.random.experimental.stateless_shuffle(
        tf.range(len(stream.chunks.count)), seed=tf.stack([seed, tf.cast(epoch, tf.int32)]), alg=ALGORITHM
    )
    ends = tf.cumsum(tf.gather(count, order))

    def pieces(begin: tf.Tensor, wanted: tf.Tensor) -> tf.data.Dataset:
        """Returns shard, offset, length and number of the records of each part."""
        first = tf.searchsorted(ends, [begin], side="right")[0]
        last = tf.searchsorted(ends, [begin + wanted], side="left")[0]
        chosen, stops = order[first : last + 1], ends[first : last + 1]
        starts = stops - tf.gather(count, chosen)
        skipped = tf.maximum(begin - starts, 0)
        taken = tf.minimum(stops, begin + wanted) - starts - skipped
        lengths = tf.gather(length, chosen)
        offsets = tf.gather(offset, chosen) + skipped * (lengths + record_index.FRAMING_BYTES)
        return tf.data.Dataset.from_tensor_slices((tf.gather(shard, chosen), offsets, lengths, taken))

    return pieces


def _shuffled_rows(
    seed: int, epoch: tf.Tensor, window: tf.Tensor, lanes: np.ndarray, steps: tf.Tensor, width: int
) -> tf.Tensor:
    """Returns the rows of a window that holds `lanes` one after the other, each lane shuffled separately.

    Random numbers are drawn for all lanes, so that those of a worker do not depend on how many lanes it reads.

    Returns:
      [steps, lanes * width] int32.
    """
    drawn = tf.random.experimental.stateless_fold_in(
        tf.stack([seed, tf.cast(epoch, tf.int32)]), window + 1, alg=ALGORITHM
    )
    count = tf.cast(steps * width, tf.int32)
    keys = tf.random.stateless_uniform([INTERLEAVE, count], drawn, alg=ALGORITHM)
    shuffled = tf.argsort(tf.gather(keys, lanes), stable=True) + count * tf.range(len(lanes))[:, tf.newaxis]
    by_step = tf.transpose(tf.reshape(shuffled, [len(lanes), -1, width]), [1, 0, 2])
    return tf.reshape(by_step, [-1, len(lanes) * width])


def _make_reader(stream: Stream, votes: bool) -> Callable[..., tuple[tf.Tensor, tf.Tensor, tf.Tensor]]:
    """Returns the function that reads `count` records of `length` bytes at `offset` of a shard and parses them."""
    paths = tf.constant(stream.paths)

    @tf.autograph.experimental.do_not_convert
    def read(shard: tf.Tensor, offset: tf.Tensor, length: tf.Tensor, count: tf.Tensor) -> tuple[tf.Tensor, ...]:
        # tf.data.TFRecordDataset has no offset, and FixedLengthRecordDataset reads the bytes that it skips.
        ranged = tf.raw_ops.TFRecordDatasetV2(
            filenames=tf.gather(paths, [shard]),
            compression_type="",
            buffer_size=count * (length + record_index.FRAMING_BYTES),  # exactly the bytes of these records
            byte_offsets=[offset],
        )
        found = tf.data.experimental.from_variant(ranged, tf.TensorSpec([], tf.string))
        return example_codec.parse_examples(
            found.take(count).batch(record_index.CHUNK_RECORDS).get_single_element(), votes
        )

    return read
