"""Checks the choice of the strategy, and that invalid settings raise user errors before the workers connect."""

import ctypes
import importlib.metadata
import types

import pytest
import tensorflow as tf

import fer
from fer.config import Train
from fer.errors import UserError
from fer.train.distributed.cluster_resolver import Cluster
from fer.train.distributed.strategy import check_deterministic_jit, make_mirrored, make_strategy

TWO = Cluster(("a:1", "b:1"), 0)


@pytest.mark.parametrize(
    ("name", "train", "workers", "kind"),
    [
        ("auto", Train(), None, tf.distribute.OneDeviceStrategy),
        ("auto", Train(num_replicas=2), None, tf.distribute.MirroredStrategy),
        ("auto", Train(), Cluster(("a:1",), 0), tf.distribute.OneDeviceStrategy),
        ("one", Train(), TWO, tf.distribute.OneDeviceStrategy),
        ("mirrored", Train(num_replicas=2), TWO, tf.distribute.MirroredStrategy),
    ],
)
def test_make_strategy_chooses_by_workers_then_replicas_unless_named(name, train, workers, kind):
    chosen = make_strategy(name, train, workers)
    assert type(chosen) is kind
    assert chosen.num_replicas_in_sync == (train.num_replicas or 1)


@pytest.mark.parametrize(
    ("train", "workers", "message"),
    [
        (Train(), None, "needs to know the workers: give --workers"),
        (
            Train(num_replicas=3),
            TWO,
            "replicas is 3, over 2 workers with 1 CPU each; 0 uses all, .* multiple of 2 up to 2",
        ),
        (Train(num_replicas=4), TWO, "replicas is 4, over 2 workers"),
        (Train(global_batch_size=15), TWO, "15, which 2 replicas cannot share evenly; choose 14"),
    ],
)
def test_make_strategy_rejects_invalid_numbers_of_workers(train, workers, message):
    with pytest.raises(UserError, match=message):
        make_strategy("multi_worker", train, workers)


@pytest.mark.parametrize(
    ("name", "train", "message"),
    [
        ("one", Train(num_replicas=2), "replicas is 2, but --strategy=one uses a single device"),
        (
            "one",
            Train(gradient_accumulation_steps=3),
            "accumulation_steps is 3, but a replica's 128 examples .* equal parts; choose 2",
        ),
        ("one", Train(gradient_accumulation_steps=200), "accumulation_steps is 200, .*; choose 128"),
        (
            "mirrored",
            Train(num_replicas=2, global_batch_size=12, gradient_accumulation_steps=4),
            "a replica's 6 examples .*; choose 3",
        ),
    ],
)
def test_make_strategy_rejects_settings_that_do_not_divide_batch(name, train, message):
    with pytest.raises(UserError, match=message):
        make_strategy(name, train)


def test_make_strategy_rejects_more_replicas_than_cpu_devices_of_started_tensorflow():
    started = len(tf.config.list_logical_devices("CPU"))
    with pytest.raises(UserError, match=rf"has started in this process with {started}: start the run in a new process"):
        make_strategy("mirrored", Train(num_replicas=started + 1))


def test_strategies_of_one_process_use_separate_collectives():
    """With shared collectives, a sum of another shape would abort this strategy and all later ones of the process."""
    for size in (3, 5):
        strategy = make_mirrored(["CPU:0", "CPU:1"])

        @tf.function
        def total(strategy=strategy, size=size):
            def of_replica():
                context = tf.distribute.get_replica_context()
                return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.ones([size]))

            return strategy.experimental_local_results(strategy.run(of_replica))

        assert [each.numpy().tolist() for each in total()] == [[2.0] * size] * 2


def test_check_deterministic_jit_rejects_max_pooling_on_gpu(monkeypatch):
    with_pooling = tf.keras.Sequential([tf.keras.layers.MaxPooling2D(name="pool")])
    compiled = Train(jit_compile=True, deterministic=True)
    check_deterministic_jit(with_pooling, compiled)  # allowed on a CPU
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: ["one"])
    for allowed in (Train(jit_compile=True, deterministic=False), Train(deterministic=True)):
        check_deterministic_jit(with_pooling, allowed)
    check_deterministic_jit(tf.keras.Sequential([tf.keras.layers.ReLU()]), compiled)
    with pytest.raises(UserError, match=r"max-pooling \(layer pool\).*set config\.train\.jit_compile=false, or"):
        check_deterministic_jit(with_pooling, compiled)


def install_cudnn(monkeypatch, package=None, library=None, keras="tf-keras"):
    """Makes this process have a GPU, another lane, and cuDNN as a package (its version) or a library (its number)."""

    def version(name):
        if name == "nvidia-cudnn-cu12" and package:
            return package
        raise importlib.metadata.PackageNotFoundError(name)

    def load(name):
        if name == "libcudnn.so.9" and library:
            return types.SimpleNamespace(cudnnGetVersion=lambda: library)
        raise OSError(name)

    monkeypatch.setattr(fer, "KERAS", keras)
    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(ctypes, "CDLL", load)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])


@pytest.mark.parametrize(
    ("installed", "version"), [({"package": "9.3.0.75"}, "9.3.0.75"), ({"library": 91900}, "9.19.0")]
)
def test_make_strategy_warns_of_old_cudnn(monkeypatch, capsys, installed, version):
    install_cudnn(monkeypatch, **installed)
    make_strategy("one", Train())
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"Warning: cuDNN {version} is installed, and TensorFlow 2.21 needs 9.24 or later")
    assert line.endswith(" -m pip install 'nvidia-cudnn-cu12>=9.24,<10'.")


@pytest.mark.parametrize(
    "installed",
    [{"package": "9.24.0.43"}, {"package": "10.0"}, {"library": 92400}, {}, {"package": "8.9.4.25", "keras": "keras"}],
)
def test_make_strategy_is_silent_when_cudnn_is_new_or_absent(monkeypatch, capsys, installed):
    install_cudnn(monkeypatch, **installed)
    make_strategy("one", Train())
    assert capsys.readouterr().out == ""
