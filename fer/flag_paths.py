"""Resolution and checks of the paths in the flags of every program, before anything is read.

Three flags hold paths besides other values: `--config` (the fields `model.weights` and `train.teacher_runs`),
`--label_map` (items that are files) and `--storage`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

from absl import flags

from fer import escaping
from fer.config import Experiment
from fer.errors import StorageError, UserError
from fer.io import files, local_write
from fer.storage import SCHEMES, is_remote

PATHS = {  # flags that name one or several comma-separated paths
    "input",
    "boxes",
    "output",
    "annotate",
    "ferplus",
    "verify",
    "data",
    "init_from",
    "workdir",
    "delta",
    "base",
    "preview",
    "evals",
    "update_doc",
    "extra_runs",
    "torch_python",
    "cache_dir",
}
OUTPUTS = ("output", "preview", "update_doc")  # flags that name a file to write
JOURNAL = "journal:"  # prefix of a --storage that names a file of Optuna's journal

MAX_PATH_BYTES = 4095  # the limit of Linux

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://?")
_URL = re.compile(r"https?://?", re.IGNORECASE)
_SQLITE = re.compile(r"(sqlite(?:\+\w+)?:///?)([^?]*)(.*)", re.DOTALL)


def resolve(values: flags.FlagValues) -> None:
    """Checks the paths in the flags that were set, and replaces a leading "~" by the home folder.

    Args:
      values: the parsed flags; those in `PATHS`, config, label_map and storage are changed.

    Raises:
      UserError: a path is empty, is not UTF-8, holds a NUL byte, or has an unsupported scheme; or --storage is
        invalid. The message names the flag.
    """
    for name in sorted(PATHS & set(values)):
        flag = values[name]
        if not flag.present or isinstance(flag.value, bool) or flag.value is None:
            continue
        if isinstance(flag, flags.MultiFlag):
            flag.value = list(map(_resolve_argument, flag.value))
        elif isinstance(flag.value, str):
            flag.value = _resolve_paths(name, flag.value, flag.default)
        elif isinstance(flag.value, list):
            flag.value = [_resolve_paths(name, path, None) for path in split(",".join(flag.value)) or flag.value]
    changes: dict[str, Callable[[Any], object]] = {
        "config": _resolve_config,
        "label_map": _resolve_label_map,
        "storage": _resolve_storage,
    }
    for name, change in changes.items():
        if name in values and values[name].present and values[name].value:
            values[name].value = change(values[name].value)


def split(text: str) -> list[str]:
    """Splits a text into comma-separated paths. A path that exists may contain commas."""
    parts = text.split(",")
    paths = [part.strip() for part in parts if part.strip()]
    if all(map(_exists, paths)):
        return paths
    paths = []
    while parts:
        counts = range(len(parts), 1, -1)
        count = next((count for count in counts if _exists(",".join(parts[:count]).strip())), 1)
        paths.append(",".join(parts[:count]).strip())
        parts = parts[count:]
    return [path for path in paths if path]


def is_output_printed(values: flags.FlagValues) -> bool:
    """Returns whether the output file is standard output, which must then hold nothing else."""
    paths = [values[name].value for name in OUTPUTS if name in values]
    return any(isinstance(path, str) and local_write.is_standard_output(path) for path in paths)


def resolve_fields(experiment: Experiment) -> None:
    """Resolves and checks the paths in the fields of an experiment, in place.

    Raises:
      UserError: as `resolve`; the message names the field.
    """
    model, train = experiment.model, experiment.train
    model.weights = _resolve_paths("config.model.weights", model.weights, "")
    train.teacher_runs = _resolve_paths("config.train.teacher_runs", train.teacher_runs, "")


def _resolve_config(value: object) -> object:
    """Resolves the paths of the experiment; values of other types are left to `fer.config.validate_config`."""
    if (
        isinstance(value, Experiment)
        and isinstance(value.model.weights, str)
        and isinstance(value.train.teacher_runs, str)
    ):
        resolve_fields(value)
    return value


def _resolve_label_map(text: str) -> str:
    """Resolves the files in a label map; pairs NAME=CLASS and class orders stay unchanged."""
    items = [text] if os.path.lexists(text) else text.split(",")
    return ",".join(
        item if "=" in item and not _SCHEME.match(item) else _resolve_paths("label_map", item, "") for item in items
    )


def _resolve_storage(text: str) -> str:
    """Resolves the file of a sweep's study; addresses of databases are left to their driver."""
    sqlite = _SQLITE.fullmatch(text)
    scheme, path, query = sqlite.groups() if sqlite else (text[: len(JOURNAL)], text[len(JOURNAL) :], "")
    if not sqlite and scheme != JOURNAL:
        if re.match(r"[a-z][a-z0-9+_]*://", text):
            return text
        raise UserError(
            f"--storage={escaping.redact(text)} is no storage: it takes {JOURNAL}PATH or the address of a "
            "database, such as sqlite:///sweep.db."
        )
    if sqlite and (not path or path.startswith(":memory:") or "mode=memory" in query):
        raise UserError(
            f"--storage={text} keeps the study in memory, where it is lost when the program ends: name a file."
        )
    if not path.startswith("file:"):
        if "://" in path:
            raise UserError(f"--storage={text}: a study is on a local disk or in a database: name a local path.")
        path = _resolve_paths("storage", path, None)
        try:
            files.check_writable(path)
            if local_write.is_special(path):
                raise StorageError(f"{path} is a pipe or a device: name a file.")
        except StorageError as error:
            raise StorageError(f"--storage={text}: {error}") from error
    return f"{scheme}{path}{query}"


def _resolve_paths(name: str, text: str, default: str | None) -> str:
    """Returns the text of a flag with its paths resolved; it may be empty if its default is."""
    if text == "-" and name in OUTPUTS:
        return "/dev/stdout"
    if not text.strip() and default != "":
        raise UserError(f"--{name} is empty: it must name a path.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        shown = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        raise UserError(
            f"--{name}={shown} is not UTF-8, the only encoding of paths in TensorFlow: rename it."
        ) from error
    if "\0" in text:
        raise UserError(f"--{name} holds a NUL byte, which no path can have: {text.encode('unicode_escape').decode()}.")
    if os.path.lexists(text):
        return text
    parts = text.split(",")
    for path in parts:
        if len(os.fsencode(path)) > MAX_PATH_BYTES:
            raise UserError(
                f"--{name} names a path of more than {MAX_PATH_BYTES:,} bytes, which Linux cannot open: shorten it."
            )
        _check_scheme(name, path.strip())
    return ",".join(map(_expand_home, parts))


def _resolve_argument(path: str) -> str:
    """Returns one path of a flag that `fer.cli.define_inputs` defines, resolved; it may be a pattern."""
    if os.path.lexists(path):
        return path
    if not path.strip():
        raise UserError("An input is empty: it must name a path.")
    if _URL.match(path):
        raise UserError(f"{path} is a URL: download it first and name the file.")
    _check_scheme("input", path)
    return _expand_home(path)


def _check_scheme(name: str, path: str) -> None:
    scheme = _SCHEME.match(path)
    if scheme is None:
        return
    if scheme[1] in SCHEMES and scheme[0].endswith("://"):
        if not re.match(r"\w+://[^/]", path):
            raise UserError(f"--{name}={path} names no bucket; write {scheme[1]}://BUCKET/PATH.")
        return
    known = scheme[1].lower() in SCHEMES
    advice = f"write {scheme[1].lower()}://BUCKET/PATH" if known else "name a local path or s3://BUCKET/PATH"
    raise UserError(f"--{name}={path}: the scheme {scheme[1]}: is not supported; {advice}.")


def _exists(path: str) -> bool:
    return "," not in path if is_remote(path) else os.path.lexists(_expand_home(path))


def _expand_home(path: str) -> str:
    """Expands a leading "~", which shells do not expand after "=" and ","."""
    if os.path.lexists(path) or not path.lstrip().startswith("~"):
        return path
    return os.path.expanduser(path.strip())
