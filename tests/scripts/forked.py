"""Programs of scripts/ in processes of their own, which need not import TensorFlow again.

One process imports it, computes nothing, and forks for each program: for tests that look at flags, exit codes and
sentences. What importing itself prints is not seen; a test of that starts the program as a user does.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

SERVER = """
import json, os, runpy, sys
import fer.cli, fer.models.listing, fer.train.loop, fer.train.preview
for line in sys.stdin:
    asked = json.loads(line)
    process = os.fork()
    if process == 0:
        for number, path in enumerate((asked["stdout"], asked["stderr"]), start=1):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.argv = [asked["script"], *asked["arguments"]]
        sys.path[0] = os.path.dirname(asked["script"])
        runpy.run_path(asked["script"], run_name="__main__")
        os._exit(70)  # a program exits by itself
    _, status = os.waitpid(process, 0)
    print(json.dumps(os.waitstatus_to_exitcode(status)), flush=True)
"""


class Forked:
    """Runs programs one after another.

    Args:
      root: the checkout, where they run.
      folder: for what they print.
    """

    def __init__(self, root: pathlib.Path, folder: pathlib.Path):
        self._root, self._folder = root, folder
        self._server = subprocess.Popen(
            [sys.executable, "-c", SERVER], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, script: str, *arguments: str) -> subprocess.CompletedProcess:
        """As `subprocess.run` of scripts/`script`, its output captured as text."""
        places = {name: self._folder / name for name in ("stdout", "stderr")}
        asked = {"script": str(self._root / "scripts" / script), "arguments": arguments}
        self._server.stdin.write(json.dumps({**asked, **{name: str(path) for name, path in places.items()}}) + "\n")
        self._server.stdin.flush()
        code = json.loads(self._server.stdout.readline())
        said = {name: path.read_text() for name, path in places.items()}
        return subprocess.CompletedProcess([script, *arguments], code, **said)

    def close(self) -> None:
        self._server.stdin.close()
        self._server.wait(timeout=60)
