"""What is written below Python vanishes; errors do not."""

import os
import shlex
import subprocess
import sys

import pytest

from fer import quiet


def test_nothing_that_is_written_below_python_reaches_standard_error(capfd):
    os.write(2, b"before\n")
    with quiet.standard_error():
        os.write(2, b"within\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "before\nafter\n"


def test_a_standard_error_that_is_closed_stays_so():
    program = "from fer import quiet\nwith quiet.standard_error():\n    print('within')\nprint('after')\n"
    command = f"exec {shlex.quote(sys.executable)} -c {shlex.quote(program)} 2>&-"
    done = subprocess.run(["sh", "-c", command], stdout=subprocess.PIPE, text=True)
    assert (done.returncode, done.stdout) == (0, "within\nafter\n")


def test_an_exception_passes_and_standard_error_is_back(capfd):
    with pytest.raises(ValueError, match="as it is"), quiet.standard_error():
        raise ValueError("as it is")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"
