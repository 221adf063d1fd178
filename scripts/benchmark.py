"""Measures the parts beside their rivals: python scripts/benchmark.py --suite=all --output=runs/benchmark.json.

With --fill=docs/performance.md it measures nothing: it puts the figures of --output into that document.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from absl import flags

from fer import cli, log_suppression
from fer.augment import grammar
from fer.benchmark import fill_docs
from fer.io import files

if TYPE_CHECKING:
    from fer.benchmark import harness

# Modules of fer.benchmark, each imported only if it is asked for: they load rivals that others do not need.
SUITES = [
    "scaling",  # first: it divides the CPU into logical devices, which must be done before TensorFlow starts
    "augment",
    "convert",
    "input",
    "train",
]

SUITE = flags.DEFINE_enum("suite", "all", [*SUITES, "all"], "What to measure.")
POLICY = flags.DEFINE_string("policy", None, "What the suite augment measures beside RandAugment.")
OUTPUT = flags.DEFINE_string("output", "runs/benchmark.json", "Where the figures go, and beside them a plot.")
FILL = flags.DEFINE_string("fill", None, "A document whose figures are set to those of --output; nothing is measured.")


def measure(suite: str) -> list[harness.Result]:
    told = {"text": POLICY.value} if suite == "augment" and POLICY.value else {}
    return importlib.import_module(f"fer.benchmark.{suite}").measure(**told)


def main() -> None:
    if FILL.value:
        fill_docs.fill(FILL.value, OUTPUT.value)
        print(f"wrote {FILL.value}")
        return
    files.check_writable(OUTPUT.value)
    if POLICY.value:
        grammar.parse(POLICY.value)
    log_suppression.import_tensorflow(whole=True)
    from fer.benchmark import harness

    measured: list[harness.Result] = []
    for name in SUITES if SUITE.value == "all" else [SUITE.value]:
        print(f"Measuring the suite {name}: some minutes ...", flush=True)
        found = measure(name)
        print(harness.table(found), flush=True)
        measured += found
        paths = harness.write(OUTPUT.value, measured)  # after each suite: a later one may fail
    for path in paths:
        print(f"wrote {path}")


if __name__ == "__main__":
    cli.run(main)
