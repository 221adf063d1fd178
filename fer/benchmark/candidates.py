"""Candidates of the suite `end_to_end`: fer as its three programs, and the programs of `baseline_runners`."""

from __future__ import annotations

import functools
import os
import pathlib
import shlex
import subprocess
import sys
from collections.abc import Callable
from typing import NamedTuple

from fer import storage
from fer.benchmark import process_usage
from fer.benchmark.baseline_runners import runner
from fer.errors import UserError, command_line, install_command
from fer.io import files
from fer.run_dir import RunDir

MEMORY_INTERVAL_S = 0.5  # a sample of the memory stops the program for some milliseconds

FER, BASELINE, TORCH = "fer", "Keras, ImageDataGenerator", "PyTorch, torchvision"
PROGRAMS = {  # candidate -> program of baseline_runners
    BASELINE: "keras_generator.py",
    "Keras, tf.data and KerasCV": "keras_cv_layers.py",
    TORCH: "torch_loader.py",
}
TORCH_IMPORTS = "import torch, torchvision, pandas, sklearn"
PROGRAM_FOLDER = pathlib.Path(runner.__file__).parent

# Defaults that the other programs lack are off, and the augmentation is that of all of them.
SETTINGS = {
    "augment.policy": f"flip|affine(rotate={runner.ROTATION},scale={runner.SCALE},shift={runner.SHIFT})"
    f"|randaugment(layers=2,magnitude=9)|mixup(alpha={runner.MIXUP_ALPHA})",
    "model.image_size": runner.SIDE,
    "model.stem_channels": "sum",  # one, as of the images
    "model.dropout": 0.0,
    "optimizer.name": "adamw",  # Adam, because the weight decay is 0
    "optimizer.learning_rate": runner.LEARNING_RATE,
    "optimizer.schedule": "constant",
    "optimizer.warmup_epochs": 0.0,
    "optimizer.weight_decay": 0.0,
    "train.label_smoothing": 0.0,
    "train.ema_decay": 0.0,
    "train.precision": "float32",
}


class Turn(NamedTuple):
    """Figures of one repetition of one candidate."""

    total: float  # seconds
    read: float  # seconds of this and the next two stages, which include the start of their processes
    train: float
    evaluate: float
    cpu: float  # seconds
    memory: float  # peak, MiB
    accuracy: float  # on the validation split, percent
    parameters: int


Candidate = Callable[[runner.Task, str], Turn]  # (work, new folder for files)


def find_candidates(torch_python: str | None) -> dict[str, Candidate]:
    """Returns the candidates by name; without PyTorch, and with a printed line, if this Python lacks it.

    Args:
      torch_python: path of a Python that has PyTorch; None for this one.

    Raises:
      UserError: `torch_python` is no Python, or lacks PyTorch.
    """
    found: dict[str, Candidate] = {FER: run_fer}
    for name, program in PROGRAMS.items():
        python = torch_python if torch_python and name == TORCH else sys.executable
        found[name] = functools.partial(run_program, python, program)
    if torch_python:
        _check_torch_python(torch_python)
    elif _fails_to_import_torch(sys.executable):
        print(f"torch or torchvision is not installed and PyTorch is not measured: {install_command('bench')}.")
        del found[TORCH]
    return found


def check_inputs(csv: str | None, torch_python: str | None) -> None:
    """Checks the inputs of the suite that are given, without TensorFlow.

    Raises:
      UserError: as `count_training_rows` and `find_candidates`.
    """
    if csv:
        files.check_readable(csv)
        count_training_rows(csv)
    if torch_python:
        _check_torch_python(torch_python)


def _check_torch_python(python: str) -> None:
    try:
        fails = _fails_to_import_torch(python)
    except OSError as error:
        raise UserError(f"Cannot start --torch_python={python}: {error.strerror}.") from error
    if fails:
        raise UserError(f"--torch_python={python} lacks pandas, scikit-learn, torch or torchvision.")


def _fails_to_import_torch(python: str) -> bool:
    return subprocess.run([python, "-c", TORCH_IMPORTS], capture_output=True, check=False).returncode != 0


def count_training_rows(csv: str) -> int:
    """Counts the training rows of a file in the format of fer2013.csv.

    Raises:
      UserError: it cannot be read, or lacks a column, training rows or validation rows.
    """
    try:
        import pandas as pd  # takes a third of a second

        if storage.is_remote(csv):
            raise ValueError("it is not on a local disk")
        usages = pd.read_csv(csv, usecols=["emotion", "pixels", "Usage"])["Usage"].value_counts()
        if not {"Training", "PublicTest"} <= set(usages.index):
            raise ValueError("Usage has no row Training or no row PublicTest")
    except (OSError, ValueError) as error:
        reason = files.error_message(error)
        raise UserError(f"Cannot use {csv}: {reason}. The suite end_to_end needs a file like fer2013.csv.") from error
    return int(usages["Training"])


def run_fer(task: runner.Task, folder: str) -> Turn:
    """Converts, trains and evaluates with the programs of fer."""
    data, run = os.path.join(folder, "shards"), RunDir(os.path.join(folder, "run"))
    settings = {
        **SETTINGS,
        "model.name": task.network,
        "train.epochs": task.epochs,
        "train.global_batch_size": task.batch_size,
    }
    fields = {f"config.{field}": str(value) for field, value in settings.items()}
    commands = [
        command_line("convert", input=task.csv, output=data),
        command_line("train", config="compact", data=data, workdir=run.path, **fields),
        command_line("evaluate", workdir=run.path, data=data),
    ]
    stages = [process_usage.run(shlex.split(command), interval_s=MEMORY_INTERVAL_S) for command in commands]
    read, train, evaluate = (stage.seconds for stage in stages)
    cpu, memory = sum(stage.cpu_seconds for stage in stages), max(stage.peak_mib for stage in stages)
    content = files.read_json(run.eval_file, "the evaluation")
    total, accuracy = read + train + evaluate, 100 * content["accuracy"]
    return Turn(total, read, train, evaluate, cpu, memory, accuracy, content["parameters"])


def run_program(python: str, program: str, task: runner.Task, folder: str) -> Turn:
    """Runs a program of `baseline_runners`; the stage `read` is all of its time but training and evaluation.

    Args:
      python: path of the Python that runs it.
      program: name of its file.
      task: the work.
      folder: an existing folder for its files.
    """
    environment = dict(os.environ)
    if python != sys.executable:  # the variables PYTHON* would make another Python import our modules
        environment = {name: value for name, value in environment.items() if not name.startswith("PYTHON")}
    report = os.path.join(folder, "report.json")
    arguments = [str(PROGRAM_FOLDER / program), report, os.path.join(folder, "best"), *map(str, task)]
    usage = process_usage.run([python, *arguments], environment, MEMORY_INTERVAL_S)
    content = files.read_json(report, "the report of the program")
    train, evaluate = content["train_s"], content["evaluate_s"]
    read, accuracy = usage.seconds - train - evaluate, 100 * content["accuracy"]
    cpu, memory = usage.cpu_seconds, usage.peak_mib
    return Turn(usage.seconds, read, train, evaluate, cpu, memory, accuracy, content["parameters"])
