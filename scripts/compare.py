"""Compares evaluations and published results: python scripts/compare.py --evals=A/eval.json,B/eval.json --output=DIR.

With --baselines --data=DIR it also installs packages of other authors in separate environments and evaluates them on
the same images.
"""

import os

from absl import flags

from fer import cli, config, log_suppression
from fer.compare import baselines
from fer.data import manifest
from fer.errors import UserError
from fer.io import files

EVALS = cli.define_paths("evals", "eval.json files that scripts/evaluate.py wrote, comma-separated.")
OUTPUT = flags.DEFINE_string("output", None, "Directory of comparison.json, .md, .html and .png.")
BASELINES = cli.define_optional(
    "baselines",
    "true",
    f"Evaluates {' and '.join(baselines.DEFAULT)} too, each in its own environment, which pip creates in "
    f"~/.cache/fer/baselines. --baselines={baselines.ALL} adds the packages that need PyTorch (gigabytes if pip finds "
    f"no build for CPUs). --baselines=NAMES chooses, comma-separated, from {', '.join(baselines.BASELINES)}.",
)
DATA = flags.DEFINE_string("data", None, "With --baselines: directory of the shards of the evaluations.")
SPLIT = flags.DEFINE_enum("split", "validation", config.SPLITS, "With --baselines: split of the evaluations.")
cli.require("output")


def main() -> None:
    chosen = baselines.parse_baselines(BASELINES.value or "false")
    if chosen and not DATA.value:
        raise UserError("--baselines needs --data: the directory of the shards of the evaluations.")
    if not chosen:
        cli.reject_flags("needs --baselines", "data", "split")
    files.check_writable(os.path.join(OUTPUT.value, "comparison.json"))
    for path in EVALS.value:
        files.read_json(path, "the evaluation")
    if chosen:
        manifest.check_manifest(DATA.value)
        log_suppression.import_tensorflow()
    from fer.compare import comparison, comparison_report

    found = comparison.compare(EVALS.value)  # reports a wrong file before baselines are installed
    if chosen:
        comparison.check_baselines(EVALS.value, DATA.value, SPLIT.value)
        measured = baselines.measure(chosen, DATA.value, SPLIT.value, progress=lambda text: print(text, flush=True))
        found = comparison.compare(EVALS.value, measured)
    paths = comparison_report.write(found, OUTPUT.value)
    for result in [*found["runs"], *found["baselines"]]:
        print(comparison_report.summary_line(result))
    for pair in found["pairs"]:
        print(pair.get("sentence") or f"{pair['first']} and {pair['second']}: {pair['not_compared']}.")
    for path in paths:
        print(f"wrote {path}")


if __name__ == "__main__":
    cli.run(main)
