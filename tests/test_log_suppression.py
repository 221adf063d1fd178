"""What is written below Python vanishes; errors do not."""

import os
import shlex
import subprocess
import sys

import pytest

from fer import log_suppression


def test_nothing_that_is_written_below_python_reaches_standard_error(capfd):
    os.write(2, b"before\n")
    with log_suppression.suppress_stderr():
        os.write(2, b"within\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "before\nafter\n"


def test_a_standard_error_that_is_closed_stays_so():
    program = (
        "from fer import log_suppression\n"
        "with log_suppression.suppress_stderr():\n    print('within')\nprint('after')\n"
    )
    command = f"exec {shlex.quote(sys.executable)} -c {shlex.quote(program)} 2>&-"
    done = subprocess.run(["sh", "-c", command], stdout=subprocess.PIPE, text=True)
    assert (done.returncode, done.stdout) == (0, "within\nafter\n")


def test_an_exception_passes_and_standard_error_is_back(capfd):
    with pytest.raises(ValueError, match="as it is"), log_suppression.suppress_stderr():
        raise ValueError("as it is")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_hidden_packages_cannot_be_imported_meanwhile_unless_they_are_loaded(monkeypatch):
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with log_suppression._hidden(("colorsys", "json")):
        import json  # noqa: F401 - is loaded

        with pytest.raises(ImportError):
            import colorsys
    import colorsys

    assert colorsys.rgb_to_hsv(0, 0, 0) == (0, 0, 0)
