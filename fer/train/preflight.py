"""Checks of a run before its data are read and its model is built."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from fer import run_dir
from fer.augment import policy
from fer.config import Experiment
from fer.data import manifest
from fer.data.manifest import Manifest
from fer.errors import UserError
from fer.models import loading, precision, registry
from fer.run_dir import RunDir
from fer.train import soft_labels
from fer.train.distributed import multi_worker, replica_sync
from fer.train.distributed.cluster_resolver import Cluster
from fer.train.distributed.strategy import make_strategy


class CheckedRun(NamedTuple):
    """A run whose settings, data, directory and devices fit together."""

    experiment: Experiment  # with the precision that "auto" stands for on these devices
    shards: Manifest  # without the test split
    folder: RunDir
    strategy: tf.distribute.Strategy
    cluster: Cluster | None  # the workers that train together, if there are several


def check_experiment(experiment: Experiment) -> None:
    """Checks all of an experiment that needs no data, devices or model.

    Raises:
      UserError: the augmentation policy or the backbone is unknown, or a file that the run starts from is missing.
    """
    loading.check_sources(experiment)
    policy.parse(experiment.augment.policy, experiment.augment.backend)
    registry.backbone_spec(experiment.model.name)


def check_run(experiment: Experiment, data: str, workdir: str, strategy: str, workers: Cluster | None) -> CheckedRun:
    """Checks a run and creates the strategy of its devices; reads the manifest of the data only. Writes nothing.

    Args:
      experiment: validated.
      data: a folder that scripts/convert.py wrote.
      workdir: the run directory.
      strategy: one of `fer.config.STRATEGIES`.
      workers: the processes that train together, if there are several.

    Raises:
      UserError: the experiment, the data, the run directory or the devices cannot be used; see the functions called.
    """
    check_experiment(experiment)
    experiment = precision.resolve_precision(experiment)
    precision.allow_tensor_float_32(experiment.train)
    shards = manifest.read_manifest(data).seal_test_split()
    manifest.check_sizes(shards)
    folder = run_dir.open_run_dir(workdir, experiment, shards)
    _check_all_labelled(shards)
    soft_labels.check_votes(shards, experiment.train.label_source)
    distribution = make_strategy(strategy, experiment.train, workers)
    replica_sync.check_sync_batch_norm(distribution, experiment)
    cluster = workers if multi_worker.is_multi_worker(distribution) else None
    if workers is not None and len(workers.workers) > 1 and cluster is None:
        raise UserError(
            f"--strategy={strategy} trains on this machine alone, but there are {len(workers.workers)} workers, which "
            f"would all write {workdir}: leave --strategy out, or start one process."
        )
    return CheckedRun(experiment, shards, folder, distribution, cluster)


def _check_all_labelled(shards: Manifest) -> None:
    """Checks that all faces of the train and validation splits have a label.

    Raises:
      UserError: some have none.
    """
    for name in ("train", "validation"):
        split = shards.split(name)
        unlabelled = split.examples - sum(split.class_counts.values())
        if unlabelled > 0:
            raise UserError(
                f"The {name} split of {shards.folder} has {unlabelled:,} faces without a label; convert a source that "
                "labels them all."
            )
