"""Other people's classifiers that install from PyPI with their weights, measured on the faces that ours are.

Each is given the 48x48 faces as they are in the shards, so that no face detector stands between, and prepares them as
its own package does. Where a package cannot be installed or run, the comparison says so and goes on.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Callable

from fer.compare import baseline_environments
from fer.data.manifest import read_manifest
from fer.errors import UserError
from fer.evaluation import eval_json
from fer.io import temp_files
from fer.labels import CLASSES

if TYPE_CHECKING:
    from fer.evaluation import eval_dataset
    from fer.evaluation.predictions import Predictions

RUNNERS = pathlib.Path(__file__).parent / "baseline_runners"
ALL = "all"


@dataclasses.dataclass(frozen=True)
class Baseline:
    """A classifier, and how it is installed and run."""

    method: str  # its name in tables
    packages: tuple[str, ...]  # that hold it
    requirements: tuple[str, ...]  # what its runner needs, and options of pip to find it
    runner: str  # path of a program as `fer.compare.baseline_runners.harness` describes it
    told: tuple[str, ...]  # further arguments of the runner
    source: str


@dataclasses.dataclass(frozen=True)
class BaselineResult:
    """What a peer said of the faces, or why it said nothing."""

    peer: Baseline
    data: dict[str, Any]  # as eval.json tells them
    split: str
    predictions: Predictions | None = None
    images_per_second: float | None = None
    parameters: int | None = None
    hindrance: str | None = None


_ARRAYS = ("numpy==1.26.4", "opencv-python-headless==4.11.0.86")
# PyTorch's own index has builds for the CPU alone, a tenth in size of PyPI's; where it cannot be reached, PyPI's do.
_TORCH = (
    "numpy==1.26.4",
    "torch==2.13.0; python_version>='3.10'",
    "torch==2.8.0; python_version<'3.10'",
    "--extra-index-url=https://download.pytorch.org/whl/cpu",
)


def _fer(kind: str, method: str, *requirements: str) -> Baseline:
    runner, source = str(RUNNERS / "fer_package.py"), "https://pypi.org/project/fer/25.10.3/"
    return Baseline(method, ("fer==25.10.3",), (*_ARRAYS, *requirements), runner, (kind,), source)


def _torch(package: str, version: str) -> Baseline:
    packages = ("facial-emotion-recognition==0.3.4", "what-the-face-classification==0.0.27")  # of one environment
    source = f"https://pypi.org/project/{package}/{version}/"
    return Baseline(f"{package} {version}", packages, _TORCH, str(RUNNERS / "torch_packages.py"), (package,), source)


BASELINES = {
    "fer-tflite": _fer("tflite", "fer 25.10.3 (TFLite, its default)", "tflite-runtime==2.14.0"),
    "fer-hdf5": _fer("keras", "fer 25.10.3 (hdf5)", "tensorflow-cpu==2.15.1"),
    "facial-emotion-recognition": _torch("facial-emotion-recognition", "0.3.4"),
    "what-the-face-classification": _torch("what-the-face-classification", "0.0.27"),
}
DEFAULT = ("fer-tflite", "fer-hdf5")  # the others need PyTorch, which may be gigabytes to download


def parse_baselines(told: str) -> list[Baseline]:
    """The peers that a flag asks for.

    Args:
      told: true (the flag alone) means `DEFAULT`, all every one, anything else names in `PEERS`, comma-separated.

    Raises:
      UserError: one of the names is unknown.
    """
    whole = {"true": DEFAULT, "false": (), ALL: tuple(BASELINES)}
    names = whole[told] if told in whole else told.split(",")
    unknown = [name for name in names if name not in BASELINES]
    if unknown:
        raise UserError(f"--peers names {unknown[0]!r}, which is none of {', '.join(BASELINES)} and {ALL}.")
    return [BASELINES[name] for name in names]


def measure(
    peers: Sequence[Baseline],
    data: str,
    split: str,
    cache: str | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> list[BaselineResult]:
    """Lets each peer classify the labelled faces of a split.

    Args:
      peers: such as the values of `PEERS`.
      data: folder of shards.
      split: which.
      cache: folder of the peers' environments; None takes `fer.compare.baseline_environments.cache_folder`.
      progress: told in words what is done next.

    Raises:
      UserError: the data cannot be read.
    """
    from fer.evaluation import eval_dataset

    manifest = read_manifest(data)
    faces = eval_dataset.read(manifest, split, "fer")
    folder = cache or baseline_environments.cache_folder()
    return [
        BaselineResult(peer, eval_json.describe_data(manifest), split, **_measured(peer, faces, folder, progress))
        for peer in peers
    ]


def _measured(
    peer: Baseline, faces: eval_dataset.EvalDataset, cache: str, progress: Callable[[str], None]
) -> dict[str, Any]:
    """The fields of `BaselineResult` that are found out."""
    try:
        progress(f"preparing {peer.method} in {cache}")
        python = baseline_environments.python_of(peer.packages, peer.requirements, cache)
    except baseline_environments.NotAvailable as reason:
        return {"hindrance": f"could not be installed ({reason})"}
    except OSError as error:
        raise UserError(
            f"Cannot write to {cache}, where the peers' environments are kept: {error.strerror}."
        ) from error
    try:
        progress(f"measuring {peer.method} on {len(faces.images):,} faces")
        return _run(peer, python, faces)
    except baseline_environments.NotAvailable as reason:
        return {"hindrance": f"failed on these faces ({reason})"}


def _run(peer: Baseline, python: str, faces: eval_dataset.EvalDataset) -> dict[str, Any]:
    import numpy as np

    from fer.evaluation.predictions import Predictions
    from fer.io import npz

    with temp_files.folder("peers") as folder:
        given, answered = pathlib.Path(folder, "faces.npz"), pathlib.Path(folder, "probabilities.npz")
        np.savez(given, images=faces.images[..., 0])
        baseline_environments.run([python, "-s", peer.runner, str(given), str(answered), *peer.told])
        try:
            arrays = npz.read(str(answered), "file of probabilities", f"There is no {answered}.")
            probabilities, seconds, parameters = (
                arrays["probabilities"].astype(np.float32),
                float(arrays["seconds"]),
                int(arrays["parameters"]),
            )
        except (UserError, LookupError, TypeError, ValueError, OverflowError) as error:
            raise baseline_environments.NotAvailable("it left no readable probabilities behind") from error
    sums = probabilities.sum(axis=1) if probabilities.shape == (len(faces.images), len(CLASSES)) else np.zeros(1)
    if (probabilities < 0).any() or not np.allclose(sums, 1, atol=1e-3):
        raise baseline_environments.NotAvailable("what it gave are no probabilities of seven classes, face by face")
    return {
        "predictions": Predictions(faces.labels, probabilities, faces.rows),
        "images_per_second": len(faces.images) / seconds,
        "parameters": parameters,
    }
