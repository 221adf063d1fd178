"""Measures baselines: classifiers of other packages on PyPI, with their weights, on the same faces as ours.

Each baseline gets the 48x48 faces of the shards, without its face detector, and preprocesses them as its package does.
If a package cannot be installed or run, the comparison records the reason and continues.

The requirements of the packages conflict with ours, and the package fer has the name of ours. Each set of packages
therefore has a virtual environment of its own, created once in the user's cache folder, whose Python runs the baseline.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from fer.data.manifest import read_manifest
from fer.errors import UserError, join_names
from fer.io import temp_files
from fer.labels import CLASSES

if TYPE_CHECKING:
    from fer.evaluation import eval_dataset
    from fer.evaluation.prediction_files import Predictions

RUNNERS = pathlib.Path(__file__).parent / "baseline_runners"
ALL = "all"
TIMEOUT_S = 3600  # of one step of an environment, such as an installation with its downloads


class BaselineUnavailable(Exception):  # noqa: N818  not an error: the other baselines are measured
    """A baseline cannot be installed or run here. The message is the reason."""


@dataclasses.dataclass(frozen=True)
class Baseline:
    """A classifier, and how to install and run it."""

    method: str  # name in tables
    packages: tuple[str, ...]  # that contain it
    requirements: tuple[str, ...]  # of its runner, and options of pip
    runner: str  # path of a program as `fer.compare.baseline_runners.harness` describes it
    runner_args: tuple[str, ...]
    source: str


@dataclasses.dataclass(frozen=True)
class BaselineResult:
    """Predictions of a baseline, or the reason why there are none."""

    baseline: Baseline
    data: dict[str, Any]  # field data of eval.json
    split: str
    predictions: Predictions | None = None
    images_per_second: float | None = None
    parameters: int | None = None
    failure: str | None = None


_ARRAYS = ("numpy==1.26.4", "opencv-python-headless==4.11.0.86")
# PyTorch's index has builds for the CPU only, a tenth of the size of PyPI's; pip falls back to PyPI.
_TORCH = (
    "numpy==1.26.4",
    "torch==2.13.0; python_version>='3.10'",
    "torch==2.8.0; python_version<'3.10'",
    "--extra-index-url=https://download.pytorch.org/whl/cpu",
)


def _fer_package(kind: str, method: str, *requirements: str) -> Baseline:
    runner, source = str(RUNNERS / "fer_package.py"), "https://pypi.org/project/fer/25.10.3/"
    return Baseline(method, ("fer==25.10.3",), (*_ARRAYS, *requirements), runner, (kind,), source)


def _torch_package(package: str, version: str) -> Baseline:
    packages = ("facial-emotion-recognition==0.3.4", "what-the-face-classification==0.0.27")  # share one environment
    source = f"https://pypi.org/project/{package}/{version}/"
    return Baseline(f"{package} {version}", packages, _TORCH, str(RUNNERS / "torch_packages.py"), (package,), source)


BASELINES = {
    "fer-tflite": _fer_package("tflite", "fer 25.10.3 (TFLite, its default)", "tflite-runtime==2.14.0"),
    "fer-hdf5": _fer_package("keras", "fer 25.10.3 (hdf5)", "tensorflow-cpu==2.15.1"),
    "facial-emotion-recognition": _torch_package("facial-emotion-recognition", "0.3.4"),
    "what-the-face-classification": _torch_package("what-the-face-classification", "0.0.27"),
}
DEFAULT = ("fer-tflite", "fer-hdf5")  # the others need PyTorch, a download of up to gigabytes


def parse_baselines(value: str) -> list[Baseline]:
    """Parses the flag --baselines.

    Args:
      value: "true" (the flag without a value) for `DEFAULT`, "false" for none, "all" for all, or names in `BASELINES`,
        comma-separated.

    Raises:
      UserError: one of the names is unknown.
    """
    groups = {"true": DEFAULT, "false": (), ALL: tuple(BASELINES)}
    names = groups[value] if value in groups else value.split(",")
    unknown = [name for name in names if name not in BASELINES]
    if unknown:
        raise UserError(f"--baselines names {unknown[0]!r}, which is none of {', '.join(BASELINES)} and {ALL}.")
    return [BASELINES[name] for name in names]


def measure(
    chosen: Sequence[Baseline],
    data: str,
    split: str,
    cache: str | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> list[BaselineResult]:
    """Measures baselines on the labelled faces of a split.

    Args:
      chosen: such as the values of `BASELINES`.
      data: folder of shards.
      split: name of the split.
      cache: folder of the environments; None for `fer.compare.baselines.cache_folder`.
      progress: called with a description of each step before it starts.

    Raises:
      UserError: the data cannot be read, or have other classes than FER-2013.
    """
    from fer.evaluation import eval_dataset

    manifest = read_manifest(data)
    if manifest.classes != CLASSES:
        raise UserError(
            f"--baselines needs the classes of FER-2013, which the packages predict, and {data} has "
            f"{join_names(manifest.classes)}. Leave --baselines out."
        )
    faces = eval_dataset.read(manifest, split, "fer")
    folder = cache or cache_folder()
    return [
        BaselineResult(baseline, manifest.record(), split, **_measure(baseline, faces, folder, progress))
        for baseline in chosen
    ]


def _measure(
    baseline: Baseline, faces: eval_dataset.EvalDataset, cache: str, progress: Callable[[str], None]
) -> dict[str, Any]:
    """Returns the fields of `BaselineResult` that are measured."""
    try:
        progress(f"preparing {baseline.method} in {cache}")
        python = prepare_environment(baseline.packages, baseline.requirements, cache)
    except BaselineUnavailable as reason:
        return {"failure": f"could not be installed ({reason})"}
    except OSError as error:
        raise UserError(
            f"Cannot write to {cache}, the folder of the baselines' environments: {error.strerror}."
        ) from error
    try:
        progress(f"measuring {baseline.method} on {len(faces.images):,} faces")
        return _run(baseline, python, faces)
    except BaselineUnavailable as reason:
        return {"failure": f"failed on these faces ({reason})"}
    except OSError as error:
        folder = tempfile.gettempdir()
        raise UserError(f"Cannot write the faces for {baseline.method} to {folder}: {error.strerror}.") from error


def _run(baseline: Baseline, python: str, faces: eval_dataset.EvalDataset) -> dict[str, Any]:
    import numpy as np

    from fer.evaluation.prediction_files import Predictions
    from fer.io import npz

    with temp_files.folder("baselines") as folder:
        inputs, outputs = pathlib.Path(folder, "faces.npz"), pathlib.Path(folder, "probabilities.npz")
        np.savez(inputs, images=faces.images[..., 0])
        run_command([python, "-s", baseline.runner, str(inputs), str(outputs), *baseline.runner_args])
        try:
            arrays = npz.read(str(outputs), "file of probabilities", f"There is no {outputs}.")
            probabilities, seconds, parameters = (
                arrays["probabilities"].astype(np.float32),
                float(arrays["seconds"]),
                int(arrays["parameters"]),
            )
        except (UserError, LookupError, TypeError, ValueError, OverflowError) as error:
            raise BaselineUnavailable("it wrote no readable probabilities") from error
    sums = probabilities.sum(axis=1) if probabilities.shape == (len(faces.images), len(CLASSES)) else np.zeros(1)
    if (probabilities < 0).any() or not np.allclose(sums, 1, atol=1e-3):
        raise BaselineUnavailable("its output is not a probability of each of seven classes for each face")
    return {
        "predictions": Predictions(faces.labels, probabilities, faces.rows),
        "images_per_second": len(faces.images) / seconds,
        "parameters": parameters,
    }


def cache_folder() -> str:
    """Returns the folder of the environments, in XDG_CACHE_HOME or ~/.cache."""
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "fer", "baselines")


def prepare_environment(packages: Sequence[str], requirements: Sequence[str], cache: str) -> str:
    """Returns the path of Python in an environment with some packages; creates the environment if it does not exist.

    Args:
      packages: pinned requirements, installed without their dependencies.
      requirements: dependencies to install, with their own dependencies; may include options of pip.
      cache: folder of the environments. These arguments and the version of Python identify an environment.

    Raises:
      BaselineUnavailable: pip cannot install them.
    """
    described = json.dumps([sys.version_info[:2], sorted(packages), sorted(requirements)])
    folder = os.path.join(cache, hashlib.sha256(described.encode()).hexdigest()[:16])
    if not os.path.exists(folder):
        os.makedirs(cache, exist_ok=True)
        temporary = tempfile.mkdtemp(prefix="unfinished-", dir=cache)
        try:
            _create(temporary, packages, requirements)
            if not os.path.exists(folder):  # another process may have created it
                os.rename(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return _python_in(folder)


def run_command(command: Sequence[str]) -> None:
    """Runs a command without the variables PYTHON*, which would make another Python import our modules.

    Raises:
      BaselineUnavailable: it cannot be started, fails or takes longer than an hour.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    try:
        subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.CalledProcessError as error:
        raise BaselineUnavailable(_last_line(error.stderr) or f"exit code {error.returncode}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BaselineUnavailable(str(error)) from error


def _create(folder: str, packages: Sequence[str], requirements: Sequence[str]) -> None:
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    pip = [sys.executable, "-m", "pip", "--python", _python_in(folder), "install", "--no-input", "--retries=1"]
    run_command([*pip, "--no-deps", *packages])
    if requirements:
        run_command([*pip, *requirements])


def _python_in(folder: str) -> str:
    return str(pathlib.Path(folder, *(("Scripts", "python.exe") if os.name == "nt" else ("bin", "python"))))


def _last_line(text: str) -> str:
    """Returns the last error line of the output of pip or Python, or else the last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")]
    return (errors or lines or [""])[-1].rstrip(".")
