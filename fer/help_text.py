"""Text of `--help` and `--version`: flags and configuration fields, without importing TensorFlow."""

from __future__ import annotations

import io
import platform
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence

from absl import flags

import fer
from fer import config

FORMS = ("help", "helpshort", "helpfull", "helpxml", "version")  # flags that print and exit
COMMON_FLAGS = {
    "--help": "Prints this help.",
    "--helpshort": "Prints this help without the fields of the configuration.",
    "--helpfull": "Prints the flags of libraries too, such as absl's --verbosity.",
    "--version": "Prints the versions of fer, TensorFlow and Python.",
    "--debug": "Shows the traceback of an error.",
    "--cache_dir=DIR": "Directory of local copies of shards in a store; by default ~/.cache/fer.",
}
TENSORFLOW_DISTRIBUTIONS = ("tensorflow", "tensorflow-cpu", "tensorflow-macos", "tensorflow-rocm", "tf-nightly")
MAX_WIDTH = 110  # characters of a line


def requested_form(arguments: Sequence[str]) -> str | None:
    """Returns the first of `FORMS` among the arguments, or None."""
    for argument in arguments[1:]:
        if argument == "--":
            return None
        if argument in ("-h", "-?"):
            return "help"
        found = re.fullmatch(r"--?(\w+)(=true|=1)?", argument)
        if found and found[1] in FORMS:
            return found[1]
    return None


def format_help(form: str, program: str, required: Sequence[str]) -> str:
    """Formats one of `FORMS`.

    Args:
      form: one of `FORMS`.
      program: name of the program.
      required: names of required flags.
    """
    if form == "version":
        return versions()
    if form == "helpxml":
        file = io.StringIO()
        flags.FLAGS.write_help_in_xml_format(file)
        return file.getvalue()
    return "\n".join(_lines(form, program, required))


def versions() -> str:
    """Returns the versions of fer, TensorFlow and Python, without importing them."""
    return f"fer {fer.__version__}, TensorFlow {_tensorflow_version()}, Python {platform.python_version()}"


def _lines(form: str, program: str, required: Sequence[str]) -> Iterator[str]:
    """Yields the lines of help: the program's docstring, its flags, and the parts that `form` adds."""
    width, main = min(MAX_WIDTH, shutil.get_terminal_size().columns), sys.argv[0]  # absl's key of the main module
    by_module = flags.FLAGS.flags_by_module_dict()
    own = sorted(by_module.get(main, []), key=lambda flag: flag.name not in required)
    yield (sys.modules["__main__"].__doc__ or "").strip()
    yield from ("", f"Flags of {program}:")
    for flag in own:
        if not _is_config_field(flag):
            yield from _format_entry(
                f"--{_format_flag(flag)}{_format_default(flag, required)}", _flag_help(flag), width
            )
    yield from ("", "Flags of every program:")
    for name, meaning in COMMON_FLAGS.items():
        yield from _format_entry(name, meaning, width)
    if any(flag.name == "config" for flag in own):
        yield ""
        yield from _format_fields(width) if form != "helpshort" else ["Flags --config.FIELD=VALUE: see --help."]
    for module, others in sorted(by_module.items()) if form == "helpfull" else ():
        if module not in (main, "fer.cli"):
            yield from ("", f"Flags of {module}:")
            for flag in others:
                yield from _format_entry(f"--{_format_flag(flag)}{_format_default(flag, ())}", _flag_help(flag), width)


def _format_fields(width: int) -> Iterator[str]:
    yield "Fields of the configuration, with the values that apply unless the file of --config sets others:"
    for path, (value, meaning) in config.field_help().items():
        yield from _format_entry(f"--config.{path}={value if value != '' else repr(value)}", meaning, width)


def _is_config_field(flag: flags.Flag) -> bool:
    """Returns whether a flag is a configuration field, which ml_collections defines when it has read the file."""
    return flag.name.startswith("config.")


def _format_flag(flag: flags.Flag) -> str:
    """Formats a flag as it is written on the command line."""
    if isinstance(flag, flags.BooleanFlag):
        return f"[no]{flag.name}"
    if isinstance(flag, flags.EnumFlag):
        return f"{flag.name}={'|'.join(flag.parser.enum_values)}"
    kind = {"int": "N", "float": "X", "comma separated list of strings": "A,B"}.get(flag.flag_type(), "TEXT")
    return f"{flag.name}[={kind}]" if flag.boolean else f"{flag.name}={kind}"


def _flag_help(flag: flags.Flag) -> str:
    """Returns the help of a flag, without the list of values that absl prepends for enumerations."""
    return re.sub(r"^<[^>]*>: ", "", flag.help or "")


def _format_default(flag: flags.Flag, required: Sequence[str]) -> str:
    """Returns " (required)", the default in parentheses, or "" if the default is empty."""
    if flag.name in required:
        return " (required)"
    unset = flag.default is None or flag.default is False or flag.default in ("", [], {})
    return "" if unset else f" (default: {str(flag.default_as_str).strip(chr(39))})"


def _format_entry(name: str, meaning: str, width: int) -> Iterator[str]:
    """Yields a flag and, below it, its help, wrapped to `width`."""
    yield f"  {name}"
    yield from textwrap.wrap(meaning, width, initial_indent=" " * 6, subsequent_indent=" " * 6, break_on_hyphens=False)


def _tensorflow_version() -> str:
    from importlib import metadata

    for name in TENSORFLOW_DISTRIBUTIONS:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "(not installed)"
