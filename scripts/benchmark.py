"""Benchmarks each part next to alternatives: python scripts/benchmark.py --suite=all --output=runs/benchmark.json.

With --update_doc=docs/performance.md it measures nothing and fills the results of --output into that document.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from absl import flags

from fer import cli, log_suppression, progress
from fer.augment import grammar
from fer.benchmark import fill_docs, suites
from fer.data import manifest
from fer.io import files

if TYPE_CHECKING:
    from fer.benchmark import harness

SUITE = flags.DEFINE_enum("suite", suites.ALL, [*suites.SUITES, suites.ALL], "Suite to run.")
POLICY = flags.DEFINE_string("policy", None, "Policy that the suite `augment` measures in addition to RandAugment.")
DATA = flags.DEFINE_string("data", None, "Shards whose validation faces `detect` measures in addition to drawn ones.")
INPUT = flags.DEFINE_string("input", None, "CSV like fer2013.csv for the suite `end_to_end`; by default drawn faces.")
TORCH_PYTHON = flags.DEFINE_string("torch_python", None, "Python with PyTorch for the suite `end_to_end`, if another.")
OUTPUT = flags.DEFINE_string("output", "runs/benchmark.json", "JSON file of the results; a plot is written next to it.")
UPDATE_DOC = flags.DEFINE_string("update_doc", None, "Document to fill with the results of --output; no measuring.")
OWN_FLAGS = {  # of suites, by the arguments of their `measure`
    "augment": {"text": POLICY},
    "detect": {"data": DATA},
    "end_to_end": {"csv": INPUT, "torch_python": TORCH_PYTHON},
}


def measure(suite: str) -> list[harness.Result]:
    """Runs a suite, which prints a line before each measurement."""
    options = {name: flag.value for name, flag in OWN_FLAGS.get(suite, {}).items() if flag.value}
    with progress.stage(f"Importing the suite {suite} ..."):
        module = importlib.import_module(f"fer.benchmark.{suite}")
    return module.measure(**options)


def main() -> None:
    if UPDATE_DOC.value:
        cli.reject_flags("has no effect with --update_doc", "suite", "policy", "data", "input", "torch_python")
        fill_docs.fill(UPDATE_DOC.value, OUTPUT.value)
        print(f"wrote {UPDATE_DOC.value}")
        return
    files.check_writable(OUTPUT.value)
    for suite, options in OWN_FLAGS.items():
        if SUITE.value not in (suite, suites.ALL):
            cli.reject_flags(f"needs --suite={suite}", *(flag.name for flag in options.values()))
    if POLICY.value:
        grammar.parse(POLICY.value)
    if DATA.value:
        manifest.check_manifest(DATA.value)
    if INPUT.value or TORCH_PYTHON.value:
        from fer.benchmark import candidates

        candidates.check_inputs(INPUT.value, TORCH_PYTHON.value)  # raises before hours of measuring
    chosen = suites.choose_suites(SUITE.value)
    with progress.stage("Loading TensorFlow ..."):
        log_suppression.import_tensorflow(announce=False, whole=True)
        from fer.benchmark import harness

    results: list[harness.Result] = []
    for name in chosen:
        found = measure(name)
        print(harness.format_table(found), flush=True)
        results += found
        paths = harness.write_results(OUTPUT.value, results)  # after each suite, because a later one may fail
    print(*(f"wrote {path}" for path in paths), sep="\n")


if __name__ == "__main__":
    cli.run(main)
