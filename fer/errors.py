"""Exceptions whose text is shown to the user, and parts of such texts."""

from __future__ import annotations

import difflib
import os
import pathlib
import shlex
import sys
from collections.abc import Sequence

MAX_LINE_CHARACTERS = 500  # of a line of a message, which may quote a cell, a header or a path of any length
MAX_JOINED = 12  # names that a message lists
MAX_LINES = 50  # of a message
NO_GPU = (
    "TensorFlow finds no GPU on this machine. Check nvidia-smi, and install the extra gpu; --device=CPU rehearses the "
    "checks without a GPU."
)
EXIT_TRY_AGAIN = 75  # EX_TEMPFAIL of sysexits.h: nothing needs a correction, and the same command goes on

_CHECKOUT = pathlib.Path(__file__).resolve().parents[1]  # the folder of the package, if it is not installed


def shorten(text: str, most: int = MAX_LINE_CHARACTERS) -> str:
    """Returns a line of at most `most` characters; the middle of a longer one is replaced by "..."."""
    tail = most // 3
    return text if len(text) <= most else f"{text[: most - tail - 3]}...{text[-tail:]}"


def suggest(word: str, known: Sequence[str]) -> str:
    """Returns the end of a message about an unknown word: "; the nearest is X", or the list of all known words."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    leaf = [path for path in known if path.rpartition(".")[2] == word.rpartition(".")[2]]
    if leaf or close:
        return f"; the nearest is {(leaf or close)[0]}"
    return "; there are " + ", ".join(known)


def join_names(names: Sequence[str]) -> str:
    """Joins names for a message; of many, the first `MAX_JOINED`."""
    more = len(names) - MAX_JOINED
    return ", ".join(names) if more <= 0 else f"{', '.join(names[:MAX_JOINED])} and {more} more"


def command_name(program: str) -> str:
    """Returns the name of a program of ours in a message: "fer-evaluate" or, in a checkout, "scripts/evaluate.py"."""
    return installed_name(program) if is_installed() else f"scripts/{program}.py"


def command_line(program: str, **values: str | None) -> str:
    """Returns a command to paste into the current shell that runs another program of ours as this one was run.

    It is "fer-evaluate ..." for installed commands and ".venv/bin/python scripts/evaluate.py ..." in a checkout, with
    the Python that runs now.

    Args:
      program: its name, such as "evaluate".
      **values: values of its flags; those that are None are left out.
    """
    flags = [f"--{flag}={shlex.quote(value)}" for flag, value in values.items() if value is not None]
    if is_installed():
        return " ".join([installed_name(program), *flags])
    return " ".join([python_command(_shorten_path(str(_CHECKOUT / "scripts" / f"{program}.py"))), *flags])


def python_command(*arguments: str) -> str:
    """Returns a command to paste into the current shell that runs the Python of this process."""
    return shlex.join([_shorten_path(sys.executable or "python"), *arguments])


def install_command(extra: str) -> str:
    """Returns the command that installs an extra, from the checkout if there is one, else from the package index."""
    if not _has_checkout():
        return python_command("-m", "pip", "install", f"fer-trainer[{extra}]")
    place = "." if str(_CHECKOUT) == os.getcwd() else _CHECKOUT
    return python_command("-m", "pip", "install", "-e", f"{place}[{extra}]")


def installed_name(program: str) -> str:
    """Returns the installed command of a program: fer-gpu-check for gpu_check or gpu_check.py."""
    return f"fer-{program.removesuffix('.py').replace('_', '-')}"


def is_installed() -> bool:
    """Returns whether this process runs an installed command, the module fer.scripts.NAME, or there is no checkout."""
    own = getattr(sys.modules["__main__"], "__spec__", None)
    return (own is not None and own.name.startswith("fer.scripts.")) or not _has_checkout()


def _has_checkout() -> bool:
    return (_CHECKOUT / "setup.py").is_file()


def _shorten_path(path: str) -> str:
    """Returns a path relative to the current folder if it is inside of it, with a slash, which a shell needs."""
    folder = os.path.join(os.getcwd(), "")
    if not path.startswith(folder):
        return path
    inside = path.removeprefix(folder)
    return inside if os.sep in inside else os.path.join(".", inside)


class UserError(Exception):
    """Error that the user can correct.

    The text is one sentence that names the file, row, field or value at fault and the correction. Programs print the
    text without a traceback and exit with `exit_code` (see `fer.cli`). Long lines are shortened.
    """

    exit_code = 1

    def __str__(self) -> str:
        lines = super().__str__().splitlines()
        more = [f"... and {len(lines) - MAX_LINES:,} lines more"] if len(lines) > MAX_LINES else []
        return "\n".join([*map(shorten, lines[:MAX_LINES]), *more])


class StorageError(UserError):
    """Failure of a disk or an object store to read or write. The same command may succeed later."""


class StoreUnavailableError(StorageError):
    """An object store does not answer. The same command goes on when the store is available again."""

    exit_code = EXIT_TRY_AGAIN


class WorkerLostError(UserError):
    """Another worker of the run has ended, or did not come. The same command on every worker goes on."""

    exit_code = EXIT_TRY_AGAIN


class RunInUseError(UserError):
    """Another process trains in the run directory."""


class Stopped(Exception):  # noqa: N818  it is no error
    """Orderly end of a run that was requested to stop.

    The text says how to continue. Programs print it and exit with `exit_code`.
    """

    def __init__(self, text: str, exit_code: int):
        super().__init__(text)
        self.exit_code = exit_code
