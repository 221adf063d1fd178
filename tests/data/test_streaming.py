"""Streaming has the guarantees of in-memory data: the order depends on seed and step alone, and no face repeats."""

import hashlib
import os

import numpy as np
import pytest
import tensorflow as tf

from fer.config import Data
from fer.data import example_codec, manifest, pipeline, record_index, record_writer, streaming
from fer.data.sampling import Batch, BatchSchedule
from fer.errors import UserError
from fer.labels import CLASSES

COUNT, BATCH = 1000, 32
STEPS = COUNT // BATCH
WINDOW = 4 * BATCH


def make_votes(numbers: np.ndarray) -> np.ndarray:
    return (numbers[:, np.newaxis] + np.arange(10)) % 11


def write_shards(folder: str, count: int, files: int) -> manifest.Manifest:
    """Writes shards of faces whose first two pixels hold their number; label and votes are functions of the number."""
    numbers = np.arange(count)
    images = np.zeros((count, 2304), np.uint8)
    images[:, 0], images[:, 1] = numbers // 256, numbers % 256
    found = []
    for part in np.array_split(numbers, files):
        path = os.path.join(folder, f"train-{len(found)}.tfrecord")
        with open(path, "wb") as file:
            file.write(record_writer.encode_records(images[part], part % 7, part, make_votes(part)))
        with open(path, "rb") as file:
            content = file.read()
        found.append(
            manifest.Shard(os.path.basename(path), len(part), len(content), hashlib.sha256(content).hexdigest())
        )
    counts = dict(zip(CLASSES, np.bincount(numbers % 7, minlength=7).tolist()))
    split = manifest.Split("train", count, counts, tuple(found))
    return manifest.Manifest(folder, "numbers", CLASSES, {"train": split}, {"mean": 0.0, "std": 0.0}, "", {})


@pytest.fixture(scope="module")
def numbered_shards(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record_index, "CHUNK_RECORDS", 16)
        folder = str(tmp_path_factory.mktemp("numbered_shards"))
        yield write_shards(folder, COUNT, files=5)


@pytest.fixture(scope="module")
def stream(numbered_shards):
    return pipeline.open_split(numbered_shards, "train", Data(mode="streaming", shuffle_buffer_size=WINDOW))


def read_numbers(batch) -> np.ndarray:
    """Returns the numbers of the faces of a batch, int64 [share]."""
    return batch.images.numpy()[:, 0, :2, 0] @ [256, 1]


def read_rows(source, start, stop, replicas=1, local=(0,), seed=3) -> np.ndarray:
    """Returns the numbers of the faces, [steps * local replicas, share]."""
    return np.array(
        [
            read_numbers(batch)
            for batch in pipeline.training_batches(source, BatchSchedule(seed, BATCH, start, stop, replicas, local))
        ]
    )


@pytest.fixture(scope="module")
def batches(stream) -> list[Batch]:
    """Returns the batches of twenty epochs."""
    return list(pipeline.training_batches(stream, BatchSchedule(3, BATCH, 0, 20 * STEPS, 1, [0])))


@pytest.fixture(scope="module")
def epochs(batches) -> np.ndarray:
    """Returns the numbers of the faces of the first three epochs, [3 * STEPS, BATCH]."""
    return np.array([read_numbers(batch) for batch in batches[: 3 * STEPS]])


def test_streaming_epoch_repeats_no_face_and_drops_partial_batch_only(epochs):
    for epoch in np.split(epochs, 3):
        assert len(np.unique(epoch)) == STEPS * BATCH > COUNT - BATCH


@pytest.mark.parametrize(
    "start",
    [
        *(pytest.param(step, marks=pytest.mark.extended) for step in (0, 1, 4, 5, STEPS - 1, STEPS, 3 * STEPS - 1)),
        STEPS + 6,  # within a window of an epoch that is not the first
    ],
)
def test_streaming_starts_at_any_step(stream, epochs, start):
    np.testing.assert_array_equal(read_rows(stream, start, 3 * STEPS), epochs[start:])


def test_streaming_reads_one_window_when_starting_at_late_step(stream, monkeypatch):
    ops = []
    parse = example_codec.parse_examples

    def count_and_parse(serialized, votes):
        ops.append(tf.py_function(lambda data: counts.append(len(data)), [serialized], []))
        with tf.control_dependencies(ops[-1:]):
            return parse(serialized, votes)

    counts: list[int] = []
    monkeypatch.setattr(example_codec, "parse_examples", count_and_parse)
    assert read_rows(stream, 1000 * STEPS + 9, 1000 * STEPS + 10).shape == (1, BATCH)
    assert sum(counts) <= 2 * WINDOW  # the window of the step and, prefetched, the next one


def count_bytes_read() -> int:
    """Returns the number of bytes that this process has read from files and the page cache."""
    with open("/proc/self/io", encoding="ascii") as file:
        return int(next(line for line in file if line.startswith("rchar")).split()[1])


@pytest.mark.skipif(not os.path.exists("/proc/self/io"), reason="the system does not count what is read")
def test_streaming_skips_bytes_before_its_chunks(tmp_path):
    large = write_shards(str(tmp_path), 20 * COUNT, files=1)  # 48 MB
    source = pipeline.open_split(large, "train", Data(mode="streaming", shuffle_buffer_size=WINDOW))
    before = count_bytes_read()
    assert read_rows(source, 0, 1).shape == (1, BATCH)
    # Two windows of 16 lanes, each of which lies in at most two chunks of 256 records of 2.4 kB.
    assert count_bytes_read() - before < 2 * 16 * 2 * 256 * 2400 < 0.9 * os.path.getsize(tmp_path / "train-0.tfrecord")


def test_streaming_returns_written_images_and_labels(batches):
    for batch in batches[:STEPS]:
        np.testing.assert_array_equal(batch.labels, read_numbers(batch) % 7)
        assert (batch.images.dtype, batch.labels.dtype, batch.positions.dtype) == (tf.uint8, tf.int32, tf.int32)


@pytest.fixture(scope="module", params=[2, pytest.param(4, marks=pytest.mark.extended)])
def replicas(request, stream) -> list[Batch]:
    """Returns the batches of steps 2 to 8 for two or four replicas, with votes."""
    count = request.param
    return list(pipeline.training_batches(stream, BatchSchedule(3, BATCH, 2, 9, count, range(count)), votes=True))


def test_streaming_returns_votes_on_request(batches, replicas):
    assert {batch.votes.shape.as_list()[1] for batch in batches} == {0}
    for batch in replicas:
        np.testing.assert_array_equal(batch.votes, make_votes(read_numbers(batch)))


def test_streaming_replicas_split_the_global_batch_in_order(replicas, epochs):
    shared = np.array([read_numbers(batch) for batch in replicas])
    np.testing.assert_array_equal(shared.reshape(-1, BATCH), epochs[2:9])


@pytest.fixture(scope="module")
def workers(stream) -> list[list[Batch]]:
    """Returns the batches of an epoch for two workers of two replicas each."""
    return [
        list(pipeline.training_batches(stream, BatchSchedule(3, BATCH, 0, STEPS, 4, local)))
        for local in ([0, 1], [2, 3])
    ]


def test_streaming_workers_split_the_global_batch_with_positions(workers, epochs):
    for worker, batches in enumerate(workers):
        for number, batch in enumerate(batches):
            step, replica = number // 2, 2 * worker + number % 2
            np.testing.assert_array_equal(batch.positions, range(8 * replica, 8 * replica + 8))
            np.testing.assert_array_equal(read_numbers(batch), epochs[step][batch.positions.numpy()])


def test_streaming_workers_read_disjoint_halves_of_an_epoch(workers, epochs):
    halves = [np.concatenate([read_numbers(batch) for batch in batches]) for batches in workers]
    assert not np.intersect1d(*halves).size
    np.testing.assert_array_equal(np.union1d(*halves), np.unique(epochs[:STEPS]))


def test_streaming_windows_mix_shards_and_epochs_differ(batches):
    orders = np.array([read_numbers(batch) for batch in batches]).reshape(20, -1)
    place = np.arange(orders.shape[1])
    correlations = [np.corrcoef(place, order)[0, 1] for order in orders]
    # Chunks of 16 faces stay together, so about COUNT / 16 positions are independent: a standard deviation of 1 / 8.
    assert abs(np.mean(correlations)) < 4 * 0.125 / np.sqrt(20)
    between = np.corrcoef(orders)[~np.eye(20, dtype=bool)]
    assert abs(between).max() < 0.75
    assert abs(between.mean()) < 0.05


def test_shuffled_rows_differ_by_lane_window_and_epoch_but_not_by_worker():
    steps = 20

    def orders(epoch: int, window: int, lanes: list[int]) -> list[tuple[int, ...]]:
        shuffled = streaming._shuffled_rows(
            3, tf.constant(epoch), tf.constant(window), np.array(lanes), tf.constant(steps), width=1
        )
        return [tuple(column - place * steps) for place, column in enumerate(shuffled.numpy().T)]

    places = [(epoch, window) for epoch in range(2) for window in range(2)]
    found = [order for place in places for order in orders(*place, lanes=[0, 1, 2])]
    assert all(sorted(order) == list(range(steps)) for order in found)
    assert len(set(found)) == len(places) * 3
    assert orders(1, 1, lanes=[2]) == found[-1:]


def test_streaming_batch_mixes_write_shards(epochs):
    assert np.mean([len(np.unique(batch // 200)) for batch in epochs]) > 3


def test_streaming_order_depends_on_seed(stream, epochs):
    assert (read_rows(stream, 0, 2, seed=4) != epochs[:2]).any()


@pytest.mark.parametrize(
    "window", [10 * COUNT, *(pytest.param(size, marks=pytest.mark.extended) for size in (1, BATCH, 3 * BATCH + 5))]
)
def test_streaming_epoch_is_complete_for_every_window_size(numbered_shards, window):
    source = pipeline.open_split(numbered_shards, "train", Data(mode="streaming", shuffle_buffer_size=window))
    assert len(np.unique(read_rows(source, 0, STEPS))) == STEPS * BATCH


def test_streaming_batch_size_need_not_be_multiple_of_lanes(stream):
    batches = pipeline.training_batches(stream, BatchSchedule(3, 15, 0, COUNT // 15, 1, [0]))
    numbers = np.concatenate([read_numbers(batch) for batch in batches])
    assert len(np.unique(numbers)) == COUNT // 15 * 15


@pytest.mark.parametrize("batch", [pytest.param(1, marks=pytest.mark.extended), 7, 64, 1000, 1024])
def test_evaluation_batches_of_stream_return_every_face_once_in_order_and_equal_size(stream, batch):
    batches = list(pipeline.evaluation_batches(stream, batch))
    assert {part.images.shape[0] for part in batches} == {batch}
    real = np.concatenate([part.weights for part in batches]) == 1
    numbers = np.concatenate([read_numbers(part) for part in batches])[real]
    np.testing.assert_array_equal(numbers, np.arange(COUNT))


@pytest.mark.parametrize(
    ("mode", "limit_mib", "streams"),
    [("auto", 100, False), ("auto", 0, True), ("in_memory", 0, False), ("streaming", 100, True)],
)
def test_auto_mode_depends_on_memory_limit(numbered_shards, mode, limit_mib, streams):
    source = pipeline.open_split(numbered_shards, "train", Data(mode=mode, in_memory_limit_mib=limit_mib))
    assert isinstance(source, pipeline.Stream) == streams


def test_open_split_rejects_balanced_sampling_beyond_memory_limit(numbered_shards):
    with pytest.raises(UserError, match=r"needs the train split in memory: its 2 MiB .*in_memory_limit_mib, 0;"):
        pipeline.open_split(numbered_shards, "train", Data(in_memory_limit_mib=0, sampling="balanced"))
