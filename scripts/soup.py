"""Averages the weights of runs into one network: python scripts/soup.py --workdir=A,B --data=DIR --output=DIR.

A greedy model soup: adds runs in descending validation accuracy while the mean does not get worse. The runs need the
same architecture and should start from the same weights. The result is a run directory, for evaluation, export and
--init_from.
"""

from absl import flags

from fer import cli, config, log_suppression
from fer.data import manifest
from fer.errors import UserError
from fer.models import loading
from fer.progress import ImageProgress
from fer.run_dir import RunDir

WORKDIR = cli.define_paths("workdir", "Two or more run directories, comma-separated; `bundled` is the bundled model.")
DATA = flags.DEFINE_string("data", None, "Directory of shards; their validation split selects the runs.")
RECIPE = flags.DEFINE_enum("recipe", "greedy", config.RECIPES, "Selection by accuracy, or all runs.")
OUTPUT = flags.DEFINE_string("output", None, "New run directory.")
cli.require("workdir", "data", "output")


def main() -> None:
    if len(WORKDIR.value) < 2:
        raise UserError("--workdir must name two or more runs, comma-separated.")
    RunDir(OUTPUT.value).check_new()
    for workdir in WORKDIR.value:
        loading.check(workdir)
    manifest.check_manifest(DATA.value)
    log_suppression.import_tensorflow()
    from fer.export import model_soup

    with ImageProgress("evaluating") as progress:
        soup = model_soup.make_soup(WORKDIR.value, DATA.value, OUTPUT.value, RECIPE.value, progress.update)
    print(model_soup.format_table(WORKDIR.value, soup))
    for path in soup.paths:
        print(f"wrote {path}")


if __name__ == "__main__":
    cli.run(main)
