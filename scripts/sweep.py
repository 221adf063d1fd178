"""Tries many settings: python scripts/sweep.py --config=FILE --data=DIR --output=DIR --grid='seed=0,1,2'.

The same command, in as many processes or on as many machines as there are, shares one study; a killed one goes on.
"""

import importlib.util

from absl import flags
from ml_collections import config_flags

from fer import cli, config, log_suppression
from fer.data import manifest
from fer.errors import UserError, install_command
from fer.sweep import search_space

PRUNING = ("auto", "median", "none")
STRATEGIES = [name for name in config.STRATEGIES if name != "multi_worker"]
CONFIG = config_flags.DEFINE_config_file("config", help_string="The experiment that is varied: see configs/.")
DATA = flags.DEFINE_string("data", None, "Folder of shards that scripts/convert.py wrote.")
OUTPUT = flags.DEFINE_string("output", None, "Folder of the trials' run folders and of the report.")
GRID = flags.DEFINE_string("grid", None, "Every combination: 'seed=0,1,2; model.dropout=0.2,0.4'.")
CHANGES = flags.DEFINE_string(
    "changes",
    None,
    "Each alone against the config: 'augment.policy=none,flip; train.ema_decay=0'; with --grid of seeds.",
)
SPACE = flags.DEFINE_string(
    "space",
    None,
    "What is searched: 'optimizer.learning_rate=log(0.01,1); optimizer.name=choice(a,b)'; uniform(a,b[,step]).",
)
ALSO = flags.DEFINE_list("also", [], "Folders of other sweeps over seeds; each is one change more in the report.")
TRIALS = flags.DEFINE_integer("trials", 20, "Trials of --space, over all processes; a grid has its points.", 1)
STORAGE = flags.DEFINE_string("storage", "", "Of the study: journal:PATH or sqlite:///PATH (default: in --output).")
PRUNE = flags.DEFINE_enum("pruning", "auto", PRUNING, "Gives trials up that are below the median; auto: of --space.")
PRUNE_AFTER = flags.DEFINE_integer("prune_after", 3, "Epochs that every trial may train.", lower_bound=0)
SEED = flags.DEFINE_integer("seed", 0, "Of the search. The runs' own is config.seed.", lower_bound=0)
STRATEGY = flags.DEFINE_enum("strategy", "auto", STRATEGIES, "Where each trial runs: on this machine.")
cli.require("config", "data", "output")


def main() -> None:
    if importlib.util.find_spec("optuna") is None:
        raise UserError(f"Sweeps need Optuna: install the extra sweep ({install_command('sweep')}).")
    if bool(GRID.value or CHANGES.value) == bool(SPACE.value):
        raise UserError(
            "Give one of --grid='seed=0,1,2' (and --changes='train.ema_decay=0') and "
            "--space='model.dropout=uniform(0.1,0.5)', and not both."
        )
    if ALSO.value and not CHANGES.value:
        raise UserError("--also adds to what --changes compares; give those too.")
    base = config.validate_config(CONFIG.value)
    found = search_space.search(SPACE.value, base) if SPACE.value else {}
    if GRID.value:
        found = search_space.grid(GRID.value, base)
    changes = search_space.changes(CHANGES.value, base, found) if CHANGES.value else None
    manifest.check_manifest(DATA.value)
    log_suppression.import_tensorflow()
    from fer.sweep import runner
    from fer.sweep.optuna_study import Plan, of_grid

    plan = Plan(found, False, TRIALS.value, SEED.value) if SPACE.value else of_grid(found, changes)
    asked = runner.Sweep(
        base=base,
        plan=plan,
        data=DATA.value,
        output=OUTPUT.value,
        storage=STORAGE.value,
        pruning=PRUNE.value,
        prune_after=PRUNE_AFTER.value,
        strategy=STRATEGY.value,
        also=tuple(ALSO.value),
    )
    for path in runner.run(asked):
        print(f"wrote {path}")


if __name__ == "__main__":
    cli.run(main)
