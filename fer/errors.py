"""Exceptions whose text is shown to the user, and parts of such texts."""

import difflib
import pathlib
import shlex
from collections.abc import Sequence

MAX_LINE_CHARACTERS = 500  # of a line of a message, which may quote a cell, a header or a path of any length
MAX_JOINED = 12  # names that a message lists
MAX_LINES = 50  # of a message


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


def install_command(extra: str) -> str:
    """Returns the command that installs an extra, from the checkout if there is one, else from the package index."""
    checkout = pathlib.Path(__file__).resolve().parents[1]
    if not (checkout / "setup.py").is_file():
        return f"pip install 'fer-trainer[{extra}]'"
    place = "." if checkout == pathlib.Path.cwd() else checkout
    return "pip install -e " + shlex.quote(f"{place}[{extra}]")


class UserError(Exception):
    """Error that the user can correct.

    The text is one sentence that names the file, row, field or value at fault and the correction. Programs print the
    text without a traceback and exit with code 1 (see `fer.cli`). Long lines are shortened.
    """

    def __str__(self) -> str:
        lines = super().__str__().splitlines()
        more = [f"... and {len(lines) - MAX_LINES:,} lines more"] if len(lines) > MAX_LINES else []
        return "\n".join([*map(shorten, lines[:MAX_LINES]), *more])


class StorageError(UserError):
    """Failure of a disk or an object store to read or write. The same command may succeed later."""


class RunInUseError(UserError):
    """Another process trains in the run directory."""


class Stopped(Exception):  # noqa: N818  it is no error
    """Orderly end of a run that was requested to stop.

    The text says how to continue. Programs print it and exit with `exit_code`.
    """

    def __init__(self, text: str, exit_code: int):
        super().__init__(text)
        self.exit_code = exit_code
