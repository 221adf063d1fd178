"""Benchmark of the conversion: throughput next to a typical script, and peak memory at two input sizes.

Both are whole programs, as a user starts them. Their start counts: a conversion takes about as long as the import of
TensorFlow, which `fer-convert` does without.
"""

from __future__ import annotations

import functools
import os
import pathlib
import shlex
import sys

import numpy as np

from fer import progress
from fer.benchmark import baseline_runners, process_usage
from fer.benchmark.harness import Result, run_interleaved
from fer.errors import command_line
from fer.io import temp_files
from fer.labels import CLASSES, SIDE

FER2013_ROWS = 30_000  # about the size of FER-2013
LARGE_ROWS = 300_000
MEMORY_INTERVAL_S = 1.0  # between samples that no result uses: sampling takes time of the program
BASELINE = "program with pandas, one Example a row"
OURS = "fer-convert"

_BATCH = 2000  # rows generated at a time
_WAVES = 8  # cosines per image in each direction
_USAGES = ("Training",) * 8 + ("PublicTest", "PrivateTest")


def measure() -> list[Result]:
    """Measures throughput in rows/s on a CSV like fer2013.csv, and peak memory at its size and ten times that size."""
    with temp_files.folder("benchmark") as folder:
        csv, large = os.path.join(folder, "faces.csv"), os.path.join(folder, "large.csv")
        _write(csv, FER2013_ROWS)

        def run(name: str) -> int:
            process_usage.run(COMMANDS[name](csv, os.path.join(folder, name)), interval_s=MEMORY_INTERVAL_S)
            return FER2013_ROWS

        candidates = {name: functools.partial(run, name) for name in COMMANDS}
        results = run_interleaved("convert", "rows/s", candidates, baseline=BASELINE)
        _write(large, LARGE_ROWS)
        for path, rows in ((csv, FER2013_ROWS), (large, LARGE_ROWS)):
            with progress.stage(f"convert: peak memory of converting {rows:,} rows"):
                peak = process_usage.run(fer_command(path, os.path.join(folder, f"memory-{rows}"))).peak_mib
            results.append(Result("convert", f"peak memory of all processes, {rows:,} rows", peak, "MiB", peak, peak))
    return results


def fer_command(csv: str, output: str) -> list[str]:
    """Returns the command of a complete conversion: checks, audit, hashes and manifest."""
    return [*shlex.split(command_line("convert", input=csv, output=output)), "--overwrite"]


def pandas_command(csv: str, output: str) -> list[str]:
    """Returns the command of the typical script."""
    program = pathlib.Path(baseline_runners.__file__).with_name("pandas_records.py")
    return [sys.executable, str(program), csv, output]


COMMANDS = {BASELINE: pandas_command, OURS: fer_command}


def _write(path: str, rows: int) -> None:
    with progress.stage(f"convert: writing a CSV file of {rows:,} rows"):
        write_rows(path, rows)


def write_rows(path: str, rows: int, seed: int = 0) -> None:
    """Writes different smooth random images in the format of fer2013.csv; drawing synthetic faces would be too slow."""
    random = np.random.default_rng(seed)
    angles = np.pi * np.arange(_WAVES)[:, None] * (np.arange(SIDE) + 0.5) / SIDE
    waves = np.cos(angles).astype(np.float32)
    digits = np.frombuffer(b"".join(b"%3d " % value for value in range(256)), np.uint8).reshape(256, 4)
    used = digits != ord(" ")
    used[:, 3] = True
    with open(path, "wb") as file:
        file.write(b"emotion,pixels,Usage\n")
        for start in range(0, rows, _BATCH):
            count = min(_BATCH, rows - start)
            heights = random.normal(0, 25, (count, _WAVES, _WAVES)).astype(np.float32)
            images = np.clip(128 + waves.T @ heights @ waves, 0, 255).astype(np.uint8).reshape(count, -1)
            for row, image in enumerate(images, start):
                text = digits[image][used[image]].tobytes()[:-1]
                file.write(b"%d,%s,%s\n" % (row % len(CLASSES), text, _USAGES[row % len(_USAGES)].encode()))
