"""The programs, which are installed as fer-convert, fer-train and so on."""

import pathlib
import runpy
import sys


def run() -> None:
    """Runs the program that the command is called after: fer-train is train.py."""
    program = pathlib.Path(sys.argv[0]).stem.removeprefix("fer-")
    runpy.run_module(f"{__name__}.{program}", run_name="__main__", alter_sys=True)
