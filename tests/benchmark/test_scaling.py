"""Tests of fer/benchmark/scaling.py and worker_process.py."""

import socket

import numpy as np
import pytest

from fer import progress
from fer.benchmark import scaling, worker_process
from fer.config import Model
from fer.errors import UserError
from tests.train import factories


@pytest.mark.parametrize("replicas", [1, 2, 3, 8])
def test_ring_bytes_equals_simulated_ring_all_reduce(replicas):
    """Each replica sends one of n parts in each of n - 1 steps that add and n - 1 steps that distribute."""
    gradients = (
        np.random.default_rng(0).integers(0, 9, (replicas, replicas, 6)).astype(np.float32)
    )  # ring, part, number
    held, sent = gradients.copy(), 0
    for turn in range(2 * (replicas - 1)):
        adding = turn < replicas - 1
        before = held.copy()
        for rank in range(replicas):
            part = (rank - turn) % replicas
            neighbour = (rank + 1) % replicas
            held[neighbour, part] = before[rank, part] + (held[neighbour, part] if adding else 0)
            sent += held[neighbour, part].nbytes if rank == 0 else 0
    np.testing.assert_array_equal(held, np.broadcast_to(gradients.sum(axis=0), held.shape))
    assert scaling.ring_bytes(gradients[0].size, replicas) == pytest.approx(sent)


@pytest.mark.parametrize(
    "trained", [False, pytest.param(True, marks=pytest.mark.extended)], ids=["without training", "trained"]
)
def test_measure_overhead_compares_one_with_several_replicas(monkeypatch, trained, capsys):
    """Tracing and compiling the steps takes most of the time."""
    monkeypatch.setattr(scaling, "REPLICAS", {"two": 2})  # the tests' process has two logical devices
    monkeypatch.setattr(progress, "STAGE_INTERVAL_S", 600.0)  # no further lines on a slow machine
    if not trained:
        monkeypatch.setattr(scaling, "_make_turn", lambda *_: lambda: factories.BATCH)
    settings = factories.experiment(deterministic=False, precision="auto")
    settings.model.name = "tiny"
    one, two = scaling.measure_overhead("small", settings, steps=1, rounds=2)
    assert (one.baseline, two.baseline) == (None, one.name)
    assert min(one.value, two.value) > 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "building" in line or "round" in line] == [
        *(f"scaling: building and compiling {each.name}" for each in (one, two)),
        *(f"scaling: round {number} of 2: {each.name}" for number in (1, 2) for each in (one, two)),
    ]


@pytest.mark.extended
def test_measure_communication_agrees_with_ring_bytes():
    """Two and four processes on the loopback device, within 10 %."""
    settings = factories.experiment(precision="auto")
    settings.model = Model(name="compact_s", dropout=0.2)
    formula, two, more, four = scaling.measure_communication("compact_s", settings, steps=4)
    assert (two.ratio, four.ratio) == (pytest.approx(1, abs=0.1), pytest.approx(1, abs=0.1))
    assert more.value / formula.value == pytest.approx((3 / 4) / (1 / 2), rel=0.001)
    assert two.high / two.low == pytest.approx(1, abs=0.1)


def test_measure_sent_bytes_reports_failed_process(monkeypatch):
    monkeypatch.setattr(worker_process.sys, "executable", "/bin/false")
    with pytest.raises(UserError, match=r"Worker process 0 of 2 ended with exit code 1: see its message above\."):
        worker_process.measure_sent_bytes(factories.experiment(), 2, steps=1)


def test_read_sent_bytes_counts_open_connections():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        accepted, _ = server.accept()
        before = worker_process.read_sent_bytes()
        client.sendall(bytes(300_000))
        received = 0
        while received < 300_000:
            received += len(accepted.recv(1 << 16))
        assert worker_process.read_sent_bytes() - before == 300_000
        accepted.close()


def test_ring_seconds_adds_latency_to_the_transfer_at_the_slowest_link():
    assert scaling.ring_seconds(10**9, 8) == pytest.approx(7e9 / 300e9, rel=0.01)
    assert scaling.ring_seconds(10**9, 16) == pytest.approx(7.5e9 / 50e9, rel=0.01)
    assert scaling.ring_seconds(0, 16) == pytest.approx(8.4e-6 + 28 * 3.4e-6 + 2 * 14e-6)


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("gpus", scaling.GPU_COUNTS)
def test_min_global_batch_is_the_first_above_ninety_percent(gpus, overlap):
    reduce_s, throughput = scaling.ring_seconds(4_000_000, gpus), 3454.0
    per_gpu, rest = divmod(scaling.min_global_batch(throughput, reduce_s, gpus, overlap), gpus)
    assert rest == 0
    assert scaling.efficiency(per_gpu / throughput, reduce_s, overlap) > 0.9
    assert scaling.efficiency((per_gpu - 1) / throughput, reduce_s, overlap) <= 0.9


def test_efficiency_is_one_when_the_backward_pass_covers_the_all_reduce():
    assert scaling.efficiency(3.0, 2.0, overlap=True) == 1
    assert scaling.efficiency(3.0, 3.0, overlap=True) == 0.75
    assert scaling.efficiency(3.0, 3.0, overlap=False) == 0.5


def test_model_results_lower_efficiency_with_more_gpus_and_without_overlap():
    found = {result.name: result.value for result in scaling.model_results()}
    assert len(found) == 48
    for network in scaling.GPU_THROUGHPUT:
        alone = [found[f"efficiency: {network}: {gpus} GPUs"] for gpus in scaling.GPU_COUNTS]
        beside = [found[f"efficiency: {network}: {gpus}, overlapped"] for gpus in scaling.GPU_COUNTS]
        assert 100 > alone[0] > alone[1] > alone[2] > 90
        assert all(better >= worse for better, worse in zip(beside, alone))
