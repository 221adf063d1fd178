"""Closed, broken or full output streams do not end a program."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
CODE = """
import os, sys
sys.path.insert(0, {root!r})
from fer import streams
streams.install()
for number in range(3):
    print("line", number, "caf\\udce9 \\u263a", flush={flush})
    print("complaint", file=sys.stderr)
with open("work", "w") as file:
    file.write("done " + str(file.fileno() > 2))
sys.exit(7 if streams.stdout_error() else 0)
"""


def test_stdout_is_closed_when_its_reader_has_exited(tmp_path):
    code = CODE.replace("sys.exit(7 if streams.stdout_error() else 0)", "sys.exit(3 + streams.stdout_is_closed())")
    (tmp_path / "program.py").write_text(code.format(root=str(ROOT), flush=True))
    for redirection, expected in (("", 3), (">/dev/full", 3), ("| true", 4)):
        command = f"{{ sleep 0.2; {sys.executable} -S program.py; }} {redirection}; exit ${{PIPESTATUS[0]}}"
        done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, check=False, timeout=60)
        assert done.returncode == expected, redirection


def run(folder: pathlib.Path, redirection: str, flush: bool = True, **environment: str) -> subprocess.CompletedProcess:
    """Runs the program above in a shell, with a redirection of its streams."""
    (folder / "program.py").write_text(CODE.format(root=str(ROOT), flush=flush))
    return subprocess.run(
        ["bash", "-c", f"{sys.executable} -S program.py {redirection}; exit ${{PIPESTATUS[0]}}"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
        timeout=60,
    )


@pytest.mark.parametrize("flush", [True, False])
@pytest.mark.parametrize(
    ("redirection", "code"),
    [
        ("", 0),
        (">&-", 0),
        ("2>&-", 0),
        ("<&- >&- 2>&-", 0),
        ("| true", 0),
        ("2>&1 | head -1", 0),
        (">/dev/full", 7),
        ("2>/dev/full", 0),
        (">/dev/full 2>/dev/full", 7),
    ],
)
def test_streams_guard_lets_program_finish_with_broken_streams(tmp_path, redirection, code, flush):
    done = run(tmp_path, redirection, flush)
    assert done.returncode == code, done.stderr
    assert (tmp_path / "work").read_text() == "done True"
    assert "Traceback" not in done.stderr + done.stdout
    assert "Exception ignored" not in done.stderr + done.stdout


@pytest.mark.parametrize("encoding", ["ascii", "utf-8", "latin-1"])
def test_streams_escape_text_that_cannot_be_encoded(tmp_path, encoding):
    done = run(tmp_path, "", PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("line 0 caf\\udce9 ")
    assert ("\u263a" if encoding == "utf-8" else "\\u263a") in done.stdout
