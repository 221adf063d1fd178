"""The paths in the flags of every program: resolved and checked in one place, before anything is read."""

from __future__ import annotations

import os
import re

from absl import flags

from fer.errors import UserError

PATHS = {  # flags of the programs that name paths, several with commas between them
    *("input", "output", "ferplus", "verify", "data", "workdir", "preview", "evals", "fill", "also"),
}

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://?")
_KNOWN = "s3"


def resolve(values: flags.FlagValues) -> None:
    """Checks the paths in the flags that were given, and puts the home folder in place of a leading "~".

    Args:
      values: the flags, parsed; those that `PATHS` names are changed.

    Raises:
      UserError: a path is empty, is not UTF-8, holds a NUL byte, or has a scheme that is not supported. The message
        names the flag.
    """
    for name in sorted(PATHS & set(values)):
        flag = values[name]
        if not flag.present or isinstance(flag.value, bool) or flag.value is None:
            continue
        if isinstance(flag.value, str):
            flag.value = _resolved(name, flag.value, flag.default)
        elif isinstance(flag.value, list):
            flag.value = [_resolved(name, path, None) for path in flag.value]


def _resolved(name: str, text: str, default: str | None) -> str:
    """Returns the text of a flag with its paths resolved."""
    if not text.strip() and default != "":
        raise UserError(f"--{name} is empty: it must name a path.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        shown = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        raise UserError(
            f"--{name}={shown} is not UTF-8, which is all that TensorFlow takes for a path: rename it."
        ) from error
    if "\0" in text:
        raise UserError(f"--{name} holds a NUL byte, which no path has: {text.encode('unicode_escape').decode()}.")
    if os.path.lexists(text):
        return text
    parts = text.split(",")
    for path in parts:
        _check_scheme(name, path.strip())
    return ",".join(map(_at_home, parts))


def _check_scheme(name: str, path: str) -> None:
    scheme = _SCHEME.match(path)
    if scheme is None or (scheme[1] == _KNOWN and path.startswith("s3://")):
        return
    advice = f"write {_KNOWN}://BUCKET/PATH" if scheme[1].lower() == _KNOWN else "name a local path or s3://BUCKET/PATH"
    raise UserError(f"--{name}={path}: the scheme {scheme[1]}: is not supported; {advice}.")


def _at_home(path: str) -> str:
    """Returns a path with the home folder for a leading "~", which a shell leaves as it is after "=" and ","."""
    return path if os.path.lexists(path) or not path.startswith("~") else os.path.expanduser(path)
