"""The scaling suite compares replicas at one global batch, and reckons what an all-reduce sends."""

import numpy as np
import pytest

from fer.benchmark import scaling
from tests.train import factories


@pytest.mark.parametrize("replicas", [1, 2, 3, 8])
def test_the_bytes_are_those_of_a_ring_played_by_hand(replicas):
    """Each replica sends one of n parts in each of n - 1 steps of adding and n - 1 of handing on."""
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
def test_one_and_two_replicas_are_measured_in_turn(monkeypatch, trained):
    """Tracing and compiling the two steps is most of the time that this takes."""
    if not trained:
        monkeypatch.setattr(scaling, "_turn", lambda *_: lambda: factories.BATCH)
    settings = factories.experiment(deterministic=False)
    settings.model.name = "tiny"
    one, two, server, servers = scaling.overhead("small", settings, steps=1, rounds=2)
    assert (one.baseline, two.baseline) == (None, one.name)
    assert min(one.value, two.value) > 0
    assert (server.unit, server.low, server.high) == ("MB/step", server.value, server.value)
    assert servers.value / server.value == pytest.approx((31 / 32) / (7 / 8), rel=0.01)
