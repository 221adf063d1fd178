"""Trains one experiment: python scripts/train.py --config=configs/compact.py --data=DIR --workdir=DIR."""

from absl import flags
from ml_collections import config_flags

from fer import cli, config
from fer.train import devices, loop

CONFIG = config_flags.DEFINE_config_file("config", help_string="An experiment: see configs/.")
DATA = flags.DEFINE_string("data", None, "Folder of shards that scripts/convert.py wrote.", required=True)
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; the same command resumes it.", required=True)
STRATEGY = flags.DEFINE_enum("strategy", "auto", devices.STRATEGIES, "Where it runs.")
flags.mark_flag_as_required("config")


def main() -> None:
    experiment = config.checked(CONFIG.value)
    loop.train(experiment, data=DATA.value, workdir=WORKDIR.value, strategy=STRATEGY.value)


if __name__ == "__main__":
    cli.run(main)
