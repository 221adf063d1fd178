"""Benchmark from the CSV to a trained and evaluated classifier, next to programs that a user would write instead.

Every candidate trains the same network with the same optimizer, batch size and number of epochs, in float32, saves the
weights of the best epoch on the validation split, and evaluates on that split. Each runs in processes of its own: fer
as its programs convert, train and evaluate, the others as the programs of `fer.benchmark.baseline_runners`. Those
augment with rotation, shift, zoom and flip, or (KerasCV) with flip, RandAugment and MixUp; fer augments with all of
these.
"""

from __future__ import annotations

import functools
import os
import statistics
import tempfile
from collections.abc import Mapping, Sequence

from fer import progress
from fer.benchmark import candidates
from fer.benchmark.baseline_runners import runner
from fer.benchmark.candidates import Candidate, Turn
from fer.benchmark.harness import Result, run_interleaved
from fer.errors import UserError
from fer.io import temp_files
from fer.synthetic import synthetic

SUITE = "end_to_end"
NETWORKS = ("compact_s", "mobilenet")
ROWS = 35_887  # as in FER-2013
EPOCHS, BATCH_SIZE = 2, 128
ROUNDS = 2  # each turn takes minutes on two cores

UNITS = {"total": "s", "read": "s", "train": "s", "evaluate": "s", "cpu": "s", "memory": "MiB", "accuracy": "%"}


def measure(
    csv: str | None = None,
    torch_python: str | None = None,
    rows: int = ROWS,
    networks: Sequence[str] = NETWORKS,
    rounds: int = ROUNDS,
) -> list[Result]:
    """Measures images/s from the CSV to the evaluation, and the figures of `Turn`.

    Args:
      csv: a file in the format of fer2013.csv; by default `rows` drawn faces.
      torch_python: path of a Python that has PyTorch; by default this one, and PyTorch is left out if it is missing.
      rows: number of drawn faces.
      networks: names of models, each of which every candidate trains.
      rounds: repetitions of each candidate.

    Raises:
      UserError: the file does not have this format, `torch_python` lacks PyTorch, a program fails, or two candidates
        have networks of different sizes.
    """
    found = candidates.find_candidates(torch_python)
    results = []
    with temp_files.folder("benchmark") as folder:
        if csv is None:
            csv = os.path.join(folder, "faces.csv")
            with progress.stage(f"{SUITE}: drawing {rows:,} synthetic faces"):
                synthetic.write_csv(csv, rows, seed=0)
        images = EPOCHS * candidates.count_training_rows(csv)
        for network in networks:
            task = runner.Task(csv, network, EPOCHS, BATCH_SIZE)
            results += measure_network(task, found, images, rounds, folder)
    return results


def measure_network(
    task: runner.Task, found: Mapping[str, Candidate], images: int, rounds: int, folder: str
) -> list[Result]:
    """Measures the candidates in turns.

    Args:
      task: the work of each.
      found: the candidates by name, as `find_candidates` returns them.
      images: number of images of the training, over all epochs.
      rounds: repetitions of each candidate.
      folder: an existing folder for files.

    Returns:
      Throughput with the ratio to Keras' ImageDataGenerator, and of fer to the others, and the figures of `Turn`.
    """
    turns: dict[str, list[Turn]] = {f"{task.network}, {name}": [] for name in found}

    def work(name: str, candidate: Candidate) -> int:
        turn = candidate(task, tempfile.mkdtemp(dir=folder))
        turns[name].append(turn)
        sizes = {each.parameters for done in turns.values() for each in done}
        if len(sizes) > 1:
            raise UserError(f"{name} has another network than the others: {sorted(sizes)} parameters.")
        return images

    works = {
        f"{task.network}, {name}": functools.partial(work, f"{task.network}, {name}", candidate)
        for name, candidate in found.items()
    }
    first, baseline, *others = works
    pairs = [(first, other) for other in others]
    results = run_interleaved(SUITE, "images/s", works, baseline, rounds, pairs)
    for name, done in turns.items():
        for figure, unit in UNITS.items():
            values = [getattr(turn, figure) for turn in done]
            low, middle, high = (round(value, 1) for value in (min(values), statistics.median(values), max(values)))
            results.append(Result(SUITE, f"{name}, {figure}", middle, unit, low, high))
    return results
