"""Entry point of all programs: parses flags, runs one function, and prints a user's error in one sentence.

This module does not import TensorFlow, so that `--help` and flag errors do not wait for it. A program imports it with
`fer.log_suppression.import_tensorflow`, after it has checked its flags and the local paths in them.
"""

from __future__ import annotations

import os
import pathlib
import re
import signal
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn, cast

from absl import app, flags
from absl import logging as absl_logging

import fer
from fer import config, escaping, flag_paths, help_text, storage, streams
from fer.errors import Stopped, UserError, command_line, installed_name, is_installed, suggest

_CONFIG_ERROR_PREFIX = "Error whilst parsing config file"  # of ml_collections, before the traceback in its message

DEBUG = flags.DEFINE_boolean("debug", False, "Shows the traceback of an error.")
CACHE_DIR = flags.DEFINE_string(
    "cache_dir", None, "Directory of local copies of shards in a store; by default ~/.cache/fer."
)
flags.disclaim_key_flags()  # flags that `define_paths` defines are key flags of the program

_ARGUMENTS: list[str] = []  # name of the flag that takes the arguments without a flag, if any
_REQUIRED: dict[str, tuple[str, ...]] = {}  # required flag -> flags any of which makes it optional


def require(*names: str, unless: Sequence[str] = ()) -> None:
    """Adds flags to the required ones, for `run` and for help. With absl's own `required`, `--help` would fail.

    Args:
      names: of flags that the program defines.
      unless: names of flags; if one of them is set, the flags are not required.
    """
    _REQUIRED.update(dict.fromkeys(names, tuple(unless)))


def reject_flags(reason: str, *names: str) -> None:
    """Rejects flags that the program would ignore.

    Args:
      reason: end of the message after the flag, such as "needs --baselines".
      names: of flags that the program defines.

    Raises:
      UserError: one of them was set.
    """
    for name in names:
        if flags.FLAGS[name].present:
            raise UserError(f"--{name} {reason}.")


def define_paths(name: str, meaning: str, default: str | None = None) -> flags.FlagHolder[list[str]]:
    """Defines a flag of one or several comma-separated paths, none of which may be empty; required without default."""
    flag = flags.DEFINE_list(name, default, meaning)
    flags.register_validator(flag, lambda paths: paths is None or (bool(paths) and all(paths)), "it must name a path")
    if default is None:
        require(name)
    return cast("flags.FlagHolder[list[str]]", flag)  # it is required


def define_inputs(name: str, meaning: str) -> flags.FlagHolder[list[str]]:
    """Defines a required flag of paths, to which the program's arguments without a flag are added."""
    flags.FLAGS.set_gnu_getopt()  # flags may follow these arguments
    _ARGUMENTS.append(name)
    require(name)
    return cast("flags.FlagHolder[list[str]]", flags.DEFINE_multi_string(name, None, meaning))  # it is required


def define_optional(name: str, alone: str, meaning: str) -> flags.FlagHolder[str | None]:
    """Defines a flag with an optional value: --NAME or --NAME=VALUE.

    Args:
      name: of the flag.
      alone: value of --NAME; the default is None.
      meaning: help text.
    """
    parser = _OptionalValueParser(alone)
    serializer: flags.ArgumentSerializer[str] = flags.ArgumentSerializer()
    return flags.DEFINE_flag(flags.Flag(parser, serializer, name, None, meaning, boolean=True))


class _OptionalValueParser(flags.ArgumentParser):
    """Parser of a flag that absl passes as "true" (no value), "false" (--noNAME) or its value."""

    def __init__(self, alone: str):
        super().__init__()
        self._alone = alone

    def parse(self, argument: str) -> str | None:
        return {"true": self._alone, "false": None}.get(argument, argument)


def run(main: Callable[[], None]) -> None:
    """Runs a program: parses the flags, calls `main`, and exits.

    The exit code is 0 if `main` returns, 1 for a UserError (one sentence on standard error; with --debug the
    traceback too) or 75 if the same command can go on later, 128 plus the signal's number for a run that a signal
    stopped, and the code with which `main` itself exits.
    """
    # absl defaults to "info", where TensorFlow 2.21 logs every checkpoint.
    absl_logging.set_verbosity(absl_logging.WARNING)
    streams.install()

    def guarded(_: Sequence[str]) -> None:
        try:
            if flag_paths.is_output_printed(flags.FLAGS):
                sys.stdout = sys.stderr  # standard output is for the output alone
            if CACHE_DIR.value:
                if storage.is_remote(CACHE_DIR.value):
                    raise UserError(f"--cache_dir={CACHE_DIR.value}: it must be a local directory.")
                os.environ[storage.CACHE_DIR_VARIABLE] = os.path.abspath(CACHE_DIR.value)
            storage.check_stores(*(str(flags.FLAGS[name].value) for name in flags.FLAGS))
            main()
            _check_stdout()
        except UserError as error:
            if DEBUG.value:
                raise
            _exit_with_error(error)
        except Stopped as stopped:
            _exit_at_once(stopped)
        except KeyboardInterrupt:
            if DEBUG.value:
                raise
            _exit_at_once(Stopped("Interrupted.", 128 + signal.SIGINT))

    app.run(guarded, flags_parser=_parse)


def _check_stdout() -> None:
    """Raises a UserError if standard output could not be written completely, as on a full disk."""
    error = streams.stdout_error()
    if error is not None:
        raise UserError(f"The work is done, but standard output is incomplete: {error.strerror}.")


def _parse(argv: Sequence[str]) -> Sequence[str]:
    """Parses the flags; prints an error in one sentence (with --debug the traceback too) and exits."""
    form = help_text.requested_form(argv)
    if form is not None:
        _print_help(form)
    try:
        argv = resolve_config_names(argv)
        config.check_overrides(argv)
        rest = _parse_with_absl(argv)
        if len(rest) > 1:
            raise UserError(f"{rest[1]!r} is not a flag: write every argument as --name=value.")
        _check_required()
        return rest
    except (UserError, flags.Error, OSError) as error:
        if any(re.fullmatch(r"--?debug(=true|=1)?", argument) for argument in argv):  # --debug may not be parsed yet
            raise
        _exit_with_error(error)


def _print_help(form: str) -> NoReturn:
    """Prints one of `help_text.FORMS` and exits with code 0."""
    program, installed = os.path.basename(sys.argv[0]), is_installed()
    text = help_text.format_help(form, installed_name(program) if installed else program, list(_REQUIRED))
    if installed:
        text = re.sub(r"(?:python )?scripts/(\w+\.py)", lambda match: installed_name(match[1]), text)
    print(text, flush=True)
    sys.exit(0)


def _check_required() -> None:
    """Raises a UserError that names all missing required flags."""
    given = {name for name in flags.FLAGS if flags.FLAGS[name].value not in (None, False, "")}
    missing = [f"--{name}" for name, others in _REQUIRED.items() if name not in given and given.isdisjoint(others)]
    if missing:
        listed = " and ".join(filter(None, [", ".join(missing[:-1]), missing[-1]]))
        program = os.path.splitext(os.path.basename(sys.argv[0]))[0]
        raise UserError(f"{listed} {'are' if missing[1:] else 'is'} missing: see {command_line(program)} --help.")


def _parse_with_absl(argv: Sequence[str]) -> Sequence[str]:
    """Parses the arguments with absl. This runs the configuration file, which may raise any error.

    Raises:
      UserError: the configuration file fails; the message names the file and the reason.
      flags.Error, OSError: a flag is invalid.
    """
    try:
        rest = _take_arguments(flags.FLAGS(argv))
        flag_paths.resolve(flags.FLAGS)
        return rest
    except (UserError, OSError):
        raise
    except (Exception, SystemExit) as error:
        paths, why = config.config_flag_values(argv), _describe_config_error(error)
        if not paths or not why:
            raise
        raise UserError(f"{paths[-1]} is no configuration ({why}); configs/ holds examples.") from error


def _take_arguments(rest: Sequence[str]) -> Sequence[str]:
    """Adds the arguments without a flag to the flag of `define_inputs`, if any; returns those that are left."""
    if not _ARGUMENTS or not rest[1:]:
        return rest
    flag = flags.FLAGS[_ARGUMENTS[0]]
    flag.value = [*(flag.value or []), *rest[1:]]
    flag.present += len(rest[1:])
    return rest[:1]


def _describe_config_error(error: BaseException) -> str:
    """Returns why a configuration file failed, on one line; "" if a flag is invalid."""
    text = str(error).strip()
    if isinstance(error, SystemExit):
        return f"it ends the program with exit code {text}"
    if isinstance(error, flags.Error):
        return text.splitlines()[-1] if _CONFIG_ERROR_PREFIX in text else ""
    if "no attribute 'get_config'" in text:
        return "it has no get_config()"
    return ": ".join([type(error).__name__, *text.splitlines()[:1]])


def resolve_config_names(arguments: Sequence[str]) -> list[str]:
    """Replaces the bare name of a shipped configuration in the arguments, as in `--config=compact`, by its path.

    The name may also follow `--config` as an argument of its own. Configurations are in configs/ of the checkout, or in
    the installed package.

    Raises:
      UserError: no configuration has that name.
    """
    package = pathlib.Path(fer.__file__).parent
    folders = [package / "configs", package.parent / "configs"]
    shipped = {path.stem: str(path) for folder in folders for path in sorted(folder.glob("*.py"))}
    changed = list(arguments)
    for position, argument in enumerate(arguments):
        alone = position > 0 and re.fullmatch(r"--?config", arguments[position - 1])
        name = re.fullmatch(r"()(\w[\w-]*)" if alone else r"(--?config=)(\w[\w-]*)", argument)
        if not name:
            continue
        if name[2] not in shipped:
            raise UserError(f"There is no configuration {name[2]!r}{suggest(name[2], list(shipped))}.")
        changed[position] = name[1] + shipped[name[2]]
    return changed


def _exit_with_error(error: Exception) -> NoReturn:
    print(f"{os.path.basename(sys.argv[0])}: {_sanitize(error)}", file=sys.stderr)
    sys.exit(error.exit_code if isinstance(error, UserError) else 1)


def _sanitize(error: Exception) -> str:
    """Returns an error's text with control characters escaped and passwords removed."""
    return escaping.redact("\n".join(map(escaping.escape_line, str(error).split("\n"))))


def _exit_at_once(stopped: Stopped) -> None:
    """Ends the process without finalizing the interpreter.

    Finalization frees the graphs' objects one by one and waits for TensorFlow's threads, some of which sleep. It takes
    seconds, on a busy machine a minute, of the two minutes that a spot notice leaves. A stopped run has closed all of
    its files.
    """
    print(f"{os.path.basename(sys.argv[0])}: {_sanitize(stopped)}", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(stopped.exit_code)
