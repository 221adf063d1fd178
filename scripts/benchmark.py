"""Measures the parts beside their rivals: python scripts/benchmark.py --suite=all --output=runs/benchmark.json."""

from absl import flags

from fer import cli
from fer.benchmark import convert, results

SUITES = {"convert": convert.measure}

SUITE = flags.DEFINE_enum("suite", "all", [*SUITES, "all"], "What to measure.")
OUTPUT = flags.DEFINE_string("output", "runs/benchmark.json", "Where the figures go, and beside them a plot.")


def main() -> None:
    chosen = list(SUITES) if SUITE.value == "all" else [SUITE.value]
    measured = [result for name in chosen for result in SUITES[name]()]
    print(results.table(measured))
    for path in results.write(OUTPUT.value, measured):
        print(f"wrote {path}")


if __name__ == "__main__":
    cli.run(main)
