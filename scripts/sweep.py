"""Trains many variants of a config: python scripts/sweep.py --config=FILE --data=DIR --output=DIR --grid='seed=0,1,2'.

Processes that run the same command, on one or several machines, share the trials. The same command resumes a sweep.
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
CONFIG = config_flags.DEFINE_config_file("config", help_string="Config of the base experiment; configs/ has examples.")
DATA = flags.DEFINE_string("data", None, "Directory of shards that scripts/convert.py wrote.")
OUTPUT = flags.DEFINE_string("output", None, "Directory of the report and of the run directories.")
GRID = flags.DEFINE_string("grid", None, "Trains all combinations of values: 'seed=0,1,2; model.dropout=0.2,0.4'.")
ABLATIONS = flags.DEFINE_string(
    "ablations", None, "Trains each change alone: 'augment.policy=none,flip; train.ema_decay=0'; --grid may add seeds."
)
SPACE = flags.DEFINE_string(
    "space",
    None,
    "Search space: 'optimizer.learning_rate=log(0.01,1); optimizer.name=choice(a,b)'; uniform(a,b[,step]).",
)
EXTRA_RUNS = flags.DEFINE_list("extra_runs", [], "Outputs of sweeps over seeds to report as further ablations.")
TRIALS = flags.DEFINE_integer("trials", 20, "Number of trials of --space in all processes.", 1)
STORAGE = flags.DEFINE_string("storage", "", "Study: journal:PATH or a database URL; default: a journal in --output.")
PRUNE = flags.DEFINE_enum("pruning", "auto", PRUNING, "Pruning below the median; auto: with --space, without seed.")
PRUNE_AFTER = flags.DEFINE_integer("prune_after", 3, "Epochs before pruning may end a trial.", lower_bound=0)
SEED = flags.DEFINE_integer("seed", 0, "Seed of the search; config.seed is the seed of the runs.", lower_bound=0)
STRATEGY = flags.DEFINE_enum("strategy", "auto", STRATEGIES, "Distribution strategy of each trial on this machine.")
cli.require("config", "data", "output")


def main() -> None:
    if importlib.util.find_spec("optuna") is None:
        raise UserError(f"Sweeps need Optuna, which is not installed. Install it with {install_command('sweep')}.")
    if bool(GRID.value or ABLATIONS.value) == bool(SPACE.value):
        raise UserError(
            "Give either --grid='seed=0,1,2', --ablations='train.ema_decay=0' or both, or "
            "--space='model.dropout=uniform(0.1,0.5)'."
        )
    if not ABLATIONS.value:
        cli.reject_flags("needs --ablations: it adds ablations to those of --ablations", "extra_runs")
    if not SPACE.value:
        cli.reject_flags("needs --space", "trials", "seed")
    base = config.validate_config(CONFIG.value)
    found = search_space.parse_space(SPACE.value, base) if SPACE.value else search_space.parse_grid(GRID.value, base)
    changes = search_space.parse_changes(ABLATIONS.value, base, found) if ABLATIONS.value else None
    if reason := search_space.no_pruning_reason(PRUNE.value, found, is_grid=not SPACE.value):
        cli.reject_flags(reason, "prune_after")
    manifest.check_manifest(DATA.value)
    log_suppression.import_tensorflow()
    from fer.sweep import runner
    from fer.sweep.optuna_study import Plan, make_grid_plan

    plan = Plan(found, False, TRIALS.value, SEED.value) if SPACE.value else make_grid_plan(found, changes)
    sweep = runner.Sweep(
        base=base,
        plan=plan,
        data=DATA.value,
        output=OUTPUT.value,
        storage=STORAGE.value,
        pruning=PRUNE.value,
        prune_after=PRUNE_AFTER.value,
        strategy=STRATEGY.value,
        extra_sweeps=tuple(EXTRA_RUNS.value),
    )
    for path in runner.run_sweep(sweep):
        print(f"wrote {path}")


if __name__ == "__main__":
    cli.run(main)
