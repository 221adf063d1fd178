"""What is written below Python vanishes; errors do not."""

import os

import pytest

from fer import quiet


def test_nothing_that_is_written_below_python_reaches_standard_error(capfd):
    os.write(2, b"before\n")
    with quiet.standard_error():
        os.write(2, b"within\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "before\nafter\n"


def test_an_exception_passes_and_standard_error_is_back(capfd):
    with pytest.raises(ValueError, match="as it is"), quiet.standard_error():
        raise ValueError("as it is")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"
