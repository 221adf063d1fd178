"""Tests of fer/benchmark/input.py and stream_process.py."""

import io
import shutil
import sys

import numpy as np
import pytest

from fer.benchmark import input, stream_process
from fer.data import manifest
from fer.errors import UserError

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 48, 48), dtype=np.uint8)
LABELS = np.arange(40) % 7


def read_faces(batches, count: int) -> set[tuple[bytes, int]]:
    """Returns the different images of the first `count` batches with their labels."""
    found = set()
    for _, batch in zip(range(count), batches):
        found |= {(np.asarray(image).tobytes(), int(label)) for image, label in zip(batch[0], batch[1])}
    return found


@pytest.fixture(autouse=True)
def small_buffers(monkeypatch):
    """Reduces the shuffle buffers to the size of the tests' shards, because filling them dominates the first batch."""
    monkeypatch.setattr(input, "SHUFFLE_BUFFER", 256)
    monkeypatch.setattr(stream_process, "SHUFFLE_BUFFER", 256)


@pytest.fixture
def expected() -> set[tuple[bytes, int]]:
    return {(image.tobytes(), int(label)) for image, label in zip(IMAGES, LABELS)}


@pytest.mark.parametrize("mode", ["in_memory", "streaming"])
def test_fer_batches_have_all_faces(mode, expected, tmp_path):
    data = input.write_shards(str(tmp_path / "shards"), IMAGES.reshape(40, -1), LABELS, rows=400)
    assert read_faces(input.fer_batches(data, mode), 3) == expected


def test_tutorial_batches_have_all_faces(expected, tmp_path):
    path = input.write_tfrecords(str(tmp_path / "plain"), IMAGES.reshape(40, -1), LABELS, rows=400)
    assert read_faces(input.tutorial_batches([path]), 8) == expected


def test_torch_batches_have_all_faces(expected, tmp_path):
    pytest.importorskip("torch", reason="torch is not installed (extra bench)")
    pictures = input.write_pngs(str(tmp_path / "png"), IMAGES, LABELS, rows=400)
    assert read_faces(input.torch_batches(pictures), 3) == expected


def test_write_shards_writes_the_requested_number_of_examples(tmp_path, monkeypatch):
    monkeypatch.setattr(input, "SHARD_ROWS", 150)
    data = input.write_shards(str(tmp_path), IMAGES.reshape(40, -1), LABELS, rows=400)
    assert [shard.examples for shard in data.split("train").shards] == [134, 133, 133]
    assert input.pipeline.open_split(data, "train", input.Data()).examples == 400


class FakeStreamProcess:
    """Substitute of `StreamProcess` with 100 images per measurement and a peak memory of 300 MiB."""

    def __init__(self, folder: str, turn: int):
        assert turn == 10
        assert manifest.read_manifest(folder).split("train").examples == 2000
        self.turn, self.peak_mib = lambda: 100, 0.0

    def close(self) -> None:
        self.peak_mib = 300.0


@pytest.mark.parametrize(
    "process", [False, pytest.param(True, marks=pytest.mark.extended)], ids=["fake process", "process"]
)
def test_measure_sizes_measures_each_size_in_a_process(tmp_path, monkeypatch, process):
    if not process:
        monkeypatch.setattr(input, "StreamProcess", FakeStreamProcess)
    rate, peak = input.measure_sizes(str(tmp_path), (2000,), batches=10)
    assert rate.value > 0
    assert 100 < peak.value < 3000
    assert (rate.name, peak.name, peak.unit) == ("streaming 2,000 rows", "peak memory, streaming 2,000 rows", "MiB")


def test_stream_process_prints_images_for_each_line_and_finally_its_memory(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n\n\n"))
    data = input.write_shards(str(tmp_path), IMAGES.reshape(40, -1), LABELS, rows=400)
    stream_process.serve(data.folder, 2)
    *turns, peak = capsys.readouterr().out.split()
    assert turns == [str(2 * stream_process.BATCH)] * 3
    assert float(peak) > 100


def test_stream_process_reports_that_its_process_ended(monkeypatch):
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(UserError, match="streaming process ended with exit code 1"):
        stream_process.StreamProcess("nowhere")


def test_measure_sizes_reports_size_that_the_disk_cannot_hold(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 10**6))
    assert input.measure_sizes(str(tmp_path), (1_000_000,)) == []
    assert "1,000,000 rows is left out" in capsys.readouterr().out


@pytest.mark.extended
def test_measure_pipelines_compares_with_the_tutorial_pipeline(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(input, "PASSES", {"in_memory": 1, "streaming": 1})

    def raise_import_error(_):
        raise ImportError("torch")

    monkeypatch.setattr(input, "torch_batches", raise_import_error)
    measured = input.measure_pipelines(str(tmp_path), IMAGES, LABELS, rows=1600)
    assert [(each.name, each.baseline is None) for each in measured] == [
        (input.BASELINE, True),
        ("fer, in memory", False),
        ("fer, streaming", False),
    ]
    assert all(each.value > 0 for each in measured)
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("torch is not installed") for line in lines)
    for name in (input.BASELINE, "fer, in memory", "fer, streaming"):
        assert lines.count(f"input: opening {name}") == 1
        assert [line for line in lines if line.endswith(f": {name}")] == [
            f"input: round {number} of 5: {name}" for number in range(1, 6)
        ]
