"""Runs scripts in fresh processes and returns the large packages that each of them imported.

A server process forks for each run. It has imported `fer.cli`, which every script imports first, and light modules that
many scripts import, so that a run takes some hundredths of a second.
"""

from __future__ import annotations

import importlib
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
    "tensorflow", "tensorflow_addons", "tf_keras",
}  # fmt: skip
LIGHT = (
    "fer.cli",
    "fer.augment.registry",
    "fer.convert.options",
    "fer.data.manifest",
    "fer.models.loading",
    "fer.models.model_table",
    "fer.predict.video_request",
    "fer.sweep.search_space",
    "fer.train.distributed.cluster_resolver",
    "fer.train.mlflow_logging",
)


class Run(NamedTuple):
    """Result of a script."""

    returncode: int
    stdout: str
    stderr: str
    heavy: list[str]  # packages of HEAVY that it imported
    flags: list[str]  # flags that the script defines


def run_all(folder: pathlib.Path, commands: Sequence[Sequence[str]]) -> list[Run]:
    """Runs scripts one after the other in a folder. A command is the name of a file in scripts/ and its arguments."""
    server = [sys.executable, __file__, json.dumps(commands)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(server, cwd=folder, env=environment, capture_output=True, text=True, check=True, timeout=300)
    return [Run(*each) for each in json.loads(done.stdout)]


def _serve(commands: list[list[str]]) -> None:
    for name in LIGHT:
        importlib.import_module(name)
    loaded = HEAVY & set(sys.modules)
    assert not loaded, loaded  # every run would have imported them
    print(json.dumps([_fork(command) for command in commands]))


def _fork(command: list[str]) -> tuple:
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
    sys.path.remove(str(pathlib.Path(__file__).parent))  # otherwise its modules could be imported without their package
    _serve(json.loads(sys.argv[1]))
