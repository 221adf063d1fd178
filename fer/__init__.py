"""Training systems for facial expression recognition that people can trust."""

import importlib.metadata as _metadata
import os as _os
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
    try:
        release = _metadata.version("tensorflow").split(".")
    except _metadata.PackageNotFoundError:  # a build under another name, whose user sets what it needs
        return "keras"
    if (int(release[0]), int(release[1])) < (2, 16):
        return "keras"
    if _os.environ.get("TF_USE_LEGACY_KERAS") in ("1", "true", "True"):
        return "tf-keras"
    if "tensorflow" in _sys.modules:
        raise ImportError(
            "TensorFlow was imported before fer and has loaded Keras 3: import fer first, or set TF_USE_LEGACY_KERAS=1."
        )
    _os.environ["TF_USE_LEGACY_KERAS"] = "1"
    return "tf-keras"


KERAS = _keep_keras_2()
