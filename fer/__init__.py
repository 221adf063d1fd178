"""Reproducible facial expression recognition on FER-2013. docs/api.md describes the names of `__all__`."""

import os as _os
import re as _re
import sys as _sys
from collections.abc import Iterator as _Iterator
from typing import TYPE_CHECKING as _TYPE_CHECKING

if _TYPE_CHECKING:
    from fer.augment.stateless import augmenter
    from fer.data.dataset import Dataset, open_dataset
    from fer.errors import UserError
    from fer.evaluation.metrics.summary import evaluate
    from fer.predict.classification import Face
    from fer.predict.face_classifier import FaceClassifier, load

__all__ = ["Dataset", "Face", "FaceClassifier", "UserError", "augmenter", "evaluate", "load", "open_dataset"]

__version__ = "0.1.0"


def _metadata_folders() -> "_Iterator[tuple[str, str]]":
    """Yields parent folder and name of each installed distribution's metadata folder, in the order of `sys.path`.

    importlib.metadata finds the same folders, but its import takes longer than the rest of a program's `--help`.
    """
    for folder in _sys.path:
        try:
            names = _os.listdir(folder or ".")
        except OSError:
            continue
        yield from ((folder or ".", name) for name in names if name.endswith((".dist-info", ".egg-info")))


def _warn_of_other_fer() -> None:
    """Warns if the distribution `fer` of another project is installed: its files lie in the same package folder."""
    for folder, name in _metadata_folders():
        found = _re.fullmatch(r"fer-(\d[^-]*)(-py.*)?\.(dist|egg)-info", name)
        if not found:
            continue
        import importlib.metadata
        import pathlib
        import warnings

        from fer.errors import python_command

        uninstall = python_command("-m", "pip", "uninstall", "fer")
        files = importlib.metadata.PathDistribution(pathlib.Path(folder, name)).files or []
        if any(file.parts[0] == "fer" for file in files):
            warnings.warn(
                f"The distribution fer {found[1]} of another project in {folder} also installs a package fer, so the "
                f"files of both mix: run {uninstall}, then install fer-trainer again.",
                stacklevel=2,
            )


def _keep_keras_2() -> str:
    """Makes `tf.keras` Keras 2, from the package tf-keras, where TensorFlow (2.16 and later) would choose Keras 3.

    TensorFlow reads the variable while it is imported, so this is in the first module of the package that runs.

    Returns:
      The name of the package that `tf.keras` comes from.

    Raises:
      ImportError: TensorFlow was imported before and has chosen Keras 3.
    """
    release = _tensorflow_release()
    if release is None or release < (2, 16):  # None: a build under another name, whose user sets the variable if needed
        return "keras"
    if _os.environ.get("TF_USE_LEGACY_KERAS") in ("1", "true", "True"):
        return "tf-keras"
    if "tensorflow" in _sys.modules:
        raise ImportError(
            "TensorFlow was imported before fer and has loaded Keras 3: import fer first, or set TF_USE_LEGACY_KERAS=1."
        )
    _os.environ["TF_USE_LEGACY_KERAS"] = "1"
    return "tf-keras"


def _tensorflow_release() -> "tuple[int, int] | None":
    """Returns TensorFlow's major and minor version; None if no distribution called tensorflow is installed."""
    for _, name in _metadata_folders():
        found = _re.fullmatch(r"tensorflow-(\d+)\.(\d+).*\.dist-info", name)
        if found:
            return int(found[1]), int(found[2])
    import importlib.metadata

    try:
        major, minor = importlib.metadata.version("tensorflow").split(".")[:2]
    except importlib.metadata.PackageNotFoundError:
        return None
    return int(major), int(minor)


# The modules of the public names, which are imported at the first use of a name: most of them load TensorFlow.
_MODULES = {
    "Dataset": "fer.data.dataset",
    "Face": "fer.predict.classification",
    "FaceClassifier": "fer.predict.face_classifier",
    "UserError": "fer.errors",
    "augmenter": "fer.augment.stateless",
    "evaluate": "fer.evaluation.metrics.summary",
    "load": "fer.predict.face_classifier",
    "open_dataset": "fer.data.dataset",
}


def __getattr__(name: str) -> object:
    """Imports a public name at its first use.

    Raises:
      AttributeError: the package has no such name.
    """
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> "list[str]":
    return sorted({*globals(), *__all__})


_warn_of_other_fer()
KERAS = _keep_keras_2()
