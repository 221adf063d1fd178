"""The input benchmark: rivals hand out the same faces, and sizes that do not fit are left out."""

import io
import shutil
import sys

import numpy as np
import pytest

from fer.benchmark import fake_shards, input, stream_process
from fer.data import manifest

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 48, 48), dtype=np.uint8)
LABELS = np.arange(40) % 7


def faces(batches, count: int) -> set[tuple[bytes, int]]:
    """The different faces of the first `count` batches, with their labels."""
    found = set()
    for _, batch in zip(range(count), batches):
        found |= {(np.asarray(image).tobytes(), int(label)) for image, label in zip(batch[0], batch[1])}
    return found


@pytest.fixture(autouse=True)
def small_buffers(monkeypatch):
    """No larger than the tests' shards: filling them is most of what a pipeline's first batch costs."""
    monkeypatch.setattr(input, "SHUFFLED", 256)
    monkeypatch.setattr(stream_process, "WINDOW", 256)


@pytest.fixture
def given() -> set[tuple[bytes, int]]:
    return {(image.tobytes(), int(label)) for image, label in zip(IMAGES, LABELS)}


@pytest.mark.parametrize("mode", ["resident", "streaming"])
def test_ours_hands_out_the_faces(mode, given, tmp_path):
    data = fake_shards.write(str(tmp_path / "shards"), IMAGES.reshape(40, -1), LABELS, rows=400)
    assert faces(input.fer_batches(data, mode), 3) == given


def test_the_usual_pipeline_hands_out_the_faces(given, tmp_path):
    path = input.write_plain(str(tmp_path / "plain"), IMAGES.reshape(40, -1), LABELS, rows=400)
    assert faces(input.usual([path]), 8) == given


def test_pytorchs_loader_hands_out_the_faces(given, tmp_path):
    pytest.importorskip("torch", reason="torch is in the extra `bench`")
    pictures = input.write_pngs(str(tmp_path / "png"), IMAGES, LABELS, rows=400)
    assert faces(input.torch_batches(pictures), 3) == given


def test_shards_for_measuring_are_as_long_as_asked_for_and_sound(tmp_path, monkeypatch):
    monkeypatch.setattr(fake_shards, "SHARD_ROWS", 150)
    data = fake_shards.write(str(tmp_path), IMAGES.reshape(40, -1), LABELS, rows=400)
    assert [shard.examples for shard in data.split("train").shards] == [134, 133, 133]
    assert input.pipeline.open_split(data, "train", input.Data()).examples == 400


class Fake:
    """A streamer of 100 images a turn that has held 300 MiB."""

    def __init__(self, folder: str, turn: int):
        assert turn == 10
        assert manifest.read_manifest(folder).split("train").examples == 2000
        self.turn, self.peak_mib = lambda: 100, 0.0

    def close(self) -> None:
        self.peak_mib = 300.0


@pytest.mark.parametrize(
    "process", [False, pytest.param(True, marks=pytest.mark.extended)], ids=["no process", "a process"]
)
def test_streaming_is_measured_in_a_process_for_each_size(tmp_path, monkeypatch, process):
    if not process:
        monkeypatch.setattr(input, "Streamer", Fake)
    rate, peak = input.sizes(str(tmp_path), (2000,), batches=10)
    assert rate.value > 0
    assert 100 < peak.value < 3000
    assert (rate.name, peak.name, peak.unit) == ("streaming 2,000 rows", "peak memory, streaming 2,000 rows", "MiB")


def test_a_streamer_answers_each_line_with_its_images_and_ends_with_its_memory(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n\n\n"))
    data = fake_shards.write(str(tmp_path), IMAGES.reshape(40, -1), LABELS, rows=400)
    stream_process.serve(data.folder, 2)
    *turns, peak = capsys.readouterr().out.split()
    assert turns == [str(2 * stream_process.BATCH)] * 3
    assert float(peak) > 100


def test_a_size_that_the_disk_cannot_hold_is_left_out_and_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 10**6))
    assert input.sizes(str(tmp_path), (1_000_000,)) == []
    assert "1,000,000 rows is left out" in capsys.readouterr().out


def test_figures_are_relative_to_the_usual_pipeline(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(input, "PASSES", {"resident": 1, "streaming": 1})

    def absent(_):
        raise ImportError("torch")

    monkeypatch.setattr(input, "torch_batches", absent)
    measured = input.rivals(str(tmp_path), IMAGES, LABELS, rows=1600)
    assert [(each.name, each.baseline is None) for each in measured] == [
        (input.USUAL, True),
        ("fer, resident", False),
        ("fer, streaming", False),
    ]
    assert all(each.value > 0 for each in measured)
    assert "torch is not installed" in capsys.readouterr().out
