"""The exceptions whose text is meant for the person at the keyboard."""

import pathlib
import shlex

MAX_LINE_CHARACTERS = 500  # of a line of a message; a line may quote a cell, a header or a path of any length
MAX_LINES = 50  # of a message


def shorten(text: str, most: int = MAX_LINE_CHARACTERS) -> str:
    """Returns a line of at most `most` characters: of a longer one, the middle becomes "...", and most of it stays."""
    tail = most // 3
    return text if len(text) <= most else f"{text[: most - tail - 3]}...{text[-tail:]}"


def install_command(extra: str) -> str:
    """Returns the command that installs an extra: in a checkout from the checkout, else from the package index."""
    checkout = pathlib.Path(__file__).resolve().parents[1]
    if not (checkout / "setup.py").is_file():
        return f"pip install 'fer-trainer[{extra}]'"
    place = "." if checkout == pathlib.Path.cwd() else checkout
    return "pip install -e " + shlex.quote(f"{place}[{extra}]")


class UserError(Exception):
    """A mistake that the user can mend.

    Its text is one sentence that names the file, row, field or value at fault and says what to do.
    The command line prints it alone, without a traceback, and exits with 1 (see `fer.cli`). Long lines are shortened.
    """

    def __str__(self) -> str:
        lines = super().__str__().splitlines()
        more = [f"... and {len(lines) - MAX_LINES:,} lines more"] if len(lines) > MAX_LINES else []
        return "\n".join([*map(shorten, lines[:MAX_LINES]), *more])


class StorageError(UserError):
    """A disk or a store cannot be read or written now. Nothing is wrong with what was asked for: it can go on later."""


class Stopped(Exception):  # noqa: N818  it is no error
    """A run that was asked to stop has stopped in good order.

    Its text says how to go on; the command line prints it and exits with `exit_code`.
    """

    def __init__(self, text: str, exit_code: int):
        super().__init__(text)
        self.exit_code = exit_code
