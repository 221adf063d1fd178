"""Programs, run in processes in which nothing was loaded before that takes long, and what each of them has loaded.

A process of its own forks for each run. It has imported no more than the flags, which every program imports first, so
that a run costs some hundredths of a second.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[2]
HEAVY = {
    "PIL", "cv2", "flask", "jax", "keras", "keras_cv", "matplotlib", "numpy", "optuna", "pandas", "scipy", "sklearn",
    "tensorflow", "tensorflow_addons", "tensorflow_io", "tf_keras",
}  # fmt: skip


class Run(NamedTuple):
    """How a program ended."""

    returncode: int
    stdout: str
    stderr: str
    heavy: list[str]  # of HEAVY, that it had loaded then
    flags: list[str]  # its own


def run_all(folder: pathlib.Path, commands: Sequence[Sequence[str]]) -> list[Run]:
    """Runs programs one after the other in a folder: each command is a name in scripts/ and arguments."""
    server = [sys.executable, __file__, json.dumps(commands)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(server, cwd=folder, env=environment, capture_output=True, text=True, check=True, timeout=300)
    return [Run(*each) for each in json.loads(done.stdout)]


def _serve(commands: list[list[str]]) -> None:
    import fer.cli  # noqa: F401 - for every run

    print(json.dumps([_forked(command) for command in commands]))


def _forked(command: list[str]) -> tuple:
    with tempfile.TemporaryDirectory() as folder:
        paths = [os.path.join(folder, name) for name in ("stdout", "stderr", "loaded")]
        child = os.fork()
        if child == 0:
            os._exit(_run(command, *paths))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        stdout, stderr, loaded = (pathlib.Path(path).read_text() for path in paths)
    return (code, stdout, stderr, *json.loads(loaded))


def _run(command: list[str], stdout: str, stderr: str, loaded: str) -> int:
    import runpy

    from absl import flags

    for number, path in ((1, stdout), (2, stderr)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    sys.argv = [str(ROOT / "scripts" / command[0]), *command[1:]]
    code = 0
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
        code = 70
    own = [flag.name for flag in flags.FLAGS.flags_by_module_dict()[sys.argv[0]]]
    with open(loaded, "w") as file:
        json.dump([sorted(HEAVY & set(sys.modules)), own], file)
    sys.stdout.flush()
    sys.stderr.flush()
    return code


if __name__ == "__main__":
    sys.path.remove(str(pathlib.Path(__file__).parent))  # or its modules would be found by their bare names
    _serve(json.loads(sys.argv[1]))
