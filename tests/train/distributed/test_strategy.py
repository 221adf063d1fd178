"""Devices are chosen by what there is, and what cannot be is a sentence before anything is waited for."""

import pytest
import tensorflow as tf

from fer.config import Train
from fer.errors import UserError
from fer.train.distributed.cluster_resolver import Cluster
from fer.train.distributed.strategy import check_deterministic_jit, make_mirrored, make_strategy

TWO = Cluster(("a:1", "b:1"), 0)


@pytest.mark.parametrize(
    ("name", "train", "workers", "kind"),
    [
        ("auto", Train(), None, tf.distribute.OneDeviceStrategy),
        ("auto", Train(replicas=2), None, tf.distribute.MirroredStrategy),
        ("auto", Train(), Cluster(("a:1",), 0), tf.distribute.OneDeviceStrategy),
        ("one", Train(), TWO, tf.distribute.OneDeviceStrategy),
        ("mirrored", Train(replicas=2), TWO, tf.distribute.MirroredStrategy),
    ],
)
def test_auto_goes_by_workers_then_by_replicas_and_a_name_is_obeyed(name, train, workers, kind):
    chosen = make_strategy(name, train, workers)
    assert type(chosen) is kind
    assert chosen.num_replicas_in_sync == (train.replicas or 1)


@pytest.mark.parametrize(
    ("train", "workers", "said"),
    [
        (Train(), None, "needs to know the workers: give --workers"),
        (Train(replicas=3), TWO, "replicas is 3, over 2 workers with 1 CPU each; 0 uses all, .* multiple of 2 up to 2"),
        (Train(replicas=4), TWO, "replicas is 4, over 2 workers"),
        (Train(global_batch=15), TWO, "15, which 2 replicas cannot share evenly; choose 14"),
    ],
)
def test_workers_that_cannot_be_are_a_sentence(train, workers, said):
    with pytest.raises(UserError, match=said):
        make_strategy("multi_worker", train, workers)


@pytest.mark.parametrize(
    ("name", "train", "said"),
    [
        ("one", Train(replicas=2), "replicas is 2, but --strategy=one uses a single device"),
        ("one", Train(accumulation=3), "accumulation is 3, but a replica's 128 examples .* equal parts; choose 2"),
        ("one", Train(accumulation=200), "accumulation is 200, .*; choose 128"),
        ("mirrored", Train(replicas=2, global_batch=12, accumulation=4), "a replica's 6 examples .*; choose 3"),
    ],
)
def test_what_a_batch_cannot_be_divided_into_is_a_sentence(name, train, said):
    with pytest.raises(UserError, match=said):
        make_strategy(name, train)


def test_strategies_of_one_process_keep_their_collectives_apart():
    """Taken for one, the second would abort at a sum of another shape, and every strategy of the process after it."""
    for size in (3, 5):
        strategy = make_mirrored(["CPU:0", "CPU:1"])

        @tf.function
        def total(strategy=strategy, size=size):
            def of_replica():
                context = tf.distribute.get_replica_context()
                return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.ones([size]))

            return strategy.experimental_local_results(strategy.run(of_replica))

        assert [each.numpy().tolist() for each in total()] == [[2.0] * size] * 2


def test_max_pooling_that_xla_cannot_repeat_on_a_gpu_is_a_sentence(monkeypatch):
    pooled = tf.keras.Sequential([tf.keras.layers.MaxPooling2D(name="pool")])
    compiled = Train(jit_compile=True, deterministic=True)
    check_deterministic_jit(pooled, compiled)  # on a CPU it can
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: ["one"])
    for allowed in (Train(jit_compile=True, deterministic=False), Train(deterministic=True)):
        check_deterministic_jit(pooled, allowed)
    check_deterministic_jit(tf.keras.Sequential([tf.keras.layers.ReLU()]), compiled)
    with pytest.raises(UserError, match=r"max-pooling \(layer pool\).*set config\.train\.jit_compile=false, or"):
        check_deterministic_jit(pooled, compiled)
