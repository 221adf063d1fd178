"""Streaming promises what memory promises, window by window: order by (seed, step) alone, every face once an epoch."""

import hashlib
import os

import numpy as np
import pytest
import tensorflow as tf

from fer.config import Data
from fer.data import example_codec, manifest, pipeline, record_index, streaming
from fer.data.sampling import Batch
from fer.errors import UserError
from fer.labels import CLASSES

COUNT, BATCH = 1000, 32
STEPS = COUNT // BATCH
WINDOW = 4 * BATCH


def votes_of(numbers: np.ndarray) -> np.ndarray:
    return (numbers[:, np.newaxis] + np.arange(10)) % 11


def shards(folder: str, count: int, files: int) -> manifest.Manifest:
    """Faces whose first two pixels are their own number, from which label and votes follow, in several shards."""
    numbers = np.arange(count)
    images = np.zeros((count, 2304), np.uint8)
    images[:, 0], images[:, 1] = numbers // 256, numbers % 256
    made = []
    for part in np.array_split(numbers, files):
        path = os.path.join(folder, f"train-{len(made)}.tfrecord")
        with tf.io.TFRecordWriter(path) as writer:
            for message in example_codec.encode_examples(images[part], part % 7, part, votes_of(part)):
                writer.write(message)
        with open(path, "rb") as file:
            content = file.read()
        made.append(
            manifest.Shard(os.path.basename(path), len(part), len(content), hashlib.sha256(content).hexdigest())
        )
    counts = dict(zip(CLASSES, np.bincount(numbers % 7, minlength=7).tolist()))
    split = manifest.Split("train", count, counts, tuple(made))
    return manifest.Manifest(folder, "numbers", CLASSES, {"train": split}, {"mean": 0.0, "std": 0.0}, "", {})


@pytest.fixture(scope="module")
def numbered(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record_index, "CHUNK_RECORDS", 16)
        folder = str(tmp_path_factory.mktemp("numbered"))
        yield shards(folder, COUNT, files=5)


@pytest.fixture(scope="module")
def stream(numbered):
    return pipeline.open_split(numbered, "train", Data(mode="streaming", shuffle_window=WINDOW))


def number_of(batch) -> np.ndarray:
    """The faces' numbers of a batch, int64 [share]."""
    return batch.images.numpy()[:, 0, :2, 0] @ [256, 1]


def rows(source, start, stop, replicas=1, local=(0,), seed=3) -> np.ndarray:
    """The faces' numbers, [steps * local replicas, share]."""
    return np.array(
        [number_of(batch) for batch in pipeline.training_batches(source, seed, BATCH, start, stop, replicas, local)]
    )


@pytest.fixture(scope="module")
def batches(stream) -> list[Batch]:
    """Batches of twenty epochs."""
    return list(pipeline.training_batches(stream, 3, BATCH, 0, 20 * STEPS, 1, [0]))


@pytest.fixture(scope="module")
def epochs(batches) -> np.ndarray:
    """The faces' numbers of the first three epochs, [3 * STEPS, BATCH]."""
    return np.array([number_of(batch) for batch in batches[: 3 * STEPS]])


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
    np.testing.assert_array_equal(rows(stream, start, 3 * STEPS), epochs[start:])


def test_streaming_reads_one_window_when_starting_at_late_step(stream, monkeypatch):
    read = []
    parse = example_codec.parse_examples

    def counting(serialized, votes):
        read.append(tf.py_function(lambda data: seen.append(len(data)), [serialized], []))
        with tf.control_dependencies(read[-1:]):
            return parse(serialized, votes)

    seen: list[int] = []
    monkeypatch.setattr(example_codec, "parse_examples", counting)
    assert rows(stream, 1000 * STEPS + 9, 1000 * STEPS + 10).shape == (1, BATCH)
    assert sum(seen) <= 2 * WINDOW  # its own and, while that is dealt out, the next


def bytes_read() -> int:
    """By this process so far, from files and the page cache."""
    with open("/proc/self/io", encoding="ascii") as file:
        return int(next(line for line in file if line.startswith("rchar")).split()[1])


@pytest.mark.skipif(not os.path.exists("/proc/self/io"), reason="the system does not count what is read")
def test_streaming_skips_bytes_before_its_chunks(tmp_path):
    large = shards(str(tmp_path), 20 * COUNT, files=1)  # 48 MB
    source = pipeline.open_split(large, "train", Data(mode="streaming", shuffle_window=WINDOW))
    before = bytes_read()
    assert rows(source, 0, 1).shape == (1, BATCH)
    # Two windows of 16 lanes, each of which lies in at most two chunks of 256 records of 2.4 kB.
    assert bytes_read() - before < 2 * 16 * 2 * 256 * 2400 < 0.9 * os.path.getsize(tmp_path / "train-0.tfrecord")


def test_streaming_returns_written_images_and_labels(batches):
    for batch in batches[:STEPS]:
        np.testing.assert_array_equal(batch.labels, number_of(batch) % 7)
        assert (batch.images.dtype, batch.labels.dtype, batch.positions.dtype) == (tf.uint8, tf.int32, tf.int32)


@pytest.fixture(scope="module", params=[2, pytest.param(4, marks=pytest.mark.extended)])
def replicas(request, stream) -> list[Batch]:
    """Batches of steps 2 to 8 for two replicas or four, with votes."""
    count = request.param
    return list(pipeline.training_batches(stream, 3, BATCH, 2, 9, count, range(count), votes=True))


def test_streaming_returns_votes_on_request(batches, replicas):
    assert {batch.votes.shape.as_list()[1] for batch in batches} == {0}
    for batch in replicas:
        np.testing.assert_array_equal(batch.votes, votes_of(number_of(batch)))


def test_streaming_replicas_split_the_global_batch_in_order(replicas, epochs):
    shared = np.array([number_of(batch) for batch in replicas])
    np.testing.assert_array_equal(shared.reshape(-1, BATCH), epochs[2:9])


@pytest.fixture(scope="module")
def workers(stream) -> list[list[Batch]]:
    """Batches of an epoch for two workers of two replicas each."""
    return [list(pipeline.training_batches(stream, 3, BATCH, 0, STEPS, 4, local)) for local in ([0, 1], [2, 3])]


def test_streaming_workers_split_the_global_batch_with_positions(workers, epochs):
    for worker, batches in enumerate(workers):
        for number, batch in enumerate(batches):
            step, replica = number // 2, 2 * worker + number % 2
            np.testing.assert_array_equal(batch.positions, range(8 * replica, 8 * replica + 8))
            np.testing.assert_array_equal(number_of(batch), epochs[step][batch.positions.numpy()])


def test_streaming_workers_read_disjoint_halves_of_an_epoch(workers, epochs):
    halves = [np.concatenate([number_of(batch) for batch in batches]) for batches in workers]
    assert not np.intersect1d(*halves).size
    np.testing.assert_array_equal(np.union1d(*halves), np.unique(epochs[:STEPS]))


def test_streaming_windows_mix_shards_and_epochs_differ(batches):
    orders = np.array([number_of(batch) for batch in batches]).reshape(20, -1)
    place = np.arange(orders.shape[1])
    correlations = [np.corrcoef(place, order)[0, 1] for order in orders]
    # Chunks of 16 move as one: about COUNT / 16 independent places, so a standard deviation of 1 / 8 an epoch.
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


def test_streaming_batch_mixes_shards(epochs):
    assert np.mean([len(np.unique(batch // 200)) for batch in epochs]) > 3


def test_streaming_order_depends_on_seed(stream, epochs):
    assert (rows(stream, 0, 2, seed=4) != epochs[:2]).any()


@pytest.mark.parametrize(
    "window", [10 * COUNT, *(pytest.param(size, marks=pytest.mark.extended) for size in (1, BATCH, 3 * BATCH + 5))]
)
def test_streaming_epoch_is_complete_for_every_window_size(numbered, window):
    source = pipeline.open_split(numbered, "train", Data(mode="streaming", shuffle_window=window))
    assert len(np.unique(rows(source, 0, STEPS))) == STEPS * BATCH


def test_streaming_batch_size_need_not_be_multiple_of_lanes(stream):
    batches = pipeline.training_batches(stream, 3, 15, 0, COUNT // 15, 1, [0])
    numbers = np.concatenate([number_of(batch) for batch in batches])
    assert len(np.unique(numbers)) == COUNT // 15 * 15


@pytest.mark.parametrize("batch", [pytest.param(1, marks=pytest.mark.extended), 7, 64, 1000, 1024])
def test_evaluation_batches_of_stream_return_every_face_once_in_order_and_equal_size(stream, batch):
    batches = list(pipeline.evaluation_batches(stream, batch))
    assert {part.images.shape[0] for part in batches} == {batch}
    kept = np.concatenate([part.weights for part in batches]) == 1
    numbers = np.concatenate([number_of(part) for part in batches])[kept]
    np.testing.assert_array_equal(numbers, np.arange(COUNT))


@pytest.mark.parametrize(
    ("mode", "memory_mib", "streams"),
    [("auto", 100, False), ("auto", 0, True), ("resident", 0, False), ("streaming", 100, True)],
)
def test_auto_mode_depends_on_memory_limit(numbered, mode, memory_mib, streams):
    source = pipeline.open_split(numbered, "train", Data(mode=mode, memory_mib=memory_mib))
    assert isinstance(source, pipeline.Stream) == streams


def test_open_split_rejects_balanced_sampling_beyond_memory_limit(numbered):
    with pytest.raises(UserError, match=r"needs the train split in memory: its 2 MiB .*memory_mib, 0;"):
        pipeline.open_split(numbered, "train", Data(memory_mib=0, sampling="balanced"))
