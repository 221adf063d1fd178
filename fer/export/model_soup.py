"""Model soup: one network whose weights are the mean of those of several runs (Wortsman et al. 2022, arXiv:2203.05482).

The mean of runs that were fine-tuned from the same weights is often better than each of them, at the cost of one
network. The greedy recipe begins with the most accurate run and adds each further one, in descending accuracy, if the
mean is then at least as accurate. Validation selects the runs, so the accuracy there is optimistic; cross-validation
over random halves of the split measures the recipe on examples that did not select. The uniform recipe averages all
runs: for runs that were chosen by something else, such as robustness.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from fer import config
from fer.data.manifest import Manifest, read_manifest
from fer.errors import UserError, join_names
from fer.evaluation import eval_dataset, inference
from fer.evaluation.eval_dataset import EvalDataset
from fer.export import export
from fer.io import temp_files
from fer.io.transaction import publish
from fer.models import loading, weights
from fer.run_dir import BEST_FILE, CONFIG_FILE, SOUP_FILE, RunDir

HALVINGS = 10  # of the split, each of which selects on either half
SEED = 0  # of the halves
# Fields of a model in which the runs may differ.
FREE_FIELDS = ("model.weights", "model.dropout", "model.sync_batch_norm")

Correct = Callable[[tuple[int, ...]], np.ndarray]  # runs -> which examples their mean classifies correctly, [n] bool


class Soup(NamedTuple):
    """Result of `make_soup`; accuracies are on the validation split."""

    members: tuple[int, ...]  # positions of the averaged runs, the most accurate first
    accuracies: tuple[float, ...]  # of each run
    accuracy: float  # of the mean, selected on the same examples
    cross_validated: float  # of the recipe
    cross_validated_best: float  # of selecting the most accurate run
    paths: tuple[str, ...]  # of the written files


def choose_members(correct: Correct, num_runs: int, examples: np.ndarray) -> tuple[int, ...]:
    """Chooses runs by the greedy recipe.

    Args:
      correct: see `Correct`.
      num_runs: number of runs.
      examples: positions of the examples that select.

    Returns:
      The positions of the chosen runs, the most accurate first.
    """

    def accuracy(members: tuple[int, ...]) -> float:
        return float(correct(tuple(sorted(members)))[examples].mean())

    first, *others = sort_members(correct, num_runs, examples)
    chosen: tuple[int, ...] = (first,)
    for run in others:
        if accuracy((*chosen, run)) >= accuracy(chosen):
            chosen = (*chosen, run)
    return chosen


def sort_members(correct: Correct, num_runs: int, examples: np.ndarray) -> tuple[int, ...]:
    """Returns the positions of all runs, the most accurate first; the arguments are those of `choose_members`."""
    return tuple(sorted(range(num_runs), key=lambda run: -float(correct((run,))[examples].mean())))


def cross_validate(correct: Correct, num_examples: int, choose: Callable[[np.ndarray], tuple[int, ...]]) -> float:
    """Returns the accuracy of a selection on the half of the examples that did not select, over random halves.

    Args:
      correct: see `Correct`.
      num_examples: number of examples, at least 2.
      choose: returns the chosen runs for the positions of the examples that select.
    """
    random = np.random.default_rng(SEED)
    hits = 0
    for _ in range(HALVINGS):
        first, second = np.array_split(random.permutation(num_examples), 2)
        for selecting, held_out in ((first, second), (second, first)):
            hits += int(correct(tuple(sorted(choose(selecting))))[held_out].sum())
    return hits / (HALVINGS * num_examples)


def make_soup(
    workdirs: Sequence[str],
    data: str,
    output: str,
    recipe: str = "greedy",
    progress: Callable[[int], None] = lambda count: None,
) -> Soup:
    """Averages the weights of runs and writes the result as a run directory.

    Args:
      workdirs: two or more run directories, or `bundled`, of one architecture.
      data: folder of shards with a labelled validation split.
      output: the new run directory.
      recipe: one of `fer.config.RECIPES`.
      progress: called after each batch with the number of predicted faces; their total is not known before.

    Raises:
      UserError: the runs or the data cannot be read, the runs have different architectures or classes, a run alone is
        more accurate than its means with others, two runs hold the same network, or `output` exists or cannot be
        written.
    """
    RunDir(output).check_new()
    manifest = read_manifest(data)
    dataset = eval_dataset.read(manifest, "validation", "fer")
    runs = [loading.open_run(workdir) for workdir in workdirs]
    _check_different_networks(runs)
    _check_same_architecture(runs)
    loading.check_same_classes(runs[0].workdir, runs[0].classes, manifest.folder, manifest.classes)
    soup, content = _select(runs, dataset, recipe, progress)
    record = {"recipe": recipe, **_record(soup, runs, manifest)}
    return soup._replace(paths=_write([runs[member] for member in soup.members], content, record, output))


def _select(
    runs: Sequence[loading.LoadedRun], dataset: EvalDataset, recipe: str, progress: Callable[[int], None]
) -> tuple[Soup, bytes]:
    """Chooses the runs; returns the soup without paths, and the content of the .npz of the mean.

    Raises:
      UserError: a run alone is more accurate than its means with others.
    """
    arrays = [run.model.get_weights() for run in runs]
    model = export.to_float32(runs[0])  # whatever the precisions of the runs
    predict = inference.make_predict_fn([model])

    @functools.cache
    def correct(members: tuple[int, ...]) -> np.ndarray:
        model.set_weights(_average([arrays[member] for member in members]))
        return predict(dataset.images, progress).argmax(axis=1) == dataset.labels

    choose = functools.partial(choose_members if recipe == "greedy" else sort_members, correct, len(runs))
    num_examples = len(dataset.labels)
    chosen = choose(np.arange(num_examples))
    accuracy = float(correct(tuple(sorted(chosen))).mean())
    if len(chosen) == 1:
        raise UserError(
            f"No mean of these runs is as accurate as {runs[chosen[0]].workdir} alone ({100 * accuracy:.2f} % on "
            "validation), so nothing was written. Average runs that start from the same weights, or all runs with the "
            "recipe uniform."
        )
    soup = Soup(
        members=chosen,
        accuracies=tuple(float(correct((run,)).mean()) for run in range(len(runs))),
        accuracy=accuracy,
        cross_validated=cross_validate(correct, num_examples, choose),
        cross_validated_best=cross_validate(correct, num_examples, lambda examples: choose(examples)[:1]),
        paths=(),
    )
    model.set_weights(_average([arrays[member] for member in sorted(chosen)]))
    return soup, weights.to_bytes(model.weights)


def _check_different_networks(runs: Sequence[loading.LoadedRun]) -> None:
    if len(runs) < 2:
        raise UserError("A model soup needs two or more runs.")
    by_weights: dict[str, str] = {}
    for run in runs:
        if run.weights_sha256 in by_weights:
            raise UserError(f"{by_weights[run.weights_sha256]} and {run.workdir} hold the same network. Name it once.")
        by_weights[run.weights_sha256] = run.workdir


def _check_same_architecture(runs: Sequence[loading.LoadedRun]) -> None:
    first, *others = runs
    for run in runs:
        if run.export:
            raise UserError(f"{run.workdir} is an export, and a model soup needs the weights of runs. Name its run.")
    for run in others:
        changed = config.diff(first.config, run.config)
        faults = [each for each in changed if each.startswith("model.") and each.partition(":")[0] not in FREE_FIELDS]
        if faults:
            raise UserError(
                f"{first.workdir} and {run.workdir} have different architectures ({'; '.join(faults)}). Average runs "
                "of one architecture."
            )
        loading.check_same_classes(first.workdir, first.classes, run.workdir, run.classes)


def _average(networks: Sequence[Sequence[np.ndarray]]) -> list[np.ndarray]:
    """Returns the means of the arrays of several networks, float32."""
    return [np.mean(arrays, axis=0, dtype=np.float64).astype(np.float32) for arrays in zip(*networks)]


def _record(soup: Soup, runs: Sequence[loading.LoadedRun], manifest: Manifest) -> dict[str, Any]:
    """Returns the content of soup.json."""
    return {
        "data": manifest.record(),
        "runs": [
            {"run": run.workdir, "accuracy": accuracy, "averaged": position in soup.members}
            for position, (run, accuracy) in enumerate(zip(runs, soup.accuracies))
        ],
        **{name: getattr(soup, name) for name in ("accuracy", "cross_validated", "cross_validated_best")},
    }


def _write(
    members: Sequence[loading.LoadedRun], content: bytes, record: dict[str, Any], output: str
) -> tuple[str, ...]:
    """Writes the run directory of the mean of `members`; returns the paths of its files.

    Args:
      members: the most accurate first.
      content: of the .npz of the mean.
      record: content of soup.json.
      output: the new run directory.
    """
    first = members[0].workdir
    with temp_files.folder("soup") as folder:
        staged = RunDir(folder)
        staged.write_config_of_average(
            RunDir(loading.bundle_folder() if first == loading.BUNDLED else first),
            [run.as_initial_run() for run in members],
        )
        staged.write_soup(record)
        staged.write_best(content, {"step": members[0].step, "validation_accuracy": record["accuracy"]})
        best = os.path.relpath(staged.read_best().path, folder)
        names = [best, CONFIG_FILE, SOUP_FILE, BEST_FILE]  # best.json comes last, because it makes the folder a run
        return tuple(publish(folder, names, output))


def format_table(workdirs: Sequence[str], soup: Soup) -> str:
    """Formats the accuracies of the runs and of their mean, one a line."""
    width = max(map(len, workdirs))
    lines = [
        f"{workdir:{width}}  {100 * accuracy:.2f} %{'  averaged' if position in soup.members else ''}"
        for position, (workdir, accuracy) in enumerate(zip(workdirs, soup.accuracies))
    ]
    chosen = join_names([workdirs[member] for member in soup.members])
    return "\n".join(
        [
            *lines,
            f"mean of {chosen}: {100 * soup.accuracy:.2f} % on validation",
            f"cross-validated over halves: {100 * soup.cross_validated:.2f} %; best single run "
            f"{100 * soup.cross_validated_best:.2f} %",
        ]
    )
