"""Compares evaluations, published ones too: python scripts/compare.py --evals=A/eval.json,B/eval.json --output=DIR."""

from absl import flags

from fer import cli
from fer.evaluation import comparison, comparison_report

EVALS = flags.DEFINE_list(
    "evals", None, "eval.json files that scripts/evaluate.py wrote, comma-separated.", required=True
)
OUTPUT = flags.DEFINE_string("output", None, "Folder of comparison.json, .md, .html and .png.", required=True)


def main() -> None:
    found = comparison.compare(EVALS.value)
    paths = comparison_report.write(found, OUTPUT.value)
    for run in found["runs"]:
        low, high = (100 * bound for bound in run["accuracy_ci95"])
        print(f"{run['method']}: {100 * run['accuracy']:.2f} % (95 %: {low:.2f} to {high:.2f}) on {run['split']}")
    for pair in found["pairs"]:
        print(pair.get("sentence") or f"{pair['first']} and {pair['second']}: {pair['not_compared']}.")
    for path in paths:
        print(f"wrote {path}")


if __name__ == "__main__":
    cli.run(main)
