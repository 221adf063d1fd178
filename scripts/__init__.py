"""The programs, which are installed as fer-convert, fer-train and so on."""

import pathlib
import runpy
import sys


def run() -> None:
    """Runs the program of the installed command: fer-train runs train.py, fer-gpu-check runs gpu_check.py."""
    program = pathlib.Path(sys.argv[0]).stem.removeprefix("fer-").replace("-", "_")
    runpy.run_module(f"{__name__}.{program}", run_name="__main__", alter_sys=True)
