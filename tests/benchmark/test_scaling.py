"""Tests of fer/benchmark/scaling.py."""

import numpy as np
import pytest

from fer import progress
from fer.benchmark import scaling
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
def test_measure_overhead_compares_one_and_two_replicas(monkeypatch, trained, capsys):
    """Tracing and compiling the two steps takes most of the time."""
    monkeypatch.setattr(progress, "STAGE_INTERVAL_S", 600.0)  # no further lines on a slow machine
    if not trained:
        monkeypatch.setattr(scaling, "_make_turn", lambda *_: lambda: factories.BATCH)
    settings = factories.experiment(deterministic=False)
    settings.model.name = "tiny"
    one, two, server, servers = scaling.measure_overhead("small", settings, steps=1, rounds=2)
    assert (one.baseline, two.baseline) == (None, one.name)
    assert min(one.value, two.value) > 0
    assert (server.unit, server.low, server.high) == ("MB/step", server.value, server.value)
    assert servers.value / server.value == pytest.approx((31 / 32) / (7 / 8), rel=0.01)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "building" in line or "round" in line] == [
        *(f"scaling: building and compiling {each.name}" for each in (one, two)),
        *(f"scaling: round {number} of 2: {each.name}" for number in (1, 2) for each in (one, two)),
    ]
