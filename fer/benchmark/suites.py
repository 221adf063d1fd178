"""Names of the suites, and which of them can run."""

from __future__ import annotations

import importlib.util

from fer.errors import UserError, install_command

# Modules of fer.benchmark, imported on demand because each imports other libraries. The first two create logical CPUs,
# which is impossible after TensorFlow's first op.
SUITES = ["scaling", "launches", "augment", "convert", "input", "train", "layers", "detect", "end_to_end"]
ALL = "all"


def choose_suites(name: str) -> list[str]:
    """Returns the suites to run: one, or all. Without OpenCV, `ALL` leaves out `detect` and prints a line.

    Raises:
      UserError: `detect` is chosen by name, and OpenCV is not installed.
    """
    chosen = SUITES if name == ALL else [name]
    if "detect" not in chosen or importlib.util.find_spec("cv2"):
        return chosen
    if name != ALL:
        raise UserError(f"The suite detect needs OpenCV: {install_command('photos')}.")
    print(f"OpenCV is not installed and the suite detect is not run: {install_command('photos')}.", flush=True)
    return [suite for suite in chosen if suite != "detect"]
