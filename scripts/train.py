"""Trains one experiment: python scripts/train.py --config=configs/compact.py --data=DIR --workdir=DIR.

With --preview=FILE.png it draws images before and after the augmentation of the experiment, and trains nothing.
"""

import os

from absl import flags
from ml_collections import config_flags

from fer import cli, config, log_suppression, run_dir
from fer.augment import grammar
from fer.data import manifest
from fer.models import loading, model_table
from fer.train import mlflow_logging
from fer.train.distributed import cluster_resolver

CONFIG = config_flags.DEFINE_config_file("config", help_string="Config file of the experiment; configs/ has examples.")
DATA = flags.DEFINE_string("data", None, "Directory of shards that scripts/convert.py wrote.")
WORKDIR = flags.DEFINE_string("workdir", None, "Run directory; the same command resumes the run.")
STRATEGY = flags.DEFINE_enum("strategy", "auto", config.STRATEGIES, "Distribution strategy.")
WORKERS = flags.DEFINE_string("workers", None, "host:port of each worker, comma-separated, the chief first.")
WORKER_INDEX = flags.DEFINE_integer("worker_index", None, "Index of this process in --workers, from 0.")
WORKER_PORT = flags.DEFINE_integer(
    "worker_port", cluster_resolver.DEFAULT_PORT, "Port of each worker if Slurm or SageMaker gives only host names."
)
SPOT = flags.DEFINE_boolean("stop_on_spot_interruption", False, "Stops with a checkpoint at EC2's spot notice.")
INIT_FROM = flags.DEFINE_string(
    "init_from", None, "Run, bundle or 'bundled' whose best weights a new run starts from; the optimizer starts anew."
)
MLFLOW = flags.DEFINE_string("mlflow", None, "Tracking URI of MLflow to log the run to, such as sqlite:///mlflow.db.")
STORAGE_TIMEOUT = flags.DEFINE_float("storage_timeout", 600, "Seconds for the last upload to a store.", lower_bound=0)
PREVIEW = flags.DEFINE_string("preview", None, "PNG file to draw augmented images to, instead of training.")
LIST_MODELS = cli.define_optional(
    "list_models", "*", "Prints the values of config.model.name that match a pattern such as *b0*; trains nothing."
)
SHOW_CONFIG = flags.DEFINE_boolean("show_config", False, "Prints every field of the experiment; trains nothing.")
flags.mark_flags_as_mutual_exclusive(["workdir", "preview"])
cli.require("config", unless=["list_models"])
cli.require("data", unless=["list_models", "show_config"])
cli.require("workdir", unless=["list_models", "preview", "show_config"])


def main() -> None:
    if LIST_MODELS.value:
        print("\n".join(model_table.lines(LIST_MODELS.value)))
        return
    experiment = config.validate_config(CONFIG.value)
    model_table.check(experiment.model.name)
    started = run_dir.is_started(WORKDIR.value or "")  # from other weights, perhaps: checked by its record
    loading.check_sources(experiment, weights=not (INIT_FROM.value or started))
    grammar.parse(experiment.augment.policy, experiment.augment.backend)
    if SHOW_CONFIG.value:
        print(config.show(experiment))
        return
    if INIT_FROM.value and not started:
        loading.check_initial_run(INIT_FROM.value)
    workers = cluster_resolver.find_cluster(os.environ, WORKERS.value, WORKER_INDEX.value, WORKER_PORT.value)
    manifest.check_manifest(DATA.value)
    mlflow_logging.check_installed(MLFLOW.value)
    log_suppression.import_tensorflow()
    if PREVIEW.value:
        from fer.train import augmentation_preview

        augmentation_preview.write_preview(experiment, data=DATA.value, path=PREVIEW.value)
        return
    from fer.train import trainer

    chief = workers is None or workers.chief
    with mlflow_logging.log_training(MLFLOW.value if chief else None, WORKDIR.value) as on_epoch:
        options = trainer.RunOptions(on_epoch, None, SPOT.value, INIT_FROM.value or "", STORAGE_TIMEOUT.value)
        trainer.train(experiment, DATA.value, WORKDIR.value, STRATEGY.value, workers, options)
    if chief:
        evaluate = cli.command_line("evaluate", workdir=WORKDIR.value, data=DATA.value, mlflow=MLFLOW.value)
        print(f"To evaluate the run:\n  {evaluate}")


if __name__ == "__main__":
    cli.run(main)
