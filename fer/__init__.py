"""Training systems for facial expression recognition that people can trust."""

import os as _os
import re as _re
import sys as _sys

__version__ = "0.1.0"


def _keep_keras_2() -> str:
    """From 2.16 on TensorFlow takes Keras 3 for `tf.keras`; with this it takes Keras 2 from the package tf-keras.

    TensorFlow reads the variable while it is imported, so this stands in the first file of ours that runs.

    Returns:
      The name of the package that `tf.keras` comes from.

    Raises:
      ImportError: TensorFlow was imported before and has chosen Keras 3.
    """
    release = _tensorflow_release()
    if release is None or release < (2, 16):  # None: a build under another name, whose user sets what it needs
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
    """Returns TensorFlow's major and minor version; None where no distribution called tensorflow is installed.

    Looks for the distribution's folder by its name. importlib.metadata would find the same, but importing it takes
    longer than all else of a program's `--help`, so it is asked only where there is no such folder.
    """
    for folder in _sys.path:
        try:
            names = _os.listdir(folder or ".")
        except OSError:
            continue
        for name in names:
            found = _re.fullmatch(r"tensorflow-(\d+)\.(\d+).*\.dist-info", name)
            if found:
                return int(found[1]), int(found[2])
    import importlib.metadata

    try:
        major, minor = importlib.metadata.version("tensorflow").split(".")[:2]
    except importlib.metadata.PackageNotFoundError:
        return None
    return int(major), int(minor)


KERAS = _keep_keras_2()
