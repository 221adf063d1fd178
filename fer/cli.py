"""What all programs share: flags are parsed, one function runs, a user's mistake becomes one sentence."""

import logging
import os
import sys
from collections.abc import Sequence
from typing import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow loads: its start-up lines help nobody

from absl import app, flags

from fer import config, remote
from fer.errors import Stopped, UserError

DEBUG = flags.DEFINE_boolean("debug", False, "Shows the traceback of an error.")


def run(main: Callable[[], None]) -> None:
    """Runs a program: parses the flags, calls `main`, and exits.

    The exit code is 0 when `main` returned, 1 for a mistake that the user can mend (one sentence on standard
    error; with --debug the traceback too), 128 and the signal's number for a run that a signal stopped, and whatever
    `main` itself exits with.
    """
    logging.getLogger("tensorflow").setLevel(logging.ERROR)

    def guarded(_: Sequence[str]) -> None:
        try:
            remote.ready(*(str(flags.FLAGS[name].value) for name in flags.FLAGS))
            main()
        except UserError as error:
            if DEBUG.value:
                raise
            _stop(error)
        except Stopped as stopped:
            _stop(stopped, stopped.exit_code)

    app.run(guarded, flags_parser=_parse)


def _parse(argv: Sequence[str]) -> Sequence[str]:
    """Parses absl's flags; what is wrong with one is said in a sentence."""
    try:
        config.check_overrides(argv)
        rest = flags.FLAGS(argv)
        if len(rest) > 1:
            raise UserError(f"{rest[1]!r} stands alone: every argument is a flag, as in --name=value.")
        return rest
    except (UserError, flags.Error, OSError) as error:
        _stop(error)


def _stop(error: Exception, exit_code: int = 1) -> None:
    print(f"{os.path.basename(sys.argv[0])}: {error}", file=sys.stderr)
    sys.exit(exit_code)
